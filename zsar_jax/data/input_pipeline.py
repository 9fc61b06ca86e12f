"""From prepared records to uint8 batches, in an order hosts do not change.

Training: `MapDataset.range(n).seed().shuffle().repeat().random_map()
.batch()[start * H + h :: H]`. The batches are cut before they are dealt to
hosts, and every random choice is keyed by the global index, so that the same
seed gives the same global batches for any number of hosts, and the step
number is the loader's whole state.

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
  'ClipReader',
  'TrainView',
  'VideoCache',
  'eval_batches',
  'train_batches',
]

BALANCES = ('', 'class', 'source', 'source+class')
# A record that cannot be read is replaced by the next, at most so often.
_MAX_TRIES = 4
# The share of failures says nothing before so many examples were read.
_MIN_EXAMPLES = 200
_SHOWN = 10
_PLAIN_VIEW = TrainView()


@dataclasses.dataclass(frozen=True)
class _Pool:
  """Videos that are drawn from together.

  Attributes:
    positions: in the set.
    weight: share of the examples that come from here.
  """

  positions: np.ndarray
  weight: float


def _pools(
  labels: np.ndarray, sources: Sequence[str], balance: str
) -> list[_Pool]:
  """Divides a set of videos by what is to be drawn equally often.

  Args:
    labels: int [n].
    sources: where each video's class lives.
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
  """Position -> the next in its pool, which takes its place if need be."""
  after = np.empty(total, int)
  for pool in pools:
    after[pool.positions] = np.roll(pool.positions, -1)
  return after


def _positions(pools: Sequence[_Pool], seed: int):
  """Endless dataset of positions, each pool shuffled anew in every pass."""
  import grain

  if len(pools) == 1:
    return grain.MapDataset.range(len(pools[0].positions)).seed(seed).shuffle()

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


def train_batches(
  reader: ClipReader,
  seen_classes: tuple[str, ...],
  *,
  batch_size: int,
  seed: int,
  start_step: int = 0,
  num_hosts: int = 1,
  host: int = 0,
  view: TrainView = _PLAIN_VIEW,
  mirror: bool = True,
  balance: str = '',
  max_failed_share: float = 0.01,
  num_threads: int = 4,
) -> Iterator[dict[str, np.ndarray]]:
  """Endless training batches of this host.

  A video that cannot be read is replaced by the next of its pool, the same
  for any number of hosts, and counted.

  Args:
    reader: of the training videos.
    seen_classes: names in label order; a class whose name has a side is
      never mirrored.
    batch_size: of the global batch; the hosts must divide it.
    seed: of order and augmentation.
    start_step: the first step's number: resuming starts here.
    num_hosts: hosts that share the batch.
    host: this one.
    view: what is random about a clip.
    mirror: whether to mirror at all.
    balance: what is drawn equally often: '' (every video), 'class',
      'source', or 'source+class' (every source, and within it every class).
    max_failed_share: of the videos read, on this host; more stops the run.
    num_threads: decoding threads.

  Yields:
    `video` uint8 [b/H t size size 3], `label` int32 [b/H], `index` int32
    [b/H], the example's position in the global stream, `record_id` int64
    [b/H], the record that was used, and `num_failed` int32 [b/H], how many
    were tried before it.

  Raises:
    ValueError: the hosts do not divide the batch, there are no videos, or
      too many cannot be read.
    VideoError: five in a row cannot be read.
  """
  import grain

  if batch_size % num_hosts:
    raise ValueError(
      f'train.batch_size={batch_size} is not divisible by {num_hosts} hosts'
    )
  if not len(reader):
    raise ValueError('no training videos')
  may_mirror = np.array(
    [mirror and not class_names.has_side(name) for name in seen_classes]
  )
  videos = reader.videos
  pools = _pools(videos.labels, videos.sources, balance)
  successors = _successors(pools, len(reader))
  failures: dict[str, str] = {}  # Name -> reason; threads only add.

  class Clip(grain.transforms.RandomMap):
    """One augmented example."""

    def random_map(self, i: int, rng: np.random.Generator):
      begin = rng.bit_generator.state
      for num_failed in range(_MAX_TRIES + 1):
        label = videos.labels[i]
        try:
          clip = reader.train_clip(i, rng, view, bool(may_mirror[label]))
        except READ_ERRORS as e:
          failures[videos.ids[i]] = getattr(e, 'reason', str(e))
          last, i = i, int(successors[i])
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
        f'{_some(failures)}',
      )

  def with_index(index: int, example: dict[str, Any]):
    # int32 wraps after two billion examples; it only keys random draws.
    return {**example, 'index': np.int64(index).astype(np.int32)}

  dataset = _positions(pools, seed)
  if len(pools) == 1:
    dataset = dataset.repeat()
  dataset = (
    dataset.random_map(Clip())
    .map_with_index(with_index)
    .batch(batch_size // num_hosts, drop_remainder=True)
  )[start_step * num_hosts + host :: num_hosts]
  return _guard(
    iter(dataset.to_iter_dataset(_read_options(num_threads))),
    failures,
    max_failed_share,
  )


def _some(failures: dict[str, str]) -> str:
  """The first failures as text."""
  listed = list(failures.items())
  shown = '; '.join(f'{name} {reason}' for name, reason in listed[:_SHOWN])
  more = len(listed) - _SHOWN
  return shown + (f'; and {more} more' if more > 0 else '')


def _guard(
  batches: Iterator[dict[str, np.ndarray]],
  failures: dict[str, str],
  max_share: float,
) -> Iterator[dict[str, np.ndarray]]:
  """Passes batches on until too many of their videos had failed."""
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
  """Every video once, in order; the last batch is padded.

  Nothing is replaced: a video that cannot be read is blank and not
  `readable`.

  Args:
    reader: of the videos.
    batch_size: of every batch.
    num_views: see `ClipReader.eval_clip`.
    frames: see `ClipReader.eval_clip`.
    num_crops: see `ClipReader.eval_clip`.
    num_threads: decoding threads.

  Yields:
    `video` uint8 [b v t size size 3], `metadata` float32 [b 2] (logs of width
    / height and of the seconds), `label` int32 [b], `position` int32
    [b] in the set (beyond its end on padding), `example_mask` bool [b], False
    on padding, and `readable` bool [b], False on padding too.
  """
  import grain

  total = -(-len(reader) // batch_size) * batch_size
  blank = reader.blank_clip(num_views * num_crops)
  videos = reader.videos

  unknown = np.zeros(2, np.float32)

  def read(i: int) -> tuple[np.ndarray, np.ndarray, bool]:
    try:
      return *reader.eval_example(i, num_views, frames, num_crops), True
    except READ_ERRORS as e:
      logging.warning('%s cannot be read: %s', videos.ids[i], e)
      return blank, unknown, False

  def example(i: int):
    real = i < len(reader)
    # Padding is black: nothing is decoded for it.
    clip, metadata, readable = read(i) if real else (blank, unknown, False)
    return {
      'video': clip,
      'metadata': metadata,
      'label': np.int32(videos.labels[i] if real else 0),
      'position': np.int32(i),
      'example_mask': np.bool_(real),
      'readable': np.bool_(readable),
    }

  dataset = (
    grain.MapDataset.range(total)
    .map(example)
    .batch(batch_size, drop_remainder=True)
  )
  return iter(dataset.to_iter_dataset(_read_options(num_threads)))
