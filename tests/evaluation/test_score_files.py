import csv
import dataclasses
import json
import pathlib
import re

import numpy as np
import pytest
from safetensors import numpy as safetensors_numpy

from zsar_jax.evaluation import (
  id_lists,
  label_files,
  outside_scores,
  score_files,
)

RNG = np.random.default_rng(0)
ROOT = pathlib.Path(__file__).parents[2]


def unit(x):
  return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)


IDS = tuple(f'v{i}.mp4' for i in range(12))
NAMES = ('rowing', 'arm wrestling', '跳舞')
EMBEDDINGS = score_files.Embeddings(
  IDS,
  unit(RNG.normal(size=(12, 2, 4))),
  NAMES,
  unit(RNG.normal(size=(3, 4))),
  ('boxing', 'hopping'),
  unit(RNG.normal(size=(2, 4))),
  unit(RNG.normal(size=(2, 4))),
  RNG.normal(size=(12, 3)).astype(np.float32),
)
LABELS = tuple(NAMES[i % 3] for i in range(12))
SCORES = score_files.Scores(
  IDS,
  NAMES,
  {'mine': RNG.normal(size=(12, 3)).astype(np.float32), 'b': np.eye(12, 3)},
  LABELS,
  tuple(f'g{i // 2}' for i in range(12)),
  {'rowing': 'a', 'arm wrestling': 'b', '跳舞': 'b'},
  'set/1',
  'abc',
)


def same(a, b):
  for field in dataclasses.fields(a):
    x, y = getattr(a, field.name), getattr(b, field.name)
    if isinstance(x, np.ndarray):
      np.testing.assert_allclose(x, y, atol=1e-6)
    elif isinstance(x, dict):
      assert list(x) == list(y)
      for key in x:
        np.testing.assert_array_equal(x[key], y[key])
    else:
      assert x == y, field.name


def test_embeddings_are_read_back(tmp_path):
  path = str(tmp_path / 'e.safetensors')
  score_files.write_embeddings(EMBEDDINGS, path)
  same(EMBEDDINGS, score_files.read_embeddings(path))


def test_scores_are_read_back(tmp_path):
  path = str(tmp_path / 's.safetensors')
  score_files.write_scores(SCORES, path)
  same(SCORES, score_files.read_scores(path))
  several = dataclasses.replace(
    SCORES, tested=np.ones((12, 2), bool), candidates=np.ones((3, 2), bool)
  )
  score_files.write_scores(several, path)
  same(several, score_files.read_scores(path))


def write(path, tensors, header, kind=score_files.EMBEDDINGS_FORMAT):
  safetensors_numpy.save_file(
    tensors, path, metadata={'format': kind, 'header': json.dumps(header)}
  )
  return str(path)


def embeddings_file(path, **changes):
  tensors = {
    'embeddings': RNG.normal(size=(2, 4)).astype(np.float32),
    'class_embeddings': np.eye(2, 4, dtype=np.float32),
  }
  header = {'video_ids': ['a', 'b'], 'class_names': ['row', 'run']}
  for key, value in changes.items():
    if isinstance(value, np.ndarray):
      tensors[key] = value
    else:
      header[key] = value
  return write(path, tensors, header)


def test_one_view_may_leave_out_its_axis(tmp_path):
  read = score_files.read_embeddings(embeddings_file(tmp_path / 'e'))
  assert read.embeddings.shape == (2, 1, 4)
  np.testing.assert_allclose(
    np.linalg.norm(read.embeddings, axis=2), 1, rtol=1e-6
  )


@pytest.mark.parametrize(
  'changes,reason',
  [
    ({'video_ids': ['a', 'a']}, 'video ids more than once: a'),
    ({'video_ids': ['a']}, "'embeddings' is 2 x 1 x 4, expected 1 x any x any"),
    ({'video_ids': []}, 'no video ids'),
    ({'video_ids': 'ab'}, "'video_ids' must be a list of texts"),
    ({'video_ids': [1, 2]}, "'video_ids' must be a list of texts"),
    ({'class_names': ['Row', 'row']}, 'row'),
    ({'embeddings': np.zeros((2, 4), np.float32)}, 'zero or not finite: a, b'),
    (
      {'embeddings': np.array([[1, 0], [np.nan, 0]], np.float32)},
      'zero or not finite: b',
    ),
    ({'match': np.zeros((2, 3), np.float32)}, "'match' is 2 x 3, expected 2 x"),
    ({'match': np.full((2, 2), np.nan, np.float32)}, 'match of a, b'),
    ({'seen_class_names': ['hop']}, "'seen_class_embeddings' is missing"),
  ],
)
def test_bad_embeddings_are_named(tmp_path, changes, reason):
  path = embeddings_file(tmp_path / 'e', **changes)
  with pytest.raises(ValueError, match=re.escape(reason)) as e:
    score_files.read_embeddings(path)
  assert path in str(e.value)


def test_files_of_another_kind_are_refused(tmp_path):
  path = tmp_path / 'f'
  with pytest.raises(FileNotFoundError):
    score_files.read_scores(str(path))
  path.write_bytes(b'hello')
  with pytest.raises(ValueError, match='not a safetensors file'):
    score_files.read_scores(str(path))
  other = embeddings_file(path)
  with pytest.raises(ValueError, match="expected 'zsar_jax scores 1'"):
    score_files.read_scores(other)
  safetensors_numpy.save_file(
    {'x': np.zeros(1)},
    str(path),
    metadata={'format': score_files.SCORES_FORMAT, 'header': '['},
  )
  with pytest.raises(ValueError, match='not JSON'):
    score_files.read_scores(str(path))


def test_scores_that_are_no_numbers_or_of_no_class(tmp_path):
  path = str(tmp_path / 's')
  bad = SCORES.scores['mine'].copy()
  bad[3, 1] = np.nan
  score_files.write_scores(dataclasses.replace(SCORES, scores={'m': bad}), path)
  with pytest.raises(ValueError, match=r'm scores of v3.mp4 are not numbers'):
    score_files.read_scores(path)
  labels = ('swimming', *LABELS[1:])
  score_files.write_scores(dataclasses.replace(SCORES, labels=labels), path)
  with pytest.raises(
    ValueError, match='labels that are not among the classes: swimming'
  ):
    score_files.read_scores(path)


def write_csv(path, rows, header=('id', 'label', 'group', 'source')):
  with open(path, 'w', newline='', encoding='utf-8-sig') as f:
    csv.writer(f).writerows([header, *rows])
  return str(path)


def test_labels_are_read(tmp_path):
  path = write_csv(
    tmp_path / 'l.csv',
    [('a.mp4', 'ArmWrestling', 's1', 'x'), ('b.mp4', 'rowing', '', '')],
  )
  labels = label_files.read_labels(path)
  assert labels.labels == ('arm wrestling', 'rowing')
  assert labels.groups == ('s1', 'b.mp4')
  assert labels.sources == {'arm wrestling': 'x', 'rowing': ''}
  two = write_csv(tmp_path / 'two.csv', [('a', 'row')], ('path', 'label'))
  assert label_files.read_labels(two).video_ids == ('a',)


@pytest.mark.parametrize(
  'rows,header,reason',
  [
    ([('a', 'row')], ('id', 'class'), 'expected id,label'),
    ([('a', 'row'), ('a', 'run')], ('id', 'label'), 'more than once: a'),
    ([('a', '')], ('id', 'label'), 'line 2: needs an id and a label'),
    ([('a', 'row', 'x')], ('id', 'label'), 'line 2'),
    ([], ('id', 'label'), 'no video ids'),
    (
      [('a', 'row', 'x'), ('b', 'row', 'y')],
      ('id', 'label', 'source'),
      "in the sources 'x' and 'y'",
    ),
  ],
)
def test_bad_labels_are_named(tmp_path, rows, header, reason):
  with pytest.raises(ValueError, match=re.escape(reason)):
    label_files.read_labels(write_csv(tmp_path / 'l.csv', rows, header))


def test_ids_are_aligned_by_name():
  assert id_lists.align(['b', 'a'], ['a', 'b'], 'f').tolist() == [1, 0]
  with pytest.raises(ValueError, match='f lacks 2 of 3 videos: b, c'):
    id_lists.align(['a'], ['a', 'b', 'c'], 'f')
  with pytest.raises(ValueError, match='f has 1 videos too many: b'):
    id_lists.align(['a', 'b'], ['a'], 'f')
  many = [str(i) for i in range(30)]
  with pytest.raises(ValueError, match='9 and 20 more'):
    id_lists.align([], many, 'f')


def labels_of(ids=IDS):
  return label_files.Labels(
    tuple(ids),
    tuple(LABELS[IDS.index(i)] for i in ids),
    tuple(ids),
    {name: '' for name in NAMES},
  )


def test_anyones_embeddings_get_the_whole_table(tmp_path):
  path = str(tmp_path / 'e.safetensors')
  score_files.write_embeddings(EMBEDDINGS, path)
  shuffled = labels_of(IDS[::-1])
  outcome = outside_scores.evaluate_embeddings(path, shuffled)
  methods = {row['method'] for row in outcome.content['rows']}
  assert {'transfer', 'nearest_name', 'conse', 'fusion'} <= methods
  # The order of the labels file changes nothing.
  again = outside_scores.evaluate_embeddings(path, labels_of())
  value = lambda o: {
    (r['method'], r['metric']): r['value'] for r in o.content['rows']
  }
  floats = {k for k in value(outcome) if not k[0].startswith(('con', 'ora'))}
  for key in floats:
    assert value(outcome)[key] == pytest.approx(value(again)[key])


def test_embeddings_alone_are_ranked_by_name(tmp_path):
  path = str(tmp_path / 'e.safetensors')
  bare = dataclasses.replace(
    EMBEDDINGS,
    seen_class_names=(),
    seen_class_embeddings=None,
    seen_prototypes=None,
    match=None,
  )
  score_files.write_embeddings(bare, path)
  outcome = outside_scores.evaluate_embeddings(path, labels_of())
  z = EMBEDDINGS.embeddings.mean(axis=1)
  answers = (z @ EMBEDDINGS.class_embeddings.T).argmax(1)
  right = np.mean([NAMES[a] == b for a, b in zip(answers, LABELS, strict=True)])
  (row,) = [
    r
    for r in outcome.content['rows']
    if (r['method'], r['metric']) == ('nearest_name', 'top1')
  ]
  assert row['value'] == pytest.approx(right)
  odd = dataclasses.replace(bare, class_embeddings=unit(np.ones((3, 7))))
  score_files.write_embeddings(odd, path)
  with pytest.raises(ValueError, match='nothing to score by'):
    outside_scores.evaluate_embeddings(path, labels_of())


def test_missing_videos_are_refused_by_name(tmp_path):
  path = str(tmp_path / 's')
  score_files.write_scores(SCORES, path)
  with pytest.raises(ValueError, match='has 1 videos too many'):
    outside_scores.evaluate_scores(path, labels_of(IDS[1:]))


def test_two_systems_are_compared_on_the_same_videos():
  better = dataclasses.replace(
    SCORES,
    scores={'mine': np.eye(3)[[NAMES.index(x) for x in LABELS]]},
  )
  order = [5, 3, *(i for i in range(12) if i not in (3, 5))]
  shuffled = dataclasses.replace(
    better,
    video_ids=tuple(IDS[i] for i in order),
    labels=tuple(LABELS[i] for i in order),
    scores={'mine': better.scores['mine'][order]},
  )
  text = outside_scores.format_comparison(SCORES, shuffled, 'x', 'y')
  lines = [line for line in text.splitlines() if line.startswith('B mine')]
  right = SCORES.scores['mine'].argmax(1) == [NAMES.index(x) for x in LABELS]
  gain = 100 * (1 - np.mean([right[i::3].mean() for i in range(3)]))
  assert len(lines) == 2 and f'{gain:+.1f}' in lines[1]
  with pytest.raises(ValueError, match='protocols differ'):
    outside_scores.format_comparison(
      SCORES, dataclasses.replace(SCORES, protocol_hash='other'), 'x', 'y'
    )
  with pytest.raises(ValueError, match='no method in common'):
    outside_scores.format_comparison(
      SCORES, dataclasses.replace(SCORES, scores={'z': np.eye(12, 3)}), 'x', 'y'
    )


def test_the_documented_example_writes_what_is_read(tmp_path, monkeypatch):
  text = (ROOT / 'docs/score_files.md').read_text()
  code, *_ = re.findall(r'```python\n(.*?)```', text, re.S)
  assert 'zsar_jax.' not in code.replace('zsar_jax embeddings 1', '')
  monkeypatch.chdir(tmp_path)
  exec(compile(code, 'docs/score_files.md', 'exec'), {})
  read = score_files.read_embeddings('mine.safetensors')
  assert len(read.video_ids) == read.embeddings.shape[0] > 1
