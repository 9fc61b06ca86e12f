"""How pixels and names become model inputs; the settings belong to the weights.

Every checkpoint and prototype bank saves them. So weights are never used with
another size, normalisation, frame rate or vocabulary.
"""

import dataclasses
import json
from typing import Any

from zsar_jax.data import clips

SAMPLINGS = ('uniform', 'segment', 'ends', 'dense')
INPUTS = (
  'rgb',
  'rgb+difference',
  'grey',
  'grey+difference',
  'contrast+difference',
  'contrast+motion',
)


RESIZES = ('area', 'bilinear', 'bicubic')
CROPS = ('square', 'centre', 'whole')
# Fields that files of earlier versions lack, and what those did. JSON leaves
# them out where they say the same, so that hashes of old files still hold.
ADDED = {'resize': 'area', 'crop': 'square'}


@dataclasses.dataclass(frozen=True)
class Preprocessing:
  """All settings between a video file and the model.

  Attributes:
    size: height and width of a clip in pixels.
    short_side: short side of the resized frames in pixels, before the crop to
      `size`.
    mean: per-channel mean of pixels in [0, 1]; it is subtracted first.
    std: per-channel deviation; it divides after that.
    num_frames: frames in a clip.
    sampling: 'uniform', 'segment' or 'ends' over the whole video, or 'dense'
      at `frame_stride`; see `data.clips`.
    frame_stride: frames between two sampled ones, counted at `sample_fps`;
      dense sampling only.
    sample_fps: nominal frame rate in 1/s that `frame_stride` counts at.
    inputs: channels that the model sees; see `pixel_ops.to_inputs`.
    token_length: token ids per class name.
    vocabulary_hash: hash of the vocabulary of the ids.
    resize: how frames are resized: 'area' averages pixels; 'bilinear' and
      'bicubic' do it with antialiasing, as most public weights were trained.
    crop: the part of a frame that the model sees. 'square' is the largest
      square, resized to `size`; 'centre' cuts `size` out of the middle of the
      frame with `short_side`; 'whole' resizes all of it to `size`, whatever
      its shape.
  """

  size: int
  short_side: int
  mean: tuple[float, float, float]
  std: tuple[float, float, float]
  num_frames: int
  sampling: str
  frame_stride: int
  sample_fps: float
  inputs: str
  token_length: int
  vocabulary_hash: str
  resize: str = ADDED['resize']
  crop: str = ADDED['crop']

  def __post_init__(self):
    for name, value, known in (
      ('sampling', self.sampling, SAMPLINGS),
      ('inputs', self.inputs, INPUTS),
      ('resize', self.resize, RESIZES),
      ('crop', self.crop, CROPS),
    ):
      if value not in known:
        raise ValueError(
          f'preprocessing.{name}={value!r} is not one of {known}'
        )
    for name in ('size', 'num_frames', 'frame_stride', 'sample_fps'):
      if getattr(self, name) <= 0:
        raise ValueError(
          f'preprocessing.{name} must be positive, got {getattr(self, name)}'
        )
    if self.short_side < self.size:
      raise ValueError(
        f'preprocessing.short_side={self.short_side} is less than '
        f'preprocessing.size={self.size}'
      )
    if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
      raise ValueError(
        'preprocessing.mean and preprocessing.std need three numbers each '
        f'and std positive ones, got {self.mean} and {self.std}'
      )

  @property
  def clip_sampling(self) -> clips.Sampling:
    """The sampling of a clip's frames."""
    return clips.Sampling(
      self.sampling, self.num_frames, self.frame_stride, self.sample_fps
    )

  def to_json(self) -> str:
    """Writes JSON text; `from_json` is its inverse."""
    values = dataclasses.asdict(self)
    for key, before in ADDED.items():
      if values[key] == before:
        del values[key]
    return json.dumps(values, indent=2)

  @classmethod
  def from_dict(cls, values: dict[str, Any]) -> 'Preprocessing':
    """Makes a `Preprocessing` of JSON-like values: lists become tuples."""
    values = {
      k: tuple(v) if isinstance(v, list) else v for k, v in values.items()
    }
    return cls(**values)

  @classmethod
  def from_json(cls, text: str) -> 'Preprocessing':
    """Reads JSON text; the inverse of `to_json`."""
    return cls.from_dict(json.loads(text))
