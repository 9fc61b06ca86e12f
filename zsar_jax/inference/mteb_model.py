"""Wraps a model for mteb's zero-shot tasks on videos (extra `mteb`).

```python
import mteb
import zsar_jax
from zsar_jax.inference import mteb_model

model = mteb_model.MtebModel(zsar_jax.load('runs/open'))
tasks = mteb.get_tasks(tasks=['HMDB51ZeroShot'])
mteb.evaluate(model, tasks)
```

mteb compares the embedding of a video with the embedding of each label. The
wrapper returns the mean over views for a video, and the class's prototype for a
label. Their product is the score of semantic transfer. Without a bank, it
returns the embedding of the name for a label.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
import contextlib
import os
import re
import tempfile
from typing import Any

import numpy as np

from zsar_jax.data import class_names, clips, user_videos, video_transforms
from zsar_jax.inference import action_model, candidates

# mteb's tasks put names into a sentence; our encoders have their own prompts.
_PROMPT = re.compile(r'^\s*an? (video|clip|photo|image) of ', re.IGNORECASE)


class MtebModel:
  """Implements `EncoderProtocol` of mteb, and never imports torch itself."""

  def __init__(self, model: action_model.ActionModel, name: str = ''):
    """Wraps a model.

    Args:
      model: encoders, with or without a bank. Its own classes are not used.
      name: name in mteb's result files, `organisation/name`; by default
        `zsar_jax/` and the hash of the weights.
    """
    self._recognizer, self._bank = model.recognizer, model.bank
    self._name = name or f'zsar_jax/{model.recognizer.weights_hash}'

  def encode(
    self, inputs: Iterable[Mapping[str, Any]], **unused: Any
  ) -> np.ndarray:
    """Embeds videos or labels.

    Args:
      inputs: batches, with a list of videos under 'video', or of labels under
        'text'. A video is a decoder such as torchcodec's `VideoDecoder`, the
        path of a file, or a dict with `path` or `bytes`.
      **unused: mteb's arguments about task and split.

    Returns:
      float32 [n d].

    Raises:
      ValueError: a batch has neither videos nor labels.
      VideoError: a video cannot be used.
    """
    del unused
    videos, labels = [], []
    for batch in inputs:
      if 'video' in batch:
        videos += [self._embed_video(video) for video in batch['video']]
      elif 'text' in batch:
        labels += batch['text']
      else:
        raise ValueError(
          f'expected videos or labels, found {sorted(batch)}: only tasks with '
          'the modalities video and text can be run'
        )
    if videos and labels:
      raise ValueError('expected videos or labels, found both')
    return np.stack(videos) if videos else self._embed_labels(labels)

  def similarity(self, embeddings1: Any, embeddings2: Any) -> np.ndarray:
    """Returns the scores of all pairs, float32 [n m]: plain dot products."""
    return np.asarray(embeddings1) @ np.asarray(embeddings2).T

  def similarity_pairwise(
    self, embeddings1: Any, embeddings2: Any
  ) -> np.ndarray:
    """Returns the scores of corresponding rows, float32 [n]."""
    return np.sum(np.asarray(embeddings1) * np.asarray(embeddings2), axis=-1)

  @property
  def mteb_model_meta(self) -> Any:
    """An `mteb.models.ModelMeta` with the name of the weights."""
    from mteb.models import model_meta

    return model_meta.ModelMeta.create_empty(
      {
        'name': self._name,
        'revision': self._recognizer.weights_hash,
        'framework': ['JAX'],
        'modalities': ['video', 'text'],
        'similarity_fn_name': 'dot',
      }
    )

  def _embed_labels(self, labels: Sequence[str]) -> np.ndarray:
    """Returns prototypes [n d]; without a bank, class embeddings."""
    of_label = [
      class_names.canonical_names([_PROMPT.sub('', label)], 'labels')[0]
      for label in labels
    ]
    names = list(dict.fromkeys(of_label))
    chosen = candidates.Candidates(self._recognizer, self._bank)
    chosen.clear()
    chosen.add(names, self._recognizer)
    rows = chosen.text if self._bank is None else chosen.prototypes
    return np.asarray(rows, np.float32)[[names.index(n) for n in of_label]]

  def _embed_video(self, video: Any) -> np.ndarray:
    """Returns the mean embedding [d] of a video's views."""
    views = self._views(video)
    embeddings, _ = self._recognizer.encode_videos(views[None])
    return np.mean(embeddings[0], axis=0, dtype=np.float32)

  def _views(self, video: Any) -> np.ndarray:
    """Returns a video's clips, uint8 [v t size size 3]."""
    config = self._recognizer.config.zeroshot
    if hasattr(video, 'get_frames_at'):
      return _decoded_views(
        video, self._recognizer.prep, config.num_views, config.num_crops
      )
    with _file_of(video) as path:
      return user_videos.read_views(
        path, self._recognizer.prep, config.num_views, config.num_crops
      ).clips


def _decoded_views(video, prep, num_views: int, num_crops: int) -> np.ndarray:
  """Returns the views of a decoder with `metadata` and `get_frames_at`."""
  facts = video.metadata
  times = np.arange(facts.num_frames) / facts.average_fps
  indices = clips.sample_views(
    times, facts.num_frames / facts.average_fps, prep.clip_sampling, num_views
  )
  wanted, back = np.unique(indices, return_inverse=True)
  frames = np.asarray(video.get_frames_at(wanted.tolist()).data)
  crops = np.stack(
    [
      video_transforms.frame_views(
        np.ascontiguousarray(frame.transpose(1, 2, 0)), prep, num_crops
      )
      for frame in frames
    ]
  )  # [n crops size size 3]
  views = crops[back.reshape(indices.shape)].swapaxes(1, 2)
  return views.reshape(-1, *views.shape[2:])


@contextlib.contextmanager
def _file_of(video: Any) -> Iterator[str]:
  """Yields the path of a video; writes bytes to a temporary file."""
  if isinstance(video, str):
    yield video
    return
  if not isinstance(video, Mapping) or not (
    video.get('path') or video.get('bytes')
  ):
    raise ValueError(
      f'a video is a {type(video).__name__}: expected a decoder with '
      '`get_frames_at`, a path, or a dict with `path` or `bytes`'
    )
  if not video.get('bytes'):
    yield video['path']
    return
  suffix = os.path.splitext(video.get('path') or '')[1]
  with tempfile.NamedTemporaryFile(suffix=suffix) as file:
    file.write(video['bytes'])
    file.flush()
    yield file.name
