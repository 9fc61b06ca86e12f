"""Real clips: descriptions on trained models, and what is published when."""

import dataclasses
import types

import numpy as np
import pytest

from experiments import (
  described_methods,
  documents,
  grid,
  real_clips,
  real_clips_cells,
  real_clips_described,
  real_clips_tables,
)
from tests import tiny
from tests.pretrained import tiny_weights
from zsar_jax.evaluation import methods
from zsar_jax.zeroshot import scoring

CONFIG = f'{tiny.ROOT / "configs/demo.py"}:smoke'
WEIGHTS = (0.0, *described_methods.WEIGHTS)


def write_bert(path, seed):
  """A BERT that spells any name."""
  letters = 'abcdefghijklmnopqrstuvwxyz'
  pieces = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]']
  pieces += [*letters, *(f'##{letter}' for letter in letters)]
  config = {**tiny_weights.BERT_CONFIG, 'vocab_size': len(pieces)}
  config['max_position_embeddings'] = 64
  tensors = tiny_weights.bert_tensors(config)
  rng = np.random.default_rng(seed)
  tensors = {
    name: (x + rng.normal(0, 0.1, x.shape)).astype(np.float32)
    for name, x in tensors.items()
  }
  tiny_weights.write(path, config, tensors)
  (path / 'vocab.txt').write_text('\n'.join(pieces) + '\n')
  return str(path)


@dataclasses.dataclass(frozen=True)
class Experiment(real_clips_cells.Experiment):
  """Two splits of one dataset, with few cells."""

  def _cell(self, name, split, changes, text=True):
    return grid.Cell(
      name,
      CONFIG,
      {
        **tiny.OVERRIDES,
        'init.text': self.text,
        'optim.frozen': ('^text_encoder/', '^text_projection/'),
        'model.embedding_dim': tiny_weights.BERT_CONFIG['hidden_size'],
        'preprocessing.token_length': 48,
        **changes,
      },
    )

  def main(self, split, seed, text=True):
    return self._cell(f'{"main" if text else "random"}{seed % 2}', 0, {})

  def inner(self, split, draw):
    changes = {'data.inner_draw': draw % 2}
    return self._cell(f'inner{draw % 2}', 0, changes)

  def ablation(self, ablation, split):
    return self._cell('ablation', 0, {})


@pytest.fixture(scope='module')
def experiment(tmp_path_factory):
  folder = tmp_path_factory.mktemp('real_clips')
  text = write_bert(folder / 'bert', 0)
  made = Experiment('', '', text, str(folder / 'out'), 2)
  cells = [made.main(0, 0), made.inner(0, 0), made.inner(0, 1)]
  assert grid.work(cells, made.out) == []
  return made


@pytest.fixture(scope='module')
def trained(experiment):
  return experiment.read(experiment.main(0, 0))


@pytest.fixture(scope='module')
def descriptions(trained):
  evaluation = trained.evaluation
  names = (*evaluation.seen.classes.names, *evaluation.unseen.names)
  return {name: [f'{name[::-1]} a', 'b'] for name in names}


@pytest.fixture(scope='module')
def texts(experiment, descriptions):
  return real_clips_described.embed(
    experiment.text, list(descriptions), descriptions, ('{}',)
  )


def test_without_descriptions_scores_are_those_of_the_run(trained, texts):
  settings = methods.TransferSettings(temperature=0.2)
  evaluation = trained.evaluation
  own = methods.method_scores(
    evaluation.seen,
    evaluation.unseen,
    scoring.view_means(evaluation.videos.embeddings),
    None,
    settings,
  )
  made = described_methods.described(trained, texts)
  plain = described_methods.Settings(0.0, settings)
  for method in described_methods.METHODS[:-1]:
    found = described_methods.score(method, made, {method: plain})
    np.testing.assert_allclose(found, own[method], atol=1e-4)


def test_every_weight_changes_the_class_embeddings(trained, texts):
  made = described_methods.described(trained, texts)
  assert [*made] == [*WEIGHTS]
  plain = made[0.0].unseen.text
  alike = [(plain * made[w].unseen.text).sum(axis=1).mean() for w in WEIGHTS]
  assert (np.diff(alike) < 0).all()
  np.testing.assert_allclose(
    np.linalg.norm(made[0.65].seen.classes.text, axis=1), 1, atol=1e-5
  )


def test_a_trained_text_side_is_refused(trained, texts, tmp_path, descriptions):
  evaluation = trained.evaluation
  moved = np.roll(evaluation.unseen.text, 1, axis=1)
  changed = dataclasses.replace(
    trained,
    evaluation=dataclasses.replace(
      evaluation, unseen=dataclasses.replace(evaluation.unseen, text=moved)
    ),
  )
  with pytest.raises(ValueError, match='this encoder, frozen'):
    described_methods.described(changed, texts)
  other = real_clips_described.embed(
    write_bert(tmp_path / 'bert', 1), list(descriptions), {}, ('{}',)
  )
  with pytest.raises(ValueError, match='this encoder, frozen'):
    described_methods.described(trained, other)


def test_scores_together_do_not_depend_on_their_scales():
  rng = np.random.default_rng(0)
  a, b = rng.normal(size=(2, 7, 5))
  whole = described_methods.together([a, b], (1, 2))
  np.testing.assert_allclose(
    described_methods.together([3 * a + 1, 0.1 * b - 2], (1, 2)), whole
  )
  alone = described_methods.together([a, b], (0, 1))
  assert (alone.argsort(axis=1) == b.argsort(axis=1)).all()


def test_inner_draws_choose_the_better_texts(experiment, texts):
  """Class embeddings that are the true prototypes must win."""
  draw = experiment.read(experiment.inner(0, 0))
  draws = [draw, draw]
  evaluation, true = draw.evaluation, {}
  turned = described_methods.rotation(draw.facts['config'])
  z = scoring.view_means(evaluation.videos.embeddings)
  for i, name in enumerate(evaluation.unseen.names):
    own = evaluation.videos.labels == i
    true[name] = z[own].mean(axis=0) @ turned.T
  best = {**texts[0.65], **true}
  swapped = dict(zip(best, np.roll([*best.values()], 1, axis=0), strict=True))
  fixed = {w: swapped for w in WEIGHTS} | {0.0: texts[0.0], 0.65: best}
  choice = real_clips_described.choose(draws, fixed)
  name = described_methods.NAME
  assert choice.settings[name].weight == 0.65
  compared = {s.weight: np.mean(a) for s, a in choice.compared[name]}
  assert compared[0.65] == max(compared.values()) > compared[0.5]
  for method in described_methods.METHODS:
    assert len(choice.compared[method]) <= 8
  plain = real_clips_described.choose(draws, fixed, described=False)
  weights = {s.weight for of in plain.compared.values() for s, _ in of}
  assert weights == {0.0}


def test_a_class_without_description_is_named():
  with pytest.raises(ValueError, match='describes no juggling lobsters'):
    real_clips_described.read_descriptions(
      'shipped', ['hugging', 'juggling lobsters']
    )


def test_only_finished_tables_are_published(
  experiment, descriptions, tmp_path, monkeypatch
):
  half = dataclasses.replace(experiment, num_splits=2)
  finished, unfinished = real_clips_tables.report(half)
  assert finished.keys() == {'choices'}
  assert {'text', 'random text', 'ablations', 'progress'} <= unfinished.keys()
  whole, parts = real_clips_described.report(half, descriptions)
  assert not whole and 'described' in parts
  page = tmp_path / 'page.md'
  published = '<!-- table: ablations -->\nas before\n<!-- end -->\n'
  page.write_text(published)
  documents.publish(unfinished, '')
  documents.publish(finished, str(page))
  assert page.read_text() == published
  # With one seed all models of names are there.
  monkeypatch.setattr(real_clips_cells, 'NUM_SEEDS', 1)
  finished, unfinished = real_clips_tables.report(half)
  assert {'text', 'text, paired', 'text, development'} <= finished.keys()
  assert {'random text', 'ablations'} <= unfinished.keys()
  tables, parts = real_clips_described.report(half, descriptions)
  assert not parts
  assert tables.keys() == {
    f'described{of}{split}'
    for of in ('', ', paired', ', choices', ', where')
    for split in ('', ', development')
  }
  # Names alone are the same in both pages' tables.
  value = lambda lines, row: next(
    line[len(row) :].split()[0] for line in lines if line.startswith(row)
  )
  for words, method in (
    ('names, as above', 'transfer '),
    ('names alone', 'nearest_name'),
    ('names, as above', 'ridge_to_text'),
  ):
    assert value(tables['described'], f'{words}: {method}') == value(
      finished['text'], method
    )
  assert any('goal per_class' in line for line in tables['described'])


def test_a_commit_is_named_beside_the_machine(monkeypatch):
  said = types.SimpleNamespace(stdout='')
  monkeypatch.setattr(documents.subprocess, 'run', lambda *a, **k: said)
  assert documents.machine_and_commit() == documents.machine()
  said.stdout = 'abc1234\n'
  assert documents.machine_and_commit().endswith(', commit abc1234+')


def test_without_runs_a_page_stays_as_it_is(tmp_path, capsys):
  page = tmp_path / 'page.md'
  published = ''.join(
    f'<!-- table: {name} -->\nas before\n<!-- end -->\n'
    for name in ('text', 'choices', 'described', 'ablations')
  )
  page.write_text(published)
  arguments = [
    'real_clips',
    '--dataset_dir=none',
    f'--class_split={tiny.ROOT / "experiments/real_clips_splits.json"}',
    '--text=none',
    f'--out={tmp_path / "out"}',
    '--descriptions=shipped',
    '--tables_only',
    f'--docs={page}',
  ]
  real_clips.main(arguments)
  assert page.read_text() == published
  assert 'tier 1: 0 of 30 cells are finished' in capsys.readouterr().out
  real_clips.main([*arguments, '--unfinished=described'])
  assert 'described -->\n```\nnot finished\n' in page.read_text()
  assert page.read_text().count('as before') == 3
