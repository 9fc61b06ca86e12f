import dataclasses

import numpy as np
import pytest

from zsar_jax.data.protocols import class_split, overlap, video_sets
from zsar_jax.evaluation import embedding, methods, protocol_evaluation

SEEN, UNSEEN = ('s0', 's1', 's2'), ('u0', 'u1')
# Embedding of each name, and embedding of a video of the class.
NAMES = {
  's0': [1.0, 0.0, 0.0, 0.0],
  's1': [0.0, 1.0, 0.0, 0.0],
  's2': [0.0, 0.0, 1.0, 0.0],
  'u0': [0.8, 0.6, 0.0, 0.0],
  'u1': [0.0, 0.0, 0.6, 0.8],
}
LOOKS = np.eye(4, dtype=np.float32)
BATCH = 4


def video_set(split, labels):
  n = len(labels)
  return video_sets.VideoSet(
    '/nowhere',
    (split,) * n,
    np.arange(n),
    np.array(labels, np.int32),
    tuple(f'{split}{i}' for i in range(n)),
    tuple(f'{split} group {i}' for i in range(n)),
    ('',) * n,
    tuple(f'{split} digest {i}' for i in range(n)),
  )


PROTOCOL = class_split.Protocol(
  name='fake',
  hash='0123456789ab',
  dataset_dir='/nowhere',
  domain='filmed video',
  seen_classes=SEEN,
  unseen_classes=UNSEEN,
  train=video_set('train', [0, 1, 2, 0, 1, 2, 2]),
  validation=video_set('validation', [0, 1, 2]),
  test=video_set('test', [0, 1, 0, 1, 1]),
  unreadable=({'id': 'lost', 'label': 'u1', 'reason': 'empty'},),
  sources={},
  attributes={},
)


def pixel(split, label, frames):
  """Returns the pixel value that encodes the class of a video."""
  if split == 'train':
    return label
  # Unseen class 0 looks like s0, class 1 like s2, still ones like s1, and
  # those whose frames are shuffled like the other class.
  looks = {'filmed': (0, 2), 'first_frame': (1, 1), 'shuffled_frames': (2, 0)}
  return looks[frames][label]


def read(videos, frames):
  """Batches as the input pipeline makes them, the tail padded."""
  for start in range(0, len(videos), BATCH):
    real = np.arange(start, start + BATCH) < len(videos)
    clips = np.full((BATCH, 1, 2, 4, 4, 3), 3, np.uint8)  # 3: padding
    for row in np.flatnonzero(real):
      label = int(videos.labels[start + row])
      clips[row] = pixel(videos.splits[start + row], label, frames)
    yield {'video': clips, 'example_mask': real, 'readable': real}


def make_encoders(asked=None):
  def videos(clips, names):
    if asked is not None:
      asked.append(tuple(names))
    looks = clips[:, :, 0, 0, 0, 0]
    match = np.zeros((len(clips), len(names)), np.float32)
    return {'embedding': LOOKS[looks], 'match': match}

  return embedding.Encoders(
    class_embeddings=lambda names: np.array(
      [NAMES[name] for name in names], np.float32
    ),
    videos=videos,
  )


@pytest.fixture(scope='module')
def evaluation():
  return protocol_evaluation.evaluate_protocols(
    [PROTOCOL],
    embedding.Embedder(make_encoders(), read),
    methods.TransferSettings(0.01),
  )


def test_padding_is_masked_out():
  embed = embedding.Embedder(make_encoders(), read)
  embedded = embed(PROTOCOL.train, names=UNSEEN)
  assert embedded.embeddings.shape == (7, 1, 4)
  assert embedded.match.shape == (7, 2) and embedded.readable.all()
  np.testing.assert_array_equal(
    embedded.embeddings[:, 0].argmax(1), PROTOCOL.train.labels
  )


def test_no_names_give_no_logits():
  embedded = embedding.Embedder(make_encoders(), read)(PROTOCOL.train)
  assert embedded.match.shape == (7, 0)


def test_prototypes_are_those_of_the_training_videos(evaluation):
  np.testing.assert_allclose(evaluation.seen.prototypes, LOOKS[:3], atol=1e-6)
  assert evaluation.seen.sums.counts.tolist() == [2, 2, 3]
  np.testing.assert_allclose(
    evaluation.seen.classes.text, [NAMES[name] for name in SEEN]
  )


def test_rows_count_every_test_video_once(evaluation):
  rows = {(row.method, row.metric): row for row in evaluation.rows}
  top1 = rows['transfer', 'top1']
  # u0 is made of s0, u1 of s2: all five right, one unreadable.
  assert top1.n_videos == 6 and top1.n_unreadable == 1
  assert top1.value == pytest.approx(5 / 6)
  assert rows['transfer', 'per_class'].value == pytest.approx((1 + 3 / 4) / 2)


def test_changed_frames_are_read_for_their_controls(evaluation):
  rows = {(row.method, row.metric): row for row in evaluation.rows}
  # Still videos all look like s1, hence more like u0 than like u1 or tied:
  # never all right.
  assert rows['control_first_frame', 'per_class'].value == 0.5
  # One of a class of four cannot be read.
  assert rows['transfer', 'per_class'].value == 0.875
  assert rows['control_shuffled_frames', 'per_class'].value == 0


def test_only_test_videos_are_matched_with_the_unseen_names():
  asked = []
  protocol_evaluation.evaluate_protocols(
    [PROTOCOL],
    embedding.Embedder(make_encoders(asked), read),
    methods.TransferSettings(),
  )
  # Two batches each of training, test and still test videos.
  assert asked == [()] * 2 + [UNSEEN] * 2 + [()] * 4


def test_progress_is_told():
  said = []
  protocol_evaluation.evaluate_protocols(
    [PROTOCOL],
    embedding.Embedder(make_encoders(), read, say=said.append),
    methods.TransferSettings(),
  )
  assert said == [
    'embedding 7 videos of 3 seen classes',
    'embedding 5 videos of 2 unseen classes',
    'scoring',
  ]


def evaluate(protocols, read=read, **encoders):
  evaluation = protocol_evaluation.evaluate_protocols(
    protocols,
    embedding.Embedder(make_encoders(**encoders), read),
    methods.TransferSettings(0.01),
  )
  return {(row.method, row.metric): row for row in evaluation.rows}


def test_unreadable_videos_are_wrong_and_shape_no_prototype():
  def with_gaps(videos, frames):
    for batch in read(videos, frames):
      # The second video of each batch: s1 is still shown by its other one.
      batch['readable'] = batch['readable'] & (np.arange(BATCH) != 1)
      batch['video'][1] = 3
      yield batch

  rows = evaluate([PROTOCOL], with_gaps)
  top1 = rows['transfer', 'top1']
  assert top1.n_videos == 6 and top1.n_unreadable == 2
  assert top1.value == pytest.approx(4 / 6)


def test_splits_are_embedded_once_and_averaged():
  # The second split asks about u1 alone, so it is always right.
  second = dataclasses.replace(
    PROTOCOL,
    name='second',
    unseen_classes=('u1',),
    test=dataclasses.replace(
      PROTOCOL.test.subset(PROTOCOL.test.labels == 1),
      labels=np.zeros(3, np.int32),
    ),
    unreadable=(),
  )
  asked = []
  rows = evaluate([PROTOCOL, second], asked=asked)
  # Two batches each of training, test and still test videos, as for one.
  assert asked == [()] * 2 + [UNSEEN] * 2 + [()] * 4
  top1 = rows['transfer', 'top1']
  assert top1.value == pytest.approx((5 / 6 + 1) / 2)
  assert top1.std == pytest.approx((1 - 5 / 6) / 2)
  assert top1.n_splits == 2 and top1.low <= top1.value <= top1.high
  assert top1.n_videos == 6 and top1.n_unreadable == 1


def test_allowed_leaks_are_shown_with_and_without():
  leak = overlap.Leak('words', 's2', 'u1')
  rows = evaluate([dataclasses.replace(PROTOCOL, leaks=(leak,))])
  assert rows['transfer', 'top1'].n_videos == 6
  without = rows['transfer', 'top1_without_leaks']
  # The two videos of u0; the candidates stay.
  assert without.n_videos == 2 and without.n_classes == 2
  assert ('oracle_prototypes', 'per_class_without_leaks') not in rows
  assert ('transfer', 'top1_without_leaks') not in evaluate([PROTOCOL])


def test_methods_are_compared_without_leaks_too():
  leak = overlap.Leak('words', 's2', 'u1')
  table = protocol_evaluation.evaluate_protocols(
    [dataclasses.replace(PROTOCOL, leaks=(leak,))],
    embedding.Embedder(make_encoders(), read),
    methods.TransferSettings(weighting='kernel'),
  ).table
  pairs = {(p.method, p.other, p.metric): p for p in table.paired}
  values = {(row.method, row.metric): row.value for row in table.rows}
  # By softmax weights, and by those that predictions have.
  for method in ('transfer', 'transfer_kernel'):
    for metric in ('per_class', 'per_class_without_leaks'):
      pair = pairs[method, 'conse', metric]
      expected = values[method, metric] - values['conse', metric]
      assert pair.difference == pytest.approx(expected)
  assert ('transfer_kernel', 'transfer', 'per_class') not in pairs
  assert [p.other for p in table.paired if p.primary] == ['nearest_name'] * 2


def test_without_a_test_there_are_prototypes_alone():
  protocol = dataclasses.replace(PROTOCOL, unseen_classes=(), test=None)
  evaluation = protocol_evaluation.evaluate_protocols(
    [protocol],
    embedding.Embedder(make_encoders(), read),
    methods.TransferSettings(),
  )
  assert evaluation.rows == []
  assert evaluation.seen.sums.counts.tolist() == [2, 2, 3]
