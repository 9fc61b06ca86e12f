"""Intervals over videos and over classes, and paired tests.

Every accuracy here is a weighted mean: video i gains `gain[i]` of at most
`weight[i]`, summed over the splits of a protocol that test it. The weight 1 /
(splits x classes of the split x videos of the class) gives the mean over splits
of the per-class accuracy; the weight 1 / (splits x videos) gives the mean over
videos. So one resampling serves all methods, metrics and splits, and
differences between methods are taken within each resample.

The recipe (our choice): percentile bootstraps at 95%, 10,000 resamples. Over
videos: whole groups are resampled within each class, and the classes are fixed.
Over classes: classes are resampled within their source. A drawn class comes
with its videos in all splits, and its groups are resampled for every draw.
Candidate sets do not change.
"""

from collections.abc import Sequence
from concurrent import futures
import dataclasses
import os

import numpy as np

RESAMPLES = 10_000
_LEVEL = 0.95
# Up to this many sign patterns a test is exact.
_MAX_PATTERNS = 2**14
# OpenBLAS computes products of so many multiplications on one thread.
_ONE_THREAD = 2**17


@dataclasses.dataclass(frozen=True)
class Gains:
  """A family of weighted means with one set of weights.

  Attributes:
    gain: [n k], the contribution of each video to each of k figures; a figure
      is the sum of its column.
    weight: [n], the largest contribution of each video; sums to one.
    stratified: each class keeps its weight in every resample (a per-class
      mean); else a resample's total weight varies (a mean over videos).
  """

  gain: np.ndarray
  weight: np.ndarray
  stratified: bool


@dataclasses.dataclass(frozen=True)
class Resampled:
  """Figures and their resamples.

  Attributes:
    values: [k].
    over_videos: [resamples k].
    over_classes: [resamples k]; None for means over videos.
    class_values: [c k], each class's own weighted mean.
    class_weights: [c], sums to one.
  """

  values: np.ndarray
  over_videos: np.ndarray
  over_classes: np.ndarray | None
  class_values: np.ndarray
  class_weights: np.ndarray


def interval(
  resampled: np.ndarray, level: float = _LEVEL
) -> tuple[np.ndarray, np.ndarray]:
  """Computes the percentile interval of each column.

  Args:
    resampled: [r k].
    level: share of the resamples inside the interval.

  Returns:
    Lower ends [k] and upper ends [k].
  """
  tail = (1 - level) / 2
  r = len(resampled)
  # np.quantile's linear interpolation, without sorting more than two cuts.
  positions = np.array([tail, 1 - tail]) * (r - 1)
  below = np.floor(positions).astype(int)
  above = np.minimum(below + 1, r - 1)
  parted = np.partition(resampled, sorted({*below, *above}), axis=0)
  share = (positions - below)[:, None]
  low, high = parted[below] * (1 - share) + parted[above] * share
  return low, high


def _draw(rng, groups: int, resamples: int) -> np.ndarray:
  """Draws how often each of a class's groups occurs: float64 [r groups]."""
  kind = np.uint16 if groups <= 2**16 else np.uint32
  drawn = rng.integers(groups, size=(resamples, groups), dtype=kind)
  flat = drawn + (np.arange(resamples) * groups)[:, None]
  counts = np.bincount(flat.reshape(-1), minlength=resamples * groups)
  return counts.reshape(resamples, groups).astype(np.float64)


def _small_products(a: np.ndarray, b: np.ndarray) -> np.ndarray:
  """Returns a @ b, computed on this thread alone.

  BLAS uses threads of its own for large products. In a pool of threads they
  would compete with the pool's.
  """
  rows = max(1, _ONE_THREAD // max(1, b.size))
  return np.concatenate([a[i : i + rows] @ b for i in range(0, len(a), rows)])


def _class_gains(families, labels, groups, c):
  """Sums over each group of class c: [groups, sum of k + 1 a family]."""
  members = np.flatnonzero(labels == c)
  _, group = np.unique(groups[members], return_inverse=True)
  columns = [
    np.column_stack([f.gain[members], f.weight[members]]) for f in families
  ]
  columns = np.concatenate(columns, axis=1)
  sums = np.zeros((group.max() + 1, columns.shape[1]))
  np.add.at(sums, group, columns)
  return sums


def resample(
  families: Sequence[Gains],
  labels: np.ndarray,
  groups: Sequence[str],
  sources: Sequence[str] = (),
  *,
  resamples: int = RESAMPLES,
  seed: int = 0,
) -> list[Resampled]:
  """Draws all resamples of all figures.

  Args:
    families: of the same n videos.
    labels: int [n].
    groups: recording session of each video.
    sources: of each class by its label; () for a single source.
    resamples: number of resamples.
    seed: of the draws.

  Returns:
    One `Resampled` a family. Resamples of one row belong together, over all
    families and figures.
  """
  labels, groups = np.asarray(labels), np.unique(groups, return_inverse=True)[1]
  classes = np.unique(labels)
  streams = np.random.SeedSequence(seed).spawn(int(classes.max()) + 2)

  def of_class(c):
    sums = _class_gains(families, labels, groups, c)
    rng = np.random.Generator(np.random.SFC64(streams[c]))
    return sums.sum(axis=0), _small_products(
      _draw(rng, len(sums), resamples), sums
    )

  with futures.ThreadPoolExecutor(os.cpu_count() or 1) as pool:
    # It takes long and works alone, so it comes first.
    times = pool.submit(
      _class_multiplicity,
      classes,
      sources,
      resamples,
      np.random.default_rng(streams[-1]),
    )
    drawn = list(pool.map(of_class, classes))
    multiplicity = times.result()
  out, start = [], 0
  for family in families:
    k = family.gain.shape[1]
    totals = np.stack([total[start : start + k + 1] for total, _ in drawn])
    parts = [part[:, start : start + k + 1] for _, part in drawn]
    out.append(_join(family, totals, parts, multiplicity, resamples))
    start += k + 1
  return out


def _join(family, totals, parts, multiplicity, resamples) -> Resampled:
  """Joins the resamples of all classes to resamples of the figures."""
  weights = totals[:, -1]
  k = totals.shape[1] - 1
  safe = np.maximum(weights, 1e-300)[:, None]
  class_values = totals[:, :-1] / safe
  over_videos, over_classes = np.zeros((resamples, k)), None
  if not family.stratified:
    total = np.zeros((resamples, 1))
    for part in parts:
      over_videos += part[:, :-1]
      total += part[:, -1:]
    over_videos /= total
  else:
    over_classes = np.zeros((resamples, k))
    total = np.zeros((resamples, 1))
    for c, part in enumerate(parts):
      if weights[c] <= 0:
        continue
      # The class's own mean in each resample, times its fixed weight.
      scaled = part[:, :-1] * (weights[c] / np.maximum(part[:, -1:], 1e-300))
      over_videos += scaled
      times = multiplicity[c]
      total[:, 0] += times * weights[c]
      # Every copy of a class needs a new draw of its groups: the draws of
      # this class in other resamples serve.
      for copy in range(int(times.max())):
        shift = copy * (resamples // 7 + 1)
        has = np.flatnonzero(times > copy)
        over_classes[has] += scaled[(has - shift) % resamples]
    # With few classes, all drawn ones may have no weight.
    over_classes /= np.where(total > 0, total, np.nan)
  return Resampled(
    totals[:, :-1].sum(axis=0),
    over_videos,
    over_classes,
    class_values,
    weights / weights.sum(),
  )


def _class_multiplicity(classes, sources, resamples, rng) -> np.ndarray:
  """Draws how often each class occurs, within its source: int [c resamples]."""
  source_of = np.array([sources[c] if sources else '' for c in classes])
  times = np.zeros((len(classes), resamples), np.int64)
  for source in np.unique(source_of):
    at = np.flatnonzero(source_of == source)
    even = np.full(len(at), 1 / len(at))
    times[at] = rng.multinomial(len(at), even, size=resamples).T
  return times


def sign_flip_test(
  differences: np.ndarray, weights: np.ndarray, seed: int = 0
) -> np.ndarray:
  """Tests weighted mean differences by sign flips over classes, two-sided.

  Exact (all sign patterns) up to 14 classes, else 9,999 random patterns.

  Args:
    differences: [c k], of each class.
    weights: [c], of each class.
    seed: of the random patterns.

  Returns:
    p-values [k], in (0, 1].
  """
  weighted = differences * weights[:, None]
  observed = np.abs(weighted.sum(axis=0))
  c = len(weighted)
  if 2**c <= _MAX_PATTERNS:
    bits = (np.arange(2**c)[:, None] >> np.arange(c)) & 1
    extra = 0
  else:
    rng = np.random.default_rng(seed)
    bits = rng.integers(2, size=(RESAMPLES - 1, c))
    extra = 1  # the observed pattern
  flipped = np.abs((1.0 - 2.0 * bits) @ weighted)
  # Equal up to rounding counts as equal.
  as_large = (flipped >= observed * (1 - 1e-12) - 1e-15).sum(axis=0)
  return (as_large + extra) / (len(bits) + extra)


def holm(p_values: Sequence[float]) -> np.ndarray:
  """Corrects p-values for several tests (Holm 1979).

  Args:
    p_values: [k].

  Returns:
    Adjusted p-values [k], in (0, 1].
  """
  p = np.asarray(p_values, np.float64)
  order = np.argsort(p, kind='stable')
  stepped = p[order] * (len(p) - np.arange(len(p)))
  adjusted = np.empty_like(p)
  adjusted[order] = np.minimum(np.maximum.accumulate(stepped), 1)
  return adjusted
