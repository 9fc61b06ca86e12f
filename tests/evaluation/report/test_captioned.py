"""What figures of a report show, and what stands below them."""

import numpy as np
import pytest

from zsar_jax.evaluation.report import captioned, content, figures


def make_content(scores, labels, **changes):
  scores = np.asarray(scores, float)
  return content.ReportContent(
    title='A report',
    method='transfer',
    unseen=tuple('abcdefgh'[: scores.shape[1]]),
    video_ids=tuple(f'v{i}' for i in range(len(scores))),
    labels=np.asarray(labels),
    scores=scores,
    **{'seen': (), **changes},
  )


# Class b has no video; one of the two of a is taken for c.
MADE = make_content([[2, 0, 1], [0, 0, 1], [0, 1, 3]], [0, 0, 2])


@pytest.fixture
def drawn(monkeypatch):
  """Records what is drawn: name of the figure -> its arguments."""
  drawn = {}
  for name in ('per_class', 'heat_map', 'risk_coverage', 'prototype_map'):
    monkeypatch.setattr(
      figures, name, lambda *args, name=name: drawn.setdefault(name, args)
    )
  return drawn


def test_classes_without_a_video_divide_by_no_zero(drawn):
  counts = captioned.confusion_counts(MADE)
  assert counts.tolist() == [[1, 0, 1], [0, 0, 0], [0, 0, 1]]
  captioned.per_class(MADE, counts)
  names, accuracy, totals = drawn['per_class']
  assert names == ('a', 'b', 'c') and totals.tolist() == [2, 0, 1]
  assert accuracy.tolist() == [0.5, 0, 1]
  captioned.confusion(MADE, counts)
  assert drawn['heat_map'][0].tolist() == [[0.5, 0, 0.5], [0, 0, 0], [0, 0, 1]]


def test_of_many_seen_classes_those_with_large_weights_are_drawn(drawn):
  rng = np.random.default_rng(0)
  weights = rng.uniform(-0.1, 0.1, (3, 70))
  # Weights of a ridge regression may be negative.
  weights[1, 65], weights[2, 3] = -0.9, 0.8
  seen = tuple(f's{i}' for i in range(70))
  made = make_content(
    MADE.scores, MADE.labels, seen=seen, transfer_weights=weights
  )
  caption = captioned.transfer_weights(made).caption
  shown, _, names = drawn.pop('heat_map')[:3]
  assert 'Only the 60 with the largest weights' in caption
  assert len(names) == 60 and {'s3', 's65'} <= set(names)
  assert names == sorted(names, key=seen.index)
  for column, name in zip(shown.T, names, strict=True):
    np.testing.assert_array_equal(column, weights[:, seen.index(name)])
  least = np.abs(weights).max(axis=0)
  kept = [seen.index(name) for name in names]
  assert least[kept].min() >= np.delete(least, kept).max()
  few = make_content(
    MADE.scores, MADE.labels, seen=seen[:60], transfer_weights=weights[:, :60]
  )
  assert 'Only' not in captioned.transfer_weights(few).caption
  assert drawn['heat_map'][0].shape == (3, 60)


def test_confidence_is_a_probability_only_where_one_was_calibrated(drawn):
  note = dict(calibration_note='inner draws')
  figure = captioned.risk_coverage(
    make_content(MADE.scores, MADE.labels, **note)
  )
  assert 'lead of the best score' in figure.caption
  assert 'inner draws' not in figure.caption
  figure = captioned.risk_coverage(
    make_content(
      MADE.scores, MADE.labels, probabilities=np.eye(3)[[0, 2, 2]], **note
    )
  )
  assert '(calibrated probability)' in figure.caption
  assert figure.caption.endswith('Calibrated on inner draws.')


@pytest.mark.parametrize(
  'figure, reason',
  [
    (captioned.transfer_weights(MADE), 'no seen classes'),
    (captioned.prototype_map(MADE), 'no embeddings'),
    (captioned.hubness(MADE), 'no scores'),
    (captioned.gzsl(MADE), 'no held-out videos'),
    (captioned.error_ladder([]), 'no oracle'),
    # A single step is no ladder.
    (
      captioned.error_ladder(
        [
          {'method': 'transfer', 'metric': 'per_class', 'value': 0.5},
          {'method': 'oracle_prototypes', 'metric': 'top1', 'value': 0.9},
        ]
      ),
      'no oracle',
    ),
    (
      captioned.prototype_map(
        make_content(
          [[1.0]],
          [0],
          unseen_prototypes=np.eye(1, 4),
          seen_prototypes=np.eye(1, 4),
        )
      ),
      'fewer than three',
    ),
  ],
)
def test_a_missing_figure_says_why(figure, reason):
  assert figure.svg == '' and reason in figure.caption
