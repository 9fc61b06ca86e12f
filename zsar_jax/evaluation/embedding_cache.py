"""Caches embeddings on disk, so that each video is encoded once.

A cache is a folder for one combination of weights, preprocessing and dataset.
Its name ends with a hash of these, so another model never reads it. Inside,
each kind of clip (`clips`, `first_frames`, `shuffled`) has a folder of shards.
A shard is a safetensors file, written whole or not at all, so an interrupted
run continues after the last shard. It holds arrays of some videos. Its header
lists the videos and the class names of their match logits.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import dataclasses
import hashlib
import json
import os
import time
from typing import Any

import numpy as np
import safetensors
from safetensors import SafetensorError

from zsar_jax.evaluation import tensor_files
from zsar_jax.system import json_files

_FORMAT = 'zsar_jax embedding cache 1'
# A shard is written after this many videos or seconds.
_SHARD_VIDEOS = 2048
_SHARD_SECONDS = 60.0
MATCH = 'match'
TOKENS = 'tokens'

Arrays = dict[str, np.ndarray]
Key = tuple[str, int]


def identity_hash(identity: Mapping[str, Any]) -> str:
  """Hashes an identity to 12 hex digits."""
  text = json.dumps(identity, sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()[:12]


@dataclasses.dataclass
class _Shard:
  path: str
  keys: list[Key]
  names: tuple[str, ...]
  tensors: tuple[str, ...]


def _read_header(path: str) -> _Shard:
  with safetensors.safe_open(path, framework='numpy') as f:
    metadata = f.metadata() or {}
    if metadata.get('format') != _FORMAT:
      raise ValueError(f'{path} is not a {_FORMAT!r} file')
    header = json.loads(metadata['header'])
    return _Shard(
      path,
      [(split, int(row)) for split, row in header['videos']],
      tuple(header['names']),
      tuple(f.keys()),
    )


class EmbeddingCache:
  """The embeddings of one dataset's videos by one set of encoders.

  Attributes:
    folder: folder of the cache.
  """

  def __init__(self, parent: str, name: str, identity: Mapping[str, Any]):
    """Opens a cache; makes it if it is missing.

    Args:
      parent: folder of all caches of a run.
      name: name of the dataset; the folder's name begins with it.
      identity: everything that determines an embedding: hashes of weights and
        data, preprocessing, views; JSON-able.

    Raises:
      OSError: the folder cannot be written.
    """
    self.folder = os.path.join(parent, f'{name}-{identity_hash(identity)}')
    os.makedirs(self.folder, exist_ok=True)
    path = os.path.join(self.folder, 'identity.json')
    if not os.path.exists(path):
      json_files.write(identity, path)

  def _shards(self, kind: str) -> list[_Shard]:
    folder = os.path.join(self.folder, kind)
    if not os.path.isdir(folder):
      return []
    shards = []
    for name in sorted(os.listdir(folder)):
      if name.endswith('.safetensors'):
        try:
          shards.append(_read_header(os.path.join(folder, name)))
        except (SafetensorError, ValueError, KeyError, TypeError) as e:
          raise ValueError(
            f'{os.path.join(folder, name)} is damaged ({e}): delete '
            f'{self.folder} to embed the videos again'
          ) from e
    return shards

  def missing(
    self,
    kind: str,
    keys: Sequence[Key],
    names: Sequence[str] = (),
    tokens: bool = False,
  ) -> tuple[list[int], list[str]]:
    """Finds the videos and names that the cache lacks.

    Args:
      kind: kind of clip.
      keys: (split, row) of each wanted video.
      names: class names of the wanted match logits.
      tokens: whether video tokens are wanted too.

    Returns:
      Positions of the videos that no shard holds, and the names for which
      some shard has neither logits nor the tokens to compute them.
    """
    stored, unknown = set(), set()
    for shard in self._shards(kind):
      if tokens and TOKENS not in shard.tensors:
        continue
      stored.update(shard.keys)
      if TOKENS not in shard.tensors:
        unknown.update(set(names) - set(shard.names))
    absent = [i for i, key in enumerate(keys) if key not in stored]
    return absent, [name for name in names if name in unknown]

  def embed(
    self,
    kind: str,
    keys: Sequence[Key],
    names: Sequence[str],
    compute: Callable[[list[int]], Iterator[Arrays]],
    match: Callable[[np.ndarray, Sequence[str]], np.ndarray] | None = None,
    tokens: bool = False,
    stored_names: Sequence[str] | None = None,
  ) -> Arrays:
    """Reads the arrays of videos; computes and stores those that are missing.

    Args:
      kind: kind of clip.
      keys: (split, row) of each video, all different.
      names: class names of the wanted match logits.
      compute: positions of videos -> batches of their arrays, in order. A
        batch has `match` [b c] for `stored_names`, and `tokens` [b v n e] if
        wanted.
      match: (tokens, names) -> logits, for names that a shard lacks.
      tokens: also store the tokens.
      stored_names: names that `compute` matches with; None for `names`.

    Returns:
      Arrays by name, in the order of the keys. `match` is missing if some
      stored videos have no logits for the names; see `missing`.

    Raises:
      ValueError: a damaged shard.
      OSError: a shard cannot be written.
    """
    absent, _ = self.missing(kind, keys, (), tokens)
    if absent:
      stored = names if stored_names is None else stored_names
      self._store(kind, [keys[i] for i in absent], stored, compute(absent))
    return self._gather(kind, keys, names, match)

  def _store(self, kind, keys, names, batches) -> None:
    """Writes shards while batches arrive."""
    folder = os.path.join(self.folder, kind)
    os.makedirs(folder, exist_ok=True)
    number = len(self._shards(kind))
    waiting, count, done, since = [], 0, 0, time.monotonic()
    for batch in batches:
      waiting.append(batch)
      count += len(next(iter(batch.values())))
      full = count >= _SHARD_VIDEOS
      if full or time.monotonic() - since > _SHARD_SECONDS:
        self._write(folder, number, keys[done : done + count], names, waiting)
        number, done = number + 1, done + count
        waiting, count, since = [], 0, time.monotonic()
    if waiting:
      self._write(folder, number, keys[done : done + count], names, waiting)

  def _write(self, folder, number, keys, names, batches) -> None:
    arrays = {
      name: np.concatenate([batch[name] for batch in batches])
      for name in batches[0]
    }
    header = {'videos': [list(key) for key in keys], 'names': list(names)}
    path = os.path.join(folder, f'{number:05d}.safetensors')
    tensor_files.write(path, arrays, header, _FORMAT)

  def _gather(self, kind, keys, names, match) -> Arrays:
    """Reads the arrays; a later shard replaces a video's earlier arrays."""
    place = {key: i for i, key in enumerate(keys)}
    out: Arrays = {}
    has_match = True
    for shard in self._shards(kind):
      at = [i for i, key in enumerate(shard.keys) if key in place]
      if not at:
        continue
      to = [place[shard.keys[i]] for i in at]
      with safetensors.safe_open(shard.path, framework='numpy') as f:
        arrays = {
          name: f.get_tensor(name)[at]
          for name in shard.tensors
          if name not in (MATCH, TOKENS)
        }
        stored = MATCH in shard.tensors
        if stored and set(names) <= set(shard.names):
          columns = [shard.names.index(name) for name in names]
          arrays[MATCH] = f.get_tensor(MATCH)[at][:, columns]
        elif TOKENS in shard.tensors and match is not None:
          arrays[MATCH] = match(f.get_tensor(TOKENS)[at], names)
        else:
          has_match = False
      for name, x in arrays.items():
        if name not in out:
          out[name] = np.zeros((len(keys), *x.shape[1:]), x.dtype)
        out[name][to] = x
    if not has_match:
      out.pop(MATCH, None)
    return out
