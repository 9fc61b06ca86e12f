"""The interface of encoders: they embed videos and class names.

`saved_encoders` makes encoders from a trained run, `public_folders` from public
weights. Banks, predictions and evaluations work with both.
"""

import abc
from collections.abc import Callable, Mapping, Sequence
import dataclasses
import re
from typing import Any

import jax
import ml_collections
import numpy as np

from zsar_jax.data import preprocessing
from zsar_jax.evaluation import embedding, methods
from zsar_jax.inference import class_texts


@dataclasses.dataclass(frozen=True)
class Program:
  """A pure function that embeds, for export to other programs.

  Attributes:
    function: (params, *inputs) -> float32 [b d], unit vectors. It computes in
      float32, with operations that every kind of device has.
    params: nested dicts of arrays; the function may use only some of them.
    inputs: name -> shape (without the batch axis) and dtype.
  """

  function: Callable[..., jax.Array]
  params: Mapping[str, Any]
  inputs: Mapping[str, jax.ShapeDtypeStruct]


def pad_batch(batch: np.ndarray, size: int) -> np.ndarray:
  """Repeats the last row of a batch [b ...] until it has `size` rows."""
  padding = [(0, size - len(batch))] + [(0, 0)] * (batch.ndim - 1)
  return np.pad(batch, padding, mode='edge')


class Recognizer(abc.ABC):
  """Encoders with weights.

  Attributes:
    config: a config with the sections `data`, `names`, `preprocessing` and
      `zeroshot`.
    prep: preprocessing of the weights.
    texts: turns class names into tokens.
    seen_classes: canonical names of the classes that the video encoder was
      trained on; () if unknown.
    step: training step of the weights; 0 for public weights.
    joint: whether videos and names share one space.
    centred: whether a bank's prototypes lack what all videos share.
    source: id and commit of the repository that the encoders were read from,
      `hf:org/name@commit`; '' for a folder of this machine.
  """

  source = ''
  config: ml_collections.ConfigDict
  prep: preprocessing.Preprocessing
  texts: class_texts.ClassTexts
  seen_classes: tuple[str, ...]
  step: int
  joint: bool
  centred: bool

  @property
  @abc.abstractmethod
  def weights_hash(self) -> str:
    """Hash of weights, preprocessing and tokenisation, 12 hex digits."""

  @property
  @abc.abstractmethod
  def origin(self) -> str:
    """The public weights behind the encoders; 'random' if there are none.

    Its form is `side=name:fingerprint`, separated by commas. The name is
    `hf:org/name@commit` for weights from the Hub, else the folder's name.
    """

  @property
  def trained_on(self) -> tuple[str, ...]:
    """`seen_classes`, and those of the model that training started from."""
    started_with = self.config.init.get('seen_classes', ())
    return tuple(dict.fromkeys((*self.seen_classes, *started_with)))

  @property
  def read_elsewhere(self) -> bool:
    """Whether the text encoder has public weights, so that it knows words."""
    return re.search(r'\b(text|clip|dual)=', self.origin) is not None

  @abc.abstractmethod
  def encode_class_names(self, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Embeds class names.

    Args:
      names: canonical class names.

    Returns:
      `embedding` [c e], unit vectors.
    """

  @abc.abstractmethod
  def with_descriptions(
    self, descriptions: Mapping[str, Sequence[str]]
  ) -> 'Recognizer':
    """Returns the same encoders with further descriptions of classes.

    `weights_hash` stays: the seen classes of a bank were embedded before.

    Args:
      descriptions: canonical class name -> sentences, in place of those that
        the class has.
    """

  @abc.abstractmethod
  def encode_videos(
    self, clips_of_videos: np.ndarray, names: Sequence[str] = ()
  ) -> tuple[np.ndarray, np.ndarray]:
    """Embeds clips, and matches them with names if the encoders can.

    Args:
      clips_of_videos: uint8 [b v t h w 3], v views of each video.
      names: canonical class names; may be empty.

    Returns:
      Embeddings [b v d], unit vectors; and match logits [b c], mean over
      views, or [b 0] if the encoders cannot match.
    """

  @property
  @abc.abstractmethod
  def encoders(self) -> embedding.Encoders:
    """The functions and arrays that an evaluation needs."""

  @property
  @abc.abstractmethod
  def programs(self) -> dict[str, Program]:
    """The functions to export: `video` and `text`.

    `video` embeds `clips`, uint8 [b t h w 3]. `text` embeds texts from `ids`
    int32 [b l] and `mask` bool [b l].
    """

  @property
  @abc.abstractmethod
  def transfer_settings(self) -> methods.TransferSettings:
    """The default settings of the semantic transfer."""

  def _make_programs(
    self, video: tuple[Callable[..., Any], Any], text: tuple[Any, Any]
  ) -> dict[str, Program]:
    """Makes both programs from (function, params) of each side."""
    clip = (self.prep.num_frames, self.prep.size, self.prep.size, 3)
    tokens = (self.prep.token_length,)
    return {
      'video': Program(*video, {'clips': jax.ShapeDtypeStruct(clip, 'uint8')}),
      'text': Program(
        *text,
        {
          'ids': jax.ShapeDtypeStruct(tokens, 'int32'),
          'mask': jax.ShapeDtypeStruct(tokens, 'bool'),
        },
      ),
    }

  def initial_embeddings(
    self,
  ) -> Callable[[Sequence[str]], np.ndarray] | None:
    """Returns a function that embeds names as before training, or None."""
    return None
