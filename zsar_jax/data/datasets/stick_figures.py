"""Rendered stick figures whose class names compose: a tiny, hard set.

A class name is a verb, a place and a manner in plain English, such as
`waving the left arm slowly` or `hopping in place quickly`. Twelve of the 36
names are unseen. Each of their words occurs in seen names, in other
combinations. So only the meaning of the words in motion can identify them.

| split | classes | clips |
|---|---|---|
| train | seen | `clips_per_class` each |
| validation | seen, other actors | a quarter of that each |
| test | unseen | `test_clips_per_class` each |

    builder = make_builder('/tmp/data', num_seen=12)
    builder.download_and_prepare()
    source = records.open_split(builder.data_dir, 'train')

`records` describes the metadata of every dataset. Here it also has `nuisance`:
split -> the fields of `stick_figure_nuisance.Nuisance` as columns, in record
order. TensorFlow is not needed.
"""

import collections
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent import futures
import dataclasses
import hashlib
import os
from typing import Any, TypeVar

import tensorflow_datasets as tfds

from zsar_jax.data.datasets import records
from zsar_jax.data.datasets import stick_figure_classes as classes
from zsar_jax.data.datasets import stick_figure_nuisance as nuisances
from zsar_jax.data.datasets import stick_figure_renderer as renderer

SPLITS = ('train', 'validation', 'test')
MAX_CLIPS_PER_CLASS = 10_000

_T = TypeVar('_T')
_R = TypeVar('_R')


def nuisance_seed(split: str, name: str, i: int) -> int:
  """Returns the nuisance seed of one clip; no two clips share one.

  It does not depend on the number of clips or classes. So a smaller dataset
  is a part of the larger one, clip for clip.

  Args:
    split: one of `SPLITS`; each has its own range of a million.
    name: class name.
    i: number of the clip in its class, below `MAX_CLIPS_PER_CLASS`.

  Returns:
    The seed. The generator hashes it, so seeds of one class have no more in
    common than seeds of two classes.
  """
  index = classes.CLASS_NAMES.index(name) * MAX_CLIPS_PER_CLASS + i
  return SPLITS.index(split) * 1_000_000 + index


@dataclasses.dataclass(kw_only=True, eq=False)
class StickFiguresConfig(tfds.core.BuilderConfig):
  """Settings of the rendered dataset. `name` follows from the values.

  Attributes:
    nuisance: share of the full nuisance, in [0, 1]; 0 is one plain figure.
    num_seen: number of seen classes, in [2, 24].
    clips_per_class: training clips per seen class. There are a quarter as
      many for validation, but at least one.
    test_clips_per_class: clips per unseen class.
    split_seed: draws which classes are unseen.
    size: picture width and height in pixels, even.
  """

  name: str = dataclasses.field(init=False)
  nuisance: float = 1.0
  num_seen: int = classes.MAX_SEEN
  clips_per_class: int = 24
  test_clips_per_class: int = 20
  split_seed: int = 0
  size: int = 64

  def __post_init__(self):
    if not 0.0 <= self.nuisance <= 1.0:
      raise ValueError(f'nuisance {self.nuisance} is not in [0, 1]')
    for field in ('clips_per_class', 'test_clips_per_class'):
      clips = getattr(self, field)
      if not 1 <= clips <= MAX_CLIPS_PER_CLASS:
        raise ValueError(
          f'{field} {clips} is not in [1, {MAX_CLIPS_PER_CLASS}]'
        )
    if self.size < 16 or self.size % 2:
      raise ValueError(f'size {self.size} is not an even number from 16 up')
    classes.class_split(self.split_seed, self.num_seen)
    self.name = (
      f'seen{self.num_seen}_clips{self.clips_per_class}'
      f'_test{self.test_clips_per_class}_nuisance{float(self.nuisance)}'
      f'_split{self.split_seed}_size{self.size}'
    )


@dataclasses.dataclass(frozen=True)
class Clip:
  """A clip before it is rendered."""

  split: str
  name: str
  nuisance: nuisances.Nuisance

  @property
  def id(self) -> str:
    """Unique name of the clip: split, class and seed."""
    return f'{self.split}/{self.name}/{self.nuisance.seed}'

  @property
  def group(self) -> str:
    """The clip's actor; none appears twice."""
    return f'seed{self.nuisance.seed}'


def clips(config: StickFiguresConfig) -> dict[str, list[Clip]]:
  """Lists all clips of a dataset by split, in record order."""
  seen, unseen = classes.class_split(config.split_seed, config.num_seen)
  classes_and_counts = {
    'train': (seen, config.clips_per_class),
    'validation': (seen, max(1, config.clips_per_class // 4)),
    'test': (unseen, config.test_clips_per_class),
  }
  return {
    split: [
      Clip(
        split,
        name,
        nuisances.draw_nuisance(nuisance_seed(split, name, i), config.nuisance),
      )
      for i in range(count)
      for name in names
    ]
    for split, (names, count) in classes_and_counts.items()
  }


def _index(split_clips: Sequence[Clip], size: int) -> records.VideoIndex:
  return records.VideoIndex(
    ids=tuple(clip.id for clip in split_clips),
    labels=tuple(clip.name for clip in split_clips),
    groups=tuple(clip.group for clip in split_clips),
    sources=('',) * len(split_clips),
    num_frames=tuple(clip.nuisance.num_frames for clip in split_clips),
    seconds=tuple(
      clip.nuisance.num_frames / clip.nuisance.fps for clip in split_clips
    ),
    digests=tuple(_digest(clip, size) for clip in split_clips),
  )


def _digest(clip: Clip, size: int) -> str:
  """Hashes all that the video is drawn from."""
  recipe = f'{clip.name} {size} {dataclasses.astuple(clip.nuisance)}'
  return hashlib.sha256(recipe.encode()).hexdigest()[:32]


def _nuisance_columns(split_clips: Sequence[Clip]) -> dict[str, list[Any]]:
  return {
    field.name: [getattr(clip.nuisance, field.name) for clip in split_clips]
    for field in dataclasses.fields(nuisances.Nuisance)
  }


def _map_ahead(
  function: Callable[[_T], _R], items: Iterable[_T]
) -> Iterator[_R]:
  """Maps in threads, in order, never far ahead of the consumer."""
  workers = min(8, os.cpu_count() or 1)
  pending = collections.deque()
  with futures.ThreadPoolExecutor(workers) as pool:
    for item in items:
      pending.append(pool.submit(function, item))
      if len(pending) > 2 * workers:
        yield pending.popleft().result()
    while pending:
      yield pending.popleft().result()


class StickFigures(tfds.core.GeneratorBasedBuilder):
  """TFDS builder of the clips; needs a config, so use `make_builder`."""

  VERSION = tfds.core.Version('2.0.0')
  RELEASE_NOTES = {'2.0.0': 'Durations and digests of the videos.'}
  builder_config: StickFiguresConfig
  # TFDS would look beside this file for checksums of downloads. There are
  # none, and looking needs `importlib_resources`.
  code_path = None

  def _info(self) -> tfds.core.DatasetInfo:
    seen, unseen = classes.class_split(
      self.builder_config.split_seed, self.builder_config.num_seen
    )
    return tfds.core.DatasetInfo(
      builder=self,
      description='Rendered stick figures doing what their class name says.',
      features=records.features(sorted(seen + unseen)),
      metadata=tfds.core.MetadataDict(),
      # The index in the metadata follows the order of generation.
      disable_shuffling=True,
    )

  def _split_generators(self, dl_manager):
    del dl_manager  # Nothing to download.
    config = self.builder_config
    seen, unseen = classes.class_split(config.split_seed, config.num_seen)
    by_split = clips(config)
    self.info.metadata.update(
      format_version=records.FORMAT_VERSION,
      storage={'kind': 'video'},
      domain=records.RENDERED_DOMAIN,
      dataset='stick_figures',
      videos={
        s: _index(c, config.size).to_columns() for s, c in by_split.items()
      },
      lists={},
      unreadable=[],
      missing=[],
      class_attributes={
        name: classes.class_attributes(name) for name in classes.CLASS_NAMES
      },
      seen_classes=list(seen),
      unseen_classes=list(unseen),
      nuisance={s: _nuisance_columns(c) for s, c in by_split.items()},
    )
    return {s: self._generate_examples(c) for s, c in by_split.items()}

  def _generate_examples(self, split_clips):
    size = self.builder_config.size

    def render(clip: Clip) -> bytes:
      return renderer.render_clip(
        classes.class_attributes(clip.name), clip.nuisance, size
      )

    videos = _map_ahead(render, split_clips)
    for i, (clip, video) in enumerate(zip(split_clips, videos, strict=True)):
      yield (
        i,
        {
          'video': video,
          'label': clip.name,
          'id': clip.id,
          'group': clip.group,
          'source': '',
        },
      )


def make_builder(
  data_dir: str | os.PathLike[str], **config_kwargs: Any
) -> StickFigures:
  """Makes a builder of array records, ready to `download_and_prepare`.

  Args:
    data_dir: the folder that holds all datasets.
    **config_kwargs: fields of `StickFiguresConfig`.

  Returns:
    The builder; its `data_dir` is what `records.open_split` takes.

  Raises:
    ValueError: `StickFiguresConfig` refuses a value.
  """
  return StickFigures(
    data_dir=os.fspath(data_dir),
    config=StickFiguresConfig(**config_kwargs),
    file_format='array_record',
  )
