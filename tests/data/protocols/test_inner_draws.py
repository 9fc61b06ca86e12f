import pytest

from tests.data.protocols.test_class_split import columns, dataset
from tests.data.protocols.test_split_file import write
from zsar_jax.data.protocols import class_split, inner_draws, split_choice


def test_inner_draws_divide_the_seen_classes(tmp_path):
  names = ['row', 'run', 'hop', 'box', 'jab', 'cut'] * 5
  path = dataset(
    tmp_path,
    videos={
      'videos': columns(names, sources=['a', 'a', 'a', 'b', 'b', 'b'] * 5)
    },
  )
  outer = class_split.make_protocol(
    path,
    split_choice.SplitChoice(
      class_split=write(
        tmp_path,
        {'seen': ['row', 'run', 'hop', 'box', 'jab'], 'unseen': ['cut']},
      )
    ),
  )
  inner = inner_draws.inner_draw(outer, 0, 0.4)
  sources = [outer.sources[name] for name in inner.unseen_classes]
  assert sorted(sources) == ['a', 'b']
  assert set(inner.seen_classes) | set(inner.unseen_classes) == set(
    outer.seen_classes
  )
  assert not set(inner.seen_classes) & set(inner.unseen_classes)
  # Nothing of the outer test is in it, and no video is on two sides.
  ids = set(inner.test.ids)
  assert not ids & set(outer.test.ids) and not ids & set(inner.train.ids)
  assert ids | set(inner.train.ids) == set(outer.train.ids)
  for videos, classes in (
    (inner.train, inner.seen_classes),
    (inner.test, inner.unseen_classes),
  ):
    of_name = dict(zip(outer.train.ids, outer.train.labels, strict=True))
    for video, label in zip(videos.ids, videos.labels, strict=True):
      assert classes[label] == outer.seen_classes[of_name[video]]
  assert inner.hash != outer.hash and inner.name.endswith('#inner0')
  draws = {
    inner_draws.inner_draw(outer, i, 0.4).unseen_classes for i in range(9)
  }
  assert len(draws) > 1
  with pytest.raises(ValueError, match='inner_share=0.01'):
    inner_draws.inner_draw(outer, 0, 0.01)
  # At least one class of each source stays seen.
  inner = inner_draws.inner_draw(outer, 0, 0.9)
  assert sorted(outer.sources[name] for name in inner.seen_classes) == [
    'a',
    'b',
  ]
  for share in (-0.5, 0, 1, 1.5):
    with pytest.raises(ValueError, match=rf'inner_share={share} is not in'):
      inner_draws.inner_draw(outer, 0, share)


def test_inner_draws_test_seen_classes_on_those_that_stay_seen(tmp_path):
  path = dataset(
    tmp_path, videos={'videos': columns(['row', 'run', 'hop', 'cut'] * 12)}
  )
  outer = class_split.make_protocol(
    path,
    split_choice.SplitChoice(
      class_split=write(
        tmp_path, {'seen': ['row', 'run', 'hop'], 'unseen': ['cut']}
      ),
      validation_fraction=0.4,
    ),
  )
  assert outer.seen_test
  inner = inner_draws.inner_draw(outer, 0, 0.4)
  of_name = dict(zip(outer.seen_test.ids, outer.seen_test.labels, strict=True))
  assert inner.seen_test and len(inner.seen_test) < len(outer.seen_test)
  for video, label in zip(
    inner.seen_test.ids, inner.seen_test.labels, strict=True
  ):
    assert inner.seen_classes[label] == outer.seen_classes[of_name[video]]
