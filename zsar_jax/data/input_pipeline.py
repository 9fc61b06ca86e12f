"""Reads prepared records as uint8 batches, in the same order on any hosts.

Training: `MapDataset.range(n).seed().shuffle().repeat().random_map()
.batch()[start * H + h :: H]`. Batches are cut first, then dealt to hosts. The
global index keys every random choice. So the same seed gives the same global
batches for any number of hosts. The step number is the loader's whole state.

Workers are threads: PyAV, simplejpeg and cv2 release the interpreter lock,
and threads leave nothing behind when a trainer is killed.
"""

from collections.abc import Iterator, Sequence
import dataclasses
from typing import Any

from absl import logging
import numpy as np

from zsar_jax.data import class_names, decode
from zsar_jax.data.clip_reader import (
  FILMED,
  READ_ERRORS,
  ClipReader,
  TrainView,
  VideoCache,
)

__all__ = [
  'BALANCES',
  'BatchPlan',
  'ClipReader',
  'TrainView',
  'VideoCache',
  'eval_batches',
  'train_batches',
]

BALANCES = ('', 'class', 'source', 'source+class')
# How often the next record may replace one that cannot be read.
_MAX_TRIES = 4
# The share of failures means little before this many examples were read.
_MIN_EXAMPLES = 200
_SHOWN = 10
_PLAIN_VIEW = TrainView()


@dataclasses.dataclass(frozen=True)
class _Pool:
  """Videos that share one order of drawing.

  Attributes:
    positions: of the videos in the set.
    weight: share of the examples that come from this pool.
  """

  positions: np.ndarray
  weight: float


def _pools(
  labels: np.ndarray, sources: Sequence[str], balance: str
) -> list[_Pool]:
  """Divides a set of videos into pools with their shares of the examples.

  Args:
    labels: int [n].
    sources: source of each video's class.
    balance: one of `BALANCES`.

  Returns:
    One pool for '', else one per class or source, weights summing to one.

  Raises:
    ValueError: an unknown balance.
  """
  if balance not in BALANCES:
    raise ValueError(f'data.balance={balance!r} is not one of {BALANCES}')
  if not balance:
    return [_Pool(np.arange(len(labels)), 1.0)]
  sources = np.asarray(sources)
  keys = sources if balance == 'source' else labels
  names = np.unique(keys)
  pools = [np.flatnonzero(keys == name) for name in names]
  if balance == 'source+class':
    # Every source the same share, and within it every class.
    homes = [sources[positions[0]] for positions in pools]
    weights = [1 / (len(set(homes)) * homes.count(home)) for home in homes]
  else:
    weights = [1 / len(pools)] * len(pools)
  return [_Pool(p, w) for p, w in zip(pools, weights, strict=True)]


def _successors(pools: Sequence[_Pool], total: int) -> np.ndarray:
  """Maps each position to the one that replaces it: the next in its pool."""
  after = np.empty(total, int)
  for pool in pools:
    after[pool.positions] = np.roll(pool.positions, -1)
  return after


def _positions(pools: Sequence[_Pool], seed: int):
  """Makes an endless dataset of positions; each pass reshuffles each pool."""
  import grain

  if len(pools) == 1:
    only = grain.MapDataset.range(len(pools[0].positions))
    return only.seed(seed).shuffle().repeat()

  def endless(number: int, positions: np.ndarray):
    # Pools of one size would otherwise be shuffled alike.
    return (
      grain.MapDataset.range(len(positions))
      .seed(seed + number)
      .shuffle()
      .map(lambda i: int(positions[i]))
      .repeat()
    )

  return grain.MapDataset.mix(
    [endless(n, pool.positions) for n, pool in enumerate(pools)],
    weights=[pool.weight for pool in pools],
  ).seed(seed)


def _read_options(num_threads: int, prefetch: int = 4):
  import grain

  return grain.ReadOptions(
    num_threads=num_threads, prefetch_buffer_size=max(prefetch, num_threads)
  )


@dataclasses.dataclass(frozen=True)
class BatchPlan:
  """Which training examples make up this host's batches.

  Attributes:
    batch_size: of the global batch; `num_hosts` must divide it.
    seed: of order and augmentation.
    start_step: number of the first step; a resumed run starts here.
    num_hosts: hosts that share the batch.
    host: number of this host.
    balance: what to draw equally often: '' (every video), 'class', 'source',
      or 'source+class' (every source, and within it every class).
  """

  batch_size: int
  seed: int
  start_step: int = 0
  num_hosts: int = 1
  host: int = 0
  balance: str = ''


def train_batches(
  reader: ClipReader,
  seen_classes: tuple[str, ...],
  plan: BatchPlan,
  *,
  view: TrainView = _PLAIN_VIEW,
  mirror: bool = True,
  max_failed_share: float = 0.01,
  num_threads: int = 4,
) -> Iterator[dict[str, np.ndarray]]:
  """Makes endless training batches for this host.

  If a video cannot be read, the next video of its pool replaces it, the same
  one for any number of hosts. Failures are counted.

  Args:
    reader: of the training videos.
    seen_classes: names in label order; a class whose name has a side is
      never mirrored.
    plan: which examples, in which order.
    view: the random crop and augmentation of a clip.
    mirror: whether to mirror any clip.
    max_failed_share: of the videos read on this host, in [0, 1]; more stops
      the run.
    num_threads: decoding threads.

  Yields:
    `video` uint8 [b/H t size size 3]; `label` int32 [b/H]; `index` int32
    [b/H], the example's position in the global stream; `record_id` int64
    [b/H], the record that was used; `num_failed` int32 [b/H], the number of
    videos that failed before it.

  Raises:
    ValueError: the hosts do not divide the batch, there are no videos, or
      too many cannot be read.
    VideoError: five videos in a row cannot be read.
  """
  if plan.batch_size % plan.num_hosts:
    raise ValueError(
      f'train.batch_size={plan.batch_size} is not divisible by '
      f'{plan.num_hosts} hosts'
    )
  if not len(reader):
    raise ValueError('no training videos')
  pools = _pools(reader.videos.labels, reader.videos.sources, plan.balance)
  may_mirror = [mirror and not class_names.has_side(n) for n in seen_classes]
  examples = _TrainExamples(
    reader, view, may_mirror, _successors(pools, len(reader))
  )
  dataset = (
    _positions(pools, plan.seed)
    .random_map(examples.read)
    .map_with_index(_with_index)
    .batch(plan.batch_size // plan.num_hosts, drop_remainder=True)
  )[plan.start_step * plan.num_hosts + plan.host :: plan.num_hosts]
  batches = iter(dataset.to_iter_dataset(_read_options(num_threads)))
  return _guard(batches, examples.failures, max_failed_share)


class _TrainExamples:
  """Augmented examples by position in the set of videos.

  Attributes:
    failures: video's name -> why it could not be read; threads only add.
  """

  def __init__(
    self,
    reader: ClipReader,
    view: TrainView,
    may_mirror: Sequence[bool],
    successors: np.ndarray,
  ):
    self.failures: dict[str, str] = {}
    self._reader = reader
    self._view = view
    self._may_mirror = may_mirror
    self._successors = successors

  def read(self, i: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Reads the example at `i`, or the next of its pool that is readable."""
    videos = self._reader.videos
    begin = rng.bit_generator.state
    for num_failed in range(_MAX_TRIES + 1):
      label = videos.labels[i]
      try:
        clip = self._reader.train_clip(
          i, rng, self._view, self._may_mirror[label]
        )
      except READ_ERRORS as e:
        self.failures[videos.ids[i]] = getattr(e, 'reason', str(e))
        last, i = i, int(self._successors[i])
        rng.bit_generator.state = begin
        continue
      return {
        'video': clip,
        'label': np.int32(label),
        'record_id': np.int64(videos.rows[i]),
        'num_failed': np.int32(num_failed),
      }
    raise decode.VideoError(
      videos.ids[last],
      f'and the {_MAX_TRIES} videos before it cannot be read: '
      f'{_some(self.failures)}',
    )


def _with_index(index: int, example: dict[str, Any]) -> dict[str, Any]:
  # int32 wraps after two billion examples; it only keys random draws.
  return {**example, 'index': np.int64(index).astype(np.int32)}


def _some(failures: dict[str, str]) -> str:
  """Writes the first failures as text."""
  listed = list(failures.items())
  shown = '; '.join(f'{name} {reason}' for name, reason in listed[:_SHOWN])
  more = len(listed) - _SHOWN
  return shown + (f'; and {more} more' if more > 0 else '')


def _guard(
  batches: Iterator[dict[str, np.ndarray]],
  failures: dict[str, str],
  max_share: float,
) -> Iterator[dict[str, np.ndarray]]:
  """Yields the batches; raises once too many of their videos failed."""
  read = failed = 0
  for batch in batches:
    now = int(batch['num_failed'].sum())
    read, failed = read + len(batch['num_failed']) + now, failed + now
    if now:
      logging.warning(
        '%d of %d videos could not be read: %s', failed, read, _some(failures)
      )
    if failed > max_share * max(read, _MIN_EXAMPLES):
      raise ValueError(
        f'{failed} of {read} videos could not be read, more than '
        f'data.max_failed_share={max_share}: {_some(failures)}'
      )
    yield batch


def eval_batches(
  reader: ClipReader,
  *,
  batch_size: int,
  num_views: int = 1,
  frames: str = FILMED,
  num_crops: int = 1,
  num_threads: int = 4,
) -> Iterator[dict[str, np.ndarray]]:
  """Reads every video once, in order; the last batch is padded.

  No video is replaced: an unreadable one is black, and not `readable`.

  Args:
    reader: of the videos.
    batch_size: of every batch.
    num_views: see `ClipReader.eval_clip`.
    frames: see `ClipReader.eval_clip`.
    num_crops: see `ClipReader.eval_clip`.
    num_threads: decoding threads.

  Yields:
    `video` uint8 [b v t size size 3]; `metadata` float32 [b 2], log of width
    / height and log of the duration in seconds; `label` int32 [b]; `position`
    int32 [b] in the set (beyond its end for padding); `example_mask` bool [b],
    False for padding; `readable` bool [b], False for padding too.
  """
  import grain

  total = -(-len(reader) // batch_size) * batch_size
  dataset = (
    grain.MapDataset.range(total)
    .map(lambda i: _eval_example(reader, i, num_views, frames, num_crops))
    .batch(batch_size, drop_remainder=True)
  )
  return iter(dataset.to_iter_dataset(_read_options(num_threads)))


def _eval_example(
  reader: ClipReader, i: int, num_views: int, frames: str, num_crops: int
) -> dict[str, np.ndarray]:
  """Reads all views of the video at `i`; black beyond the end of the set."""
  videos = reader.videos
  is_padding = i >= len(reader)
  views, readable = None, False
  if not is_padding:
    try:
      views, metadata = reader.eval_example(i, num_views, frames, num_crops)
      readable = True
    except READ_ERRORS as e:
      logging.warning('%s cannot be read: %s', videos.ids[i], e)
  if views is None:
    views = reader.blank_clip(num_views * num_crops)
    metadata = np.zeros(2, np.float32)
  return {
    'video': views,
    'metadata': metadata,
    'label': np.int32(0 if is_padding else videos.labels[i]),
    'position': np.int32(i),
    'example_mask': np.bool_(not is_padding),
    'readable': np.bool_(readable),
  }
