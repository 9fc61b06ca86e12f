"""Arrays of a protocol's classes and videos."""

import types

import numpy as np
import pytest

from zsar_jax.data.protocols import video_sets
from zsar_jax.evaluation import embedding, protocol_arrays


def video_set(rows, labels):
  n = len(rows)
  return video_sets.VideoSet(
    '/nowhere',
    ('test',) * n,
    np.array(rows),
    np.array(labels, np.int32),
    tuple(f'v{row}' for row in rows),
    tuple(f'g{row}' for row in rows),
    ('',) * n,
    tuple(f'd{row}' for row in rows),
  )


def split(unseen, rows, labels, unreadable=()):
  lost = [{'id': i, 'label': label} for i, label in unreadable]
  return types.SimpleNamespace(
    unseen_classes=unseen, test=video_set(rows, labels), unreadable=lost
  )


# Video 2 is of 'b', 5 of 'c', 7 and 8 of 'a'; 'lost' is of 'b' in both.
TWO = (
  split(('a', 'b'), [7, 2, 8], [0, 1, 0], [('lost', 'b'), ('gone', 'a')]),
  split(('b', 'c'), [2, 5], [0, 1], [('lost', 'b')]),
)


def embedded(readable, **changes):
  n = len(readable)
  return embedding.Embedded(
    embeddings=np.arange(n, dtype=np.float32).reshape(n, 1, 1),
    match=None,
    readable=np.array(readable),
    **changes,
  )


def test_a_video_of_several_splits_is_there_once():
  joined = protocol_arrays.join(TWO)
  assert joined.names == ('a', 'b', 'c')
  assert joined.videos.ids == ('v7', 'v2', 'v8', 'v5')
  assert [m.tolist() for m in joined.members] == [[0, 1, 2], [1, 3]]
  # Splits without anything new, and in another order.
  again = protocol_arrays.join([*TWO, split(('a', 'b'), [8, 2], [0, 1])])
  assert again.videos.ids == joined.videos.ids
  assert again.members[2].tolist() == [2, 1]


def test_each_split_has_its_candidates_videos_and_losses():
  videos, ids = protocol_arrays.test_videos(
    protocol_arrays.join(TWO), embedded([True] * 4)
  )
  # Labels index the classes of all splits.
  assert videos.labels.tolist() == [0, 1, 0, 2]
  assert videos.candidates.tolist() == [
    [True, False],
    [True, True],
    [False, True],
  ]
  assert ids == ('v7', 'v2', 'v8', 'v5', 'lost', 'gone')
  assert videos.unreadable_labels == (1, 0)
  assert videos.tested.tolist() == [
    [True, False],
    [True, True],
    [True, False],
    [False, True],
    [True, True],
    [True, False],
  ]


def test_a_video_whose_changed_version_is_unreadable_counts_as_unreadable():
  videos, ids = protocol_arrays.test_videos(
    protocol_arrays.join(TWO),
    embedded([True, True, False, True]),
    {'first_frame': embedded([True, False, True, True])},
  )
  assert videos.embeddings.ravel().tolist() == [0, 3]
  assert videos.changed_embeddings['first_frame'].ravel().tolist() == [0, 3]
  assert ids == ('v7', 'v5', 'v2', 'v8', 'lost', 'gone')
  assert videos.labels.tolist() == [0, 2]
  assert videos.unreadable_labels == (1, 0, 1, 0)
  # In the order of the ids.
  assert videos.tested[2].tolist() == [True, True]
  assert videos.tested[3].tolist() == [True, False]
  assert videos.groups == ('g7', 'g5')


def test_metadata_is_in_deviations_and_has_unit_length():
  metadata = np.array([[3.0, 10.0], [1.0, 14.0], [1.0, 10.0]])
  moments = np.array([[1.0, 10.0], [2.0, 4.0]])
  found = protocol_arrays.standardise(metadata, moments)
  # One like the mean in everything has no direction.
  np.testing.assert_allclose(found, [[1, 0], [0, 1], [0, 0]])
  assert found.dtype == np.float32


def test_a_seen_class_without_a_readable_video_is_named():
  protocol = types.SimpleNamespace(
    name='p',
    seen_classes=('a', 'b', 'c'),
    train=video_set([0, 1, 2], [0, 1, 2]),
  )

  class Embed:
    """An embedder that cannot read the video of 'b'."""

    say = staticmethod(lambda text: None)

    def __call__(self, videos):
      return embedded([True, False, True])

  with pytest.raises(ValueError, match=r"no readable training video of .*'b'"):
    protocol_arrays.embed_seen(Embed(), protocol)
