"""Real clips by public features: methods, choices and tables."""

import dataclasses
import json
import types

import numpy as np
import pytest

from experiments import (
  pretrained_arrays,
  pretrained_clips,
  pretrained_methods,
  pretrained_tables,
)
from tests.pretrained import tiny_weights
from zsar_jax.pretrained import i3d
from zsar_jax.zeroshot import baselines

# I3D knows the first of them.
CLASSES = ('hugging', *(f'one {i}' for i in range(1, 6))) + tuple(
  f'two {i}' for i in range(6)
)
DIM = 16


def unit(x):
  return x / np.linalg.norm(x, axis=-1, keepdims=True)


def make_clips(noise=0.3):
  """Clips around a mean of their class, which lies near that of its source."""
  rng = np.random.default_rng(0)
  means = rng.normal(size=(12, DIM)) + 3
  labels = np.repeat(np.arange(12), 6)
  return pretrained_arrays.Clips(
    CLASSES,
    ('one',) * 6 + ('two',) * 6,
    labels,
    tuple(f'session {i % 3}' for i in range(len(labels))),
    (means[labels] + noise * rng.normal(size=(72, DIM))).astype(np.float32),
    rng.normal(size=(72, 2)),
  )


def make_text(clips, seed=0):
  """Names that say how classes look, of clips and of columns."""
  rng = np.random.default_rng(seed)
  turn = np.linalg.qr(rng.normal(size=(DIM, DIM)))[0]
  means = np.stack(
    [clips.features[clips.labels == c].mean(0) for c in range(12)]
  )
  away = means - means.mean(axis=0)
  raw = rng.normal(size=(20, DIM))
  columns = pretrained_methods.Columns(
    ('hugging', *(f'other {i}' for i in range(19))),
    unit(raw @ turn),
    unit(raw - raw.mean(axis=0)).astype(np.float32),
    raw,
    np.zeros(20),
  )
  return pretrained_clips.Text('names', unit(away @ turn), columns)


def split(name, unseen):
  return types.SimpleNamespace(
    name=f'set:file/{name}',
    hash='abc',
    seen_classes=tuple(c for c in CLASSES if c not in unseen),
    unseen_classes=tuple(unseen),
  )


def draws_of(whole):
  """Two draws of four seen classes."""
  draws = []
  for first in (0, 1):
    unseen = whole.seen_classes[first::2]
    draws.append(
      types.SimpleNamespace(
        seen_classes=tuple(c for c in whole.seen_classes if c not in unseen),
        unseen_classes=unseen,
      )
    )
  return draws


@pytest.fixture(scope='module')
def clips():
  return make_clips()


@pytest.fixture(scope='module')
def measured(clips):
  text = make_text(clips)
  wholes = [
    split('0', ('one 1', 'one 2', 'two 0', 'two 1')),
    split('1', ('hugging', 'one 3', 'two 2', 'two 3')),
  ]
  return [
    pretrained_clips.measure(clips, text, whole, draws_of(whole))
    for whole in wholes
  ]


def the_task(clips, **changes):
  whole = split('0', ('one 1', 'one 2', 'two 0', 'two 1'))
  task, rows = pretrained_clips.make_task(
    clips, make_text(clips), whole.seen_classes, whole.unseen_classes
  )
  return dataclasses.replace(task, **changes), rows, whole


def test_a_task_never_holds_clips_of_its_candidates_as_seen(clips):
  task, rows, whole = the_task(clips)
  assert len(task.features) == 24 and len(task.seen_features) == 48
  names = {clips.classes[c] for c in clips.labels[rows]}
  assert names == set(whole.unseen_classes)
  np.testing.assert_array_equal(task.features, clips.features[rows])


def test_names_that_say_how_classes_look_beat_chance(clips, measured):
  for outcome in measured:
    for method in pretrained_methods.METHODS:
      if method == pretrained_methods.CONSE:
        continue
      found = pretrained_clips.accuracy(
        clips,
        outcome.protocol.unseen_classes,
        outcome.rows,
        outcome.scores[method],
      )
      assert found > 0.6, method


def test_settings_are_chosen_without_the_unseen_clips(clips):
  whole = split('0', ('one 1', 'one 2', 'two 0', 'two 1'))
  lost = np.isin([clips.classes[c] for c in clips.labels], whole.unseen_classes)
  blind = dataclasses.replace(
    clips, features=np.where(lost[:, None], np.nan, clips.features)
  )
  text = make_text(clips)
  chosen = pretrained_clips.choose(clips, text, draws_of(whole))
  assert pretrained_clips.choose(blind, text, draws_of(whole)) == chosen


def test_columns_of_pseudo_unseen_classes_are_left_out():
  columns = make_text(make_clips()).columns
  fewer = columns.without(['hugging', 'not there'])
  assert fewer.names == columns.names[1:]
  np.testing.assert_array_equal(fewer.rows, columns.rows[1:])
  np.testing.assert_array_equal(fewer.bias, columns.bias[1:])


def test_every_grid_has_at_most_eight_settings_the_declared_first():
  for method in pretrained_methods.METHODS:
    grid = pretrained_methods.grid(method)
    assert 2 < len(grid) <= 8
    assert len(set(grid)) == len(grid), method


def test_the_shares_lead_from_one_kind_of_training_point_to_the_other(clips):
  task, _, _ = the_task(clips)
  score = lambda clips, columns, share: pretrained_methods.ridge(
    task,
    pretrained_methods.Settings(columns_share=share),
    clips=clips,
    columns=columns,
  )
  for share, alone in ((1e-9, (True, False)), (1 - 1e-9, (False, True))):
    np.testing.assert_allclose(
      score(True, True, share), score(*alone, 0.5), atol=1e-5
    )
  chosen = {
    m: pretrained_methods.grid(m)[0] for m in pretrained_methods.METHODS
  }
  for share, alone in (
    (0.0, pretrained_methods.SEEN),
    (1.0, pretrained_methods.COLUMNS),
  ):
    both = pretrained_methods.Settings(columns_share=share)
    plain = dataclasses.replace(chosen[alone], centre_video=True)
    # Lengths are those of unit vectors; the columns' hubs are not corrected.
    off = dataclasses.replace(plain.transfer, hub_correction=0.0)
    plain = dataclasses.replace(plain, transfer=off)
    settings = {**chosen, alone: plain, pretrained_methods.BOTH: both}
    np.testing.assert_allclose(
      pretrained_methods.score(pretrained_methods.BOTH, task, settings, {}),
      pretrained_methods.score(alone, task, settings, {}),
      atol=1e-5,
    )


def test_a_regression_of_seen_clips_weighs_classes_the_same(clips):
  task, _, _ = the_task(clips)
  twice = np.concatenate([np.arange(48), np.flatnonzero(task.labels == 0)])
  more = dataclasses.replace(
    task, seen_features=task.seen_features[twice], labels=task.labels[twice]
  )
  of = lambda t: pretrained_methods.ridge(
    t, pretrained_methods.Settings(), clips=True, columns=False
  )
  np.testing.assert_allclose(of(more), of(task), atol=1e-5)


def test_weighted_sums_of_a_regression_are_repeated_videos():
  rng = np.random.default_rng(0)
  z, t = rng.normal(size=(4, 3)), rng.normal(size=(4, 5))
  times = np.array([1, 3, 2, 2])
  rows = np.repeat(z, times, axis=0)
  sums = z * times[:, None]
  whole = baselines.ridge_to_text(rows.T @ rows, sums, times, t, 0.1)
  weights = times / times.sum()
  shares = baselines.ridge_to_text(
    rows.T @ rows / 8, z * weights[:, None], weights, t, 0.1
  )
  np.testing.assert_allclose(shares, whole)


def test_tables_name_the_primary_the_leak_and_the_goal(clips, measured):
  other = [
    dataclasses.replace(o, scores={k: -v for k, v in o.scores.items()})
    for o in measured
  ]
  tables = pretrained_tables.tables_of(
    clips, [measured, other], ['names', 'upside down'], resamples=50
  )
  text = '\n'.join(tables['all'])
  assert 'splits 0 abc, 1 abc; together' in text and 'names by names' in text
  assert 'control_permuted_names' in text and 'floor_source_only' in text
  assert 'goal same_source_per_class 62: ensemble' in text
  (primary,) = {
    line.split('  ')[0]
    for line in tables['paired']
    if '*' in line and 'declared first' not in line
  }
  assert primary == 'ensemble - ridge, both *'
  # The same scores upside down are wrong.
  assert 'ensemble [upside down]' in '\n'.join(tables['texts'])
  assert 'without the clips of hugging' in tables['without leaks'][0]
  chosen = '\n'.join(tables['choices'])
  assert chosen.count('as declared') >= 8


def test_the_command_puts_its_tables_into_the_document(
  clips, tmp_path, monkeypatch, capsys
):
  words = tuple(f'word{i} row' for i in range(12))
  named = dataclasses.replace(clips, classes=words)
  monkeypatch.setattr(pretrained_arrays, 'embed', lambda *args, **kwargs: named)
  rng = np.random.default_rng(0)
  labels = tuple(f'word{i} arm' for i in range(20))
  monkeypatch.setattr(i3d, 'labels', lambda: labels)
  head = {'kernel': rng.normal(size=(DIM, 20)), 'bias': np.zeros(20)}
  monkeypatch.setattr(i3d, 'load', lambda: ({'logits': head}, 'digest'))
  wholes = [split(str(i), words[i : i + 12 : 3]) for i in range(2)]
  wholes = [
    types.SimpleNamespace(
      **{
        **vars(w),
        'seen_classes': tuple(n for n in words if n not in w.unseen_classes),
      }
    )
    for w in wholes
  ]
  monkeypatch.setattr(
    pretrained_clips,
    'make_protocols',
    lambda *_: [(w, draws_of(w)) for w in wholes],
  )
  described = tmp_path / 'described.json'
  described.write_text(json.dumps({words[0]: ['an arm moves.']}))
  docs = tmp_path / 'page.md'
  docs.write_text('<!-- table: all -->\n<!-- end -->\n')
  arguments = [
    'pretrained_clips',
    '--dataset_dir=set',
    '--class_split=file',
    f'--text={tiny_weights.write_bert(tmp_path / "minilm")}',
    f'--descriptions={described}',
    f'--out={tmp_path / "out"}',
    f'--docs={docs}',
  ]
  pretrained_clips.main(arguments)
  first = capsys.readouterr().out
  assert 'described' in first and 'all, development' in first
  assert 'ensemble' in docs.read_text()
  # Names are embedded once, and nothing else depends on chance.
  monkeypatch.setattr(
    pretrained_clips.class_texts.Encoder, 'embed', lambda *_: pytest.fail()
  )
  pretrained_clips.main(arguments)
  assert capsys.readouterr().out == first
