import numpy as np
import pytest

from zsar_jax.zeroshot import gzsl

RNG = np.random.default_rng(0)
SEEN = np.array([True, True, True, False, False])
SEEN_LABELS = RNG.integers(3, size=60)
UNSEEN_LABELS = 3 + RNG.integers(2, size=40)


def noisy(labels):
  scores = RNG.normal(size=(len(labels), 5)).astype(np.float32)
  scores[np.arange(len(labels)), labels] += 1
  scores[:, SEEN] += 0.7
  return scores


SEEN_SCORES, UNSEEN_SCORES = noisy(SEEN_LABELS), noisy(UNSEEN_LABELS)
CURVE = gzsl.penalty_curve(
  SEEN_SCORES, SEEN_LABELS, UNSEEN_SCORES, UNSEEN_LABELS, SEEN
)


def brute(penalty):
  out = []
  for scores, labels in (
    (SEEN_SCORES, SEEN_LABELS),
    (UNSEEN_SCORES, UNSEEN_LABELS),
  ):
    right = (scores.astype(np.float64) - penalty * SEEN).argmax(1) == labels
    out.append(np.mean([right[labels == c].mean() for c in np.unique(labels)]))
  return out


@pytest.mark.parametrize('penalty', [-100, -0.3, 0, 0.21, 0.7, 1.4, 100])
def test_every_penalty_equals_the_argmax(penalty):
  s, u, h = CURVE.at(penalty)
  wanted = brute(penalty)
  assert (s, u) == pytest.approx(wanted)
  assert h == pytest.approx(2 * s * u / (s + u) if s + u else 0)


def test_area_is_that_of_a_fine_sweep():
  sweep = np.array([brute(p) for p in np.linspace(-8, 8, 4001)])
  area = np.trapezoid(sweep[::-1, 1], sweep[::-1, 0])
  assert CURVE.ausuc == pytest.approx(area, abs=1e-3)


def test_area_by_hand():
  # One video of each side; both right in their own half, and the seen one
  # is lost (penalty 0.2) before the unseen one is won (0.6).
  curve = gzsl.penalty_curve(
    np.array([[0.5, 0.3]]), [0], np.array([[0.9, 0.3]]), [1], [True, False]
  )
  np.testing.assert_allclose(curve.penalties, [0.2, 0.6])
  assert curve.seen_accuracy.tolist() == [1, 0, 0]
  assert curve.unseen_accuracy.tolist() == [0, 0, 1]
  assert curve.ausuc == 0
  # The other way round there is a penalty with which both are right.
  curve = gzsl.penalty_curve(
    np.array([[0.9, 0.3]]), [0], np.array([[0.5, 0.3]]), [1], [True, False]
  )
  assert curve.at(0.4) == (1, 1, 1) and curve.ausuc == 1


def test_both_ends_are_there():
  s, u, h = CURVE.at(-1e9)
  assert u == 0 and h == 0 and s == CURVE.seen_accuracy.max()
  s, u, h = CURVE.at(1e9)
  assert s == 0 and h == 0


def test_classes_weigh_the_same():
  # Class 0 has three videos, all wrong; class 1 one, right.
  scores = np.array([[0.0, 1.0, -9.0]] * 4)
  curve = gzsl.penalty_curve(
    scores, [0, 0, 0, 1], scores, [2] * 4, [True, True, False]
  )
  assert curve.at(0)[0] == pytest.approx(0.5)


@pytest.mark.parametrize(
  'change,reason',
  [
    ({'seen': np.ones(5, bool)}, 'both seen and unseen classes'),
    ({'seen_labels': [], 'seen_scores': np.zeros((0, 5))}, 'videos of both'),
    ({'unseen_scores': np.full((40, 5), np.nan)}, 'not all numbers'),
  ],
)
def test_what_cannot_be_measured_raises(change, reason):
  given = {
    'seen_scores': SEEN_SCORES,
    'seen_labels': SEEN_LABELS,
    'unseen_scores': UNSEEN_SCORES,
    'unseen_labels': UNSEEN_LABELS,
    'seen': SEEN,
    **change,
  }
  with pytest.raises(ValueError, match=reason):
    gzsl.penalty_curve(**given)


def test_harmonic_mean_of_nothing_is_nothing():
  assert gzsl.harmonic_mean(0.0, 0.0) == 0
  assert gzsl.harmonic_mean(0.0, 1.0) == 0
  assert gzsl.harmonic_mean(0.5, 1.0) == pytest.approx(2 / 3)


@pytest.mark.parametrize('side', ['seen_scores', 'unseen_scores'])
def test_a_single_score_that_is_no_number_raises(side):
  given = {'seen_scores': SEEN_SCORES, 'unseen_scores': UNSEEN_SCORES}
  given[side] = given[side].copy()
  given[side][3, 1] = np.nan
  with pytest.raises(ValueError, match='not all numbers'):
    gzsl.penalty_curve(
      seen_labels=SEEN_LABELS, unseen_labels=UNSEEN_LABELS, seen=SEEN, **given
    )


def test_rounding_leaves_no_accuracy_outside_its_range():
  # Sums of thirds, sevenths and so on come out a little above 1, below 0.
  seen = np.array([True] * 7 + [False])
  for n in range(1, 60):
    labels = np.arange(n) % 7
    scores = np.eye(8)[labels] + RNG.normal(size=(n, 8)) / 100
    curve = gzsl.penalty_curve(scores, labels, scores, [7] * n, seen)
    for accuracy in (curve.seen_accuracy, curve.unseen_accuracy):
      assert 0 <= accuracy.min() and accuracy.max() <= 1
