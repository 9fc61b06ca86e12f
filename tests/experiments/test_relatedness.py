"""Tests draws on a classifier's columns."""

import json
import re

from absl import flags
import numpy as np
import pytest

from experiments import (
  class_texts,
  column_draws,
  described,
  dropped_classes,
  relatedness,
  relatedness_tables,
)
from tests.inference import test_public_encoders
from tests.pretrained import tiny_weights
from zsar_jax.data.protocols import known_classes
from zsar_jax.evaluation import methods
from zsar_jax.inference import prototype_bank

RNG = np.random.default_rng(0)
# Perfect names: the text embeddings are a rotation of the columns.
COLUMNS = RNG.normal(size=(60, 8)).astype(np.float32)
TEXT = COLUMNS @ np.linalg.qr(RNG.normal(size=(8, 8)))[0].astype(np.float32)
TEXT /= np.linalg.norm(TEXT, axis=1, keepdims=True)
NAMES = tuple(f'word{i % 32} row{i // 32}' for i in range(60))


def test_a_draw_takes_the_mean_seen_column_off():
  draw = column_draws.make_draw(COLUMNS, [5, 2])
  assert draw.unseen.tolist() == [2, 5] and len(draw.seen) == 58
  mean = np.delete(COLUMNS, [2, 5], axis=0).mean(axis=0)
  away = COLUMNS[[2, 5]] - mean
  away /= np.linalg.norm(away, axis=1, keepdims=True)
  np.testing.assert_allclose(draw.unseen_prototypes, away, atol=1e-6)
  norms = np.linalg.norm(draw.seen_prototypes, axis=1)
  np.testing.assert_allclose(norms, 1, rtol=1e-5)


def test_random_draws_are_those_of_their_seeds():
  draws = column_draws.random_draws(COLUMNS, 10, 3, 7, seen=20)
  again = column_draws.random_draws(COLUMNS, 10, 2, 8, seen=20)
  for draw, same in zip(draws[1:], again, strict=True):
    np.testing.assert_array_equal(draw.unseen, same.unseen)
  assert all(len(d.seen) == 20 and len(d.unseen) == 10 for d in draws)
  assert not any(set(d.seen) & set(d.unseen) for d in draws)
  assert draws[0].unseen.tolist() != draws[1].unseen.tolist()
  with pytest.raises(ValueError, match='cannot be drawn of 60'):
    column_draws.random_draws(COLUMNS, 59, 1, 0)


def test_registered_splits_within_the_classes_are_found():
  columns = RNG.normal(size=(600, 4))
  labels = known_classes.read('kinetics600')
  found = column_draws.registered_draws(labels, columns)
  splits = found['kinetics600/er-split1-3']
  assert [len(draw.unseen) for draw in splits] == [160] * 3
  assert column_draws.registered_draws(labels[:300], columns[:300]) == {}


def test_ranks_and_answers_by_hand():
  draw = column_draws.make_draw(COLUMNS, [0, 1, 2])
  scores = np.array([[3.0, 2, 1], [5, 4, 3], [1, 1, 1]])
  outcome = column_draws.Outcome([draw], TEXT, lambda *_: scores)
  # Equal scores count against the method.
  assert outcome.ranks[0].tolist() == [0, 1, 2]
  assert outcome.answers[0].tolist() == [0, 0, 0]
  np.testing.assert_allclose(outcome.top(2), [200 / 3])
  assert outcome.found.sum() == 1 and outcome.drawn[:4].tolist() == [1, 1, 1, 0]


def test_names_that_say_everything_find_most_and_shuffled_ones_nothing():
  draws = column_draws.random_draws(COLUMNS, 10, 5, 0)
  scorer = column_draws.transfer(methods.TransferSettings(weighting='kernel'))
  good = column_draws.Outcome(draws, TEXT, scorer).top(1).mean()
  shuffled = TEXT[np.random.default_rng(1).permutation(60)]
  bad = column_draws.Outcome(draws, shuffled, scorer).top(1).mean()
  assert good > 80 and bad < 40
  assert column_draws.spearman(draws, TEXT, True) > 0.8
  conse = column_draws.conse(10, 5, True)
  assert column_draws.Outcome(draws, TEXT, conse).top(1).mean() > 50


def test_intervals_over_classes_hold_the_mean_and_widen_with_the_spread():
  drawn = np.full(60, 4.0)
  low, high = column_draws.class_interval(drawn / 2, drawn)
  assert low == high == 50
  mixed = np.where(np.arange(60) % 2, drawn, 0)
  low, high = column_draws.class_interval(mixed, drawn)
  assert 35 < low < 45 and 55 < high < 65


def test_the_best_of_the_development_draws_is_chosen():
  draws = [column_draws.random_draws(COLUMNS, 10, 2, 1000)]
  good = column_draws.transfer(methods.TransferSettings(weighting='kernel'))
  options = {'wrong': lambda d, t: -good(d, t), 'right': good}
  assert column_draws.choose(draws, TEXT, options) == 'right'


def test_controls_know_the_spelling_alone():
  names = ['playing cards', 'playing chess', 'rowing', 'a jump']
  words = class_texts.control('words', names)
  alike = words @ words.T
  assert alike[0, 1] > 0 and alike[0, 2] == 0
  letters = class_texts.control('letters', names)
  assert (letters @ letters.T)[1, 2] > 0  # both have 'ing '
  np.testing.assert_allclose(np.linalg.norm(letters, axis=1), 1, rtol=1e-5)


def test_the_command_prints_its_tables(tmp_path, capsys, monkeypatch):
  labels = {str(i): name for i, name in enumerate(NAMES)}
  columns = RNG.normal(size=(60, 32)).astype(np.float32)
  video = test_public_encoders.write_classifier(
    tmp_path / 'video', columns, labels
  )
  text = tiny_weights.write_bert(tmp_path / 'minilm')
  sentences = tmp_path / 'described.json'
  sentences.write_text(json.dumps({NAMES[0]: ['an arm moves.']}))
  docs = tmp_path / 'page.md'
  docs.write_text('<!-- table: methods -->\n<!-- end -->\n')
  monkeypatch.setattr(relatedness_tables, '_FEW_DRAWS', 2)
  monkeypatch.setattr(
    relatedness_tables,
    'candidates',
    lambda: {
      name: dict([*options.items()][:2]) for name, options in whole().items()
    },
  )
  relatedness.main(
    [
      'relatedness',
      f'--video={video}',
      f'--text={text}',
      '--text=words',
      f'--descriptions={sentences}',
      '--draws=2',
      '--unseen=6',
      f'--docs={docs}',
    ]
  )
  said = capsys.readouterr().out
  assert re.search(r'columns/6-unseen-of-60-seed0-1 [0-9a-f]{12}', said)
  for part in ('ConSE', 'minilm', 'described', 'words', '14 seen, 8 unseen'):
    assert part in said
  assert 'registered splits within its classes: none' in said
  assert 'kernel, as the product' in docs.read_text()


whole = relatedness_tables.candidates


def make_bank():
  prototypes = COLUMNS / np.linalg.norm(COLUMNS, axis=1, keepdims=True)
  return prototype_bank.PrototypeBank(
    seen_classes=NAMES,
    seen_prototypes=prototypes,
    class_embeddings=TEXT,
    counts=np.ones(60, int),
    domain='',
    protocol='',
    preprocessing='{}',
    step=0,
    settings={'weighting': 'kernel'},
  )


def test_what_is_dropped_is_made_of_the_others():
  bank = make_bank()
  dropped = np.arange(60) < 3
  found = dropped_classes.prototypes_without(bank, dropped)
  np.testing.assert_array_equal(found[3:], bank.seen_prototypes[3:])
  near = (found[:3] * bank.seen_prototypes[:3]).sum(axis=1)
  near /= np.linalg.norm(found[:3], axis=1)
  assert (near > 0.5).all() and (near < 0.9999).all()


def test_ranks_of_a_dropped_class():
  bank = make_bank()
  found = dropped_classes.ranks(bank, bank.seen_prototypes[4], 4)
  assert found['10 seen'] == found['10 new'] == 1
  assert found['first of 10'] > 90 and found['400'] < 5
  worst = dropped_classes.ranks(bank, -bank.seen_prototypes[4], 4)
  assert worst['10 seen'] > 5 and worst['first of 10'] == 0


def test_clips_are_read_by_patterns(tmp_path):
  (tmp_path / 'a').mkdir()
  for name in ('a/1.mp4', 'a/2.mp4', 'b.mp4'):
    (tmp_path / name).touch()
  table = tmp_path / 'clips.csv'
  table.write_text('path,label\nb.mp4,ArmWrestling\na/*.mp4,hugging\n')
  found = dropped_classes.read_clips(str(table), str(tmp_path))
  assert found == [
    ('b.mp4', 'arm wrestling'),
    ('a/1.mp4', 'hugging'),
    ('a/2.mp4', 'hugging'),
  ]
  table.write_text('path,label\nc.mp4,hugging\n')
  with pytest.raises(ValueError, match='has no c.mp4'):
    dropped_classes.read_clips(str(table), str(tmp_path))
  table.write_text('file,label\nb.mp4,hugging\n')
  with pytest.raises(ValueError, match='needs the columns path,label'):
    dropped_classes.read_clips(str(table), str(tmp_path))


def test_descriptions_that_say_more_than_names_find_more(tmp_path, capsys):
  labels = {str(i): name for i, name in enumerate(NAMES)}
  columns = RNG.normal(size=(60, 32)).astype(np.float32)
  video = test_public_encoders.write_classifier(
    tmp_path / 'video', columns, labels
  )
  text = tiny_weights.write_bert(tmp_path / 'minilm')
  sentences = tmp_path / 'described.json'
  sentences.write_text(
    json.dumps({name: ['an arm row.'] for name in NAMES[1:]})
  )
  docs = tmp_path / 'page.md'
  docs.write_text('<!-- table: descriptions, minilm -->\n<!-- end -->\n')
  described.main(
    [
      'described',
      f'--video={video}',
      f'--text={text}',
      '--text=letters',
      f'--descriptions={sentences}',
      '--draws=2',
      '--unseen=6',
      f'--docs={docs}',
    ]
  )
  told = capsys.readouterr()
  assert 'describes 59 of 60 classes, but not word0 row0' in told.err
  for part in ('every text alike', 'weight 0.65', 'letters', '14 seen, 8 un'):
    assert part in told.out
  assert 'seen and every second unseen class' in docs.read_text()


def test_the_weight_is_chosen_on_development_draws_alone():
  draws = described.make_draws(COLUMNS, [10], 4)
  shuffled = TEXT[np.random.default_rng(1).permutation(60)]
  one = described.Described(
    draws, 'rotated', shuffled, {0.5: shuffled, 0.8: TEXT, 'true': TEXT}
  )
  assert one.weight == 0.8
  rows = {row[0]: row for row in one.rows()}
  assert rows['names alone'][3] == '+0.0'
  gain = float(rows['weight 0.8'][3])
  assert gain > 30 and rows['true'][2:] == rows['weight 0.8'][2:]
  # Half of the unseen classes described find less than all of them.
  half = rows['weight 0.8, seen and every second unseen class']
  assert float(half[3]) < gain
  assert len(one.few_rows()) == 4
  assert '+' in one.by_class(NAMES)[-1]


@pytest.mark.parametrize(
  ('flag', 'said'),
  [
    ('--unseen=', 'expected numbers of classes'),
    ('--unseen=40,x', 'expected numbers of classes'),
    ('--unseen=-3', 'expected numbers of classes'),
    ('--docs=/no/page.md', 'expected a document with'),
  ],
)
def test_wrong_flags_are_refused_before_any_work(flag, said):
  with pytest.raises(flags.IllegalFlagValueError, match=said):
    relatedness.main(['relatedness', '--text=letters', '--video=no', flag])


def test_a_document_without_room_for_tables_is_refused(tmp_path):
  page = tmp_path / 'page.md'
  page.write_text('no table')
  with pytest.raises(flags.IllegalFlagValueError, match='table: NAME'):
    relatedness.main(['relatedness', '--text=letters', f'--docs={page}'])
