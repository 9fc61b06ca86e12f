"""What embeds videos and class names: the one interface of inference.

Two make it: `saved_encoders` from a trained run, and `public_folders` from
public weights. A bank, a prediction and an evaluation take either.
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
  """A pure function that embeds, for use outside of this project.

  Attributes:
    function: (params, *inputs) -> float32 [b d], unit vectors; computes in
      float32, with operations that every kind of device has.
    params: nested dicts of arrays; the function may need a part of them.
    inputs: name -> shape without the batch axis, and dtype.
  """

  function: Callable[..., jax.Array]
  params: Mapping[str, Any]
  inputs: Mapping[str, jax.ShapeDtypeStruct]


class Recognizer(abc.ABC):
  """Encoders with weights.

  Attributes:
    config: a config with the sections `data`, `names`, `preprocessing` and
      `zeroshot`.
    prep: preprocessing that belongs to the weights.
    texts: turns class names into tokens.
    seen_classes: canonical names that the video side was trained on; () where
      nobody knows them.
    step: of the weights; 0 where they were not trained here.
    joint: whether videos and names share one space.
  """

  config: ml_collections.ConfigDict
  prep: preprocessing.Preprocessing
  texts: class_texts.ClassTexts
  seen_classes: tuple[str, ...]
  step: int
  joint: bool

  @property
  @abc.abstractmethod
  def weights_hash(self) -> str:
    """12 hex digits over weights, preprocessing and tokenisation."""

  @property
  @abc.abstractmethod
  def origin(self) -> str:
    """The public weights behind the encoders; 'random' where there are none.

    `side=name:fingerprint`, with commas. Weights of the Hub are named by id and
    commit, `hf:org/name@commit`, others by their folder.
    """

  @property
  def read_elsewhere(self) -> bool:
    """Whether the text side learnt words from more than the seen names."""
    return re.search(r'\b(text|clip)=', self.origin) is not None

  @abc.abstractmethod
  def encode_class_names(self, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Embeds canonical class names: `embedding` [c e], unit vectors."""

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
    """Embeds clips, and matches them with names where that can be done.

    Args:
      clips_of_videos: uint8 [b v t h w 3], v views of each video.
      names: canonical class names; may be none.

    Returns:
      Embeddings [b v d], unit vectors, and match logits [b c], mean over
      views; [b 0] where nothing compares videos with names.
    """

  @property
  @abc.abstractmethod
  def encoders(self) -> embedding.Encoders:
    """The functions and arrays that an evaluation needs."""

  @property
  @abc.abstractmethod
  def programs(self) -> dict[str, Program]:
    """What is exported: `video` of `clips` uint8 [b t h w 3], and `text`.

    `text` embeds one text of a class, from `ids` int32 [b l] and `mask` bool
    [b l].
    """

  @property
  @abc.abstractmethod
  def transfer_settings(self) -> methods.TransferSettings:
    """The settings of the semantic transfer, where nothing chose others."""

  def _make_programs(
    self, video: tuple[Callable[..., Any], Any], text: tuple[Any, Any]
  ) -> dict[str, Program]:
    """Returns programs of (function, params) of both sides."""
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
    """What embeds names as before training; None where nothing does."""
    return None
