"""Reads and writes safetensors files with a JSON header; checks shapes."""

from collections.abc import Mapping, Sequence
import dataclasses
import json
import os
import stat
from typing import Any

import numpy as np
import safetensors
from safetensors import SafetensorError
from safetensors import numpy as safetensors_numpy

from zsar_jax.data import class_names as class_names_lib
from zsar_jax.evaluation import id_lists


@dataclasses.dataclass(frozen=True)
class TensorFile:
  """The content of a file. Every error message begins with its path.

  Attributes:
    path: path of the file.
    tensors: name -> array.
    header: the JSON object of the header.
  """

  path: str
  tensors: Mapping[str, np.ndarray]
  header: Mapping[str, Any]

  def texts(self, key: str, required: bool = True) -> tuple[str, ...]:
    """Returns a list of texts from the header.

    Args:
      key: key of the header.
      required: raise an error if the key is missing.

    Returns:
      The texts; () if the key is missing.

    Raises:
      ValueError: the key is missing, or its value is no list of texts.
    """
    if key not in self.header and not required:
      return ()
    value = self.header.get(key)
    if not isinstance(value, list) or not all(
      isinstance(x, str) for x in value
    ):
      raise ValueError(
        f'{self.path}: header key {key!r} must be a list of texts'
      )
    return tuple(value)

  def class_names(self, key: str, required: bool = True) -> tuple[str, ...]:
    """Returns a list of class names from the header, in canonical spelling.

    Args:
      key: key of the header.
      required: raise an error if the key is missing.

    Returns:
      The names; () if the key is missing.

    Raises:
      ValueError: the value is no list of texts, or a name is empty or twice.
    """
    names = self.texts(key, required)
    if not names and not required:
      return ()
    return tuple(
      class_names_lib.canonical_names(names, f'{self.path}: classes')
    )

  def tensor(
    self, name: str, shape: Sequence[int | None], required: bool = True
  ) -> np.ndarray | None:
    """Returns a tensor after checking its shape.

    Args:
      name: name of the tensor.
      shape: the expected sizes; None for any size.
      required: raise an error if the tensor is missing.

    Returns:
      A float32 array; None if the tensor is missing.

    Raises:
      ValueError: the tensor is missing, or has another shape.
    """
    if name not in self.tensors:
      if required:
        raise ValueError(f'{self.path}: tensor {name!r} is missing')
      return None
    x = self.tensors[name]
    right = x.ndim == len(shape) and all(
      want is None or want == have
      for want, have in zip(shape, x.shape, strict=True)
    )
    if not right:
      wanted = ' x '.join('any' if n is None else str(n) for n in shape)
      raise ValueError(
        f'{self.path}: tensor {name!r} is {" x ".join(map(str, x.shape))}, '
        f'expected {wanted}'
      )
    return np.asarray(x, np.float32)

  def unit_rows(
    self, name: str, shape: Sequence[int | None], ids: Sequence[str]
  ) -> np.ndarray:
    """Returns a tensor, normalised along its last axis.

    Args:
      name: name of the tensor.
      shape: the expected sizes; None for any size.
      ids: the video or class of each row, for the message.

    Returns:
      float32, unit vectors.

    Raises:
      ValueError: see `tensor`; or a vector is zero or not finite.
    """
    x = self.tensor(name, shape)
    norm = np.linalg.norm(x, axis=-1, keepdims=True)
    bad = ~(np.isfinite(norm) & (norm > 0))
    bad = bad.reshape(len(x), -1).any(axis=1)
    if bad.any():
      raise ValueError(
        f'{self.path}: {name} of {int(bad.sum())} rows are zero or not finite: '
        f'{id_lists.some([ids[i] for i in np.flatnonzero(bad)])}'
      )
    return x / norm


def write(
  path: str,
  tensors: Mapping[str, np.ndarray],
  header: Mapping[str, Any],
  kind: str,
) -> None:
  """Writes a file whole or not at all.

  Args:
    path: path of the file; an existing file is replaced.
    tensors: name -> array.
    header: JSON-able.
    kind: name of the file's format; `read` checks it.

  Raises:
    OSError: the file cannot be written.
  """
  save(path, tensors, {'format': kind, 'header': json.dumps(header)})


def save(
  path: str,
  tensors: Mapping[str, np.ndarray],
  metadata: Mapping[str, str] | None = None,
) -> None:
  """Writes a safetensors file whole or not at all, readable as others are.

  Args:
    path: path of the file; an existing file is replaced.
    tensors: name -> array.
    metadata: of the header; None for none.

  Raises:
    OSError: the file cannot be written.
  """
  temporary = f'{path}.tmp'
  # `save_file` lets only the owner read; other files follow the umask.
  with open(temporary, 'wb') as f:
    mode = stat.S_IMODE(os.fstat(f.fileno()).st_mode)
  # ascontiguousarray would turn scalars into vectors.
  safetensors_numpy.save_file(
    {name: np.asarray(x, order='C') for name, x in tensors.items()},
    temporary,
    metadata=metadata,
  )
  os.chmod(temporary, mode)
  with open(temporary, 'rb') as f:
    os.fsync(f.fileno())
  os.replace(temporary, path)


def read(path: str, kind: str) -> TensorFile:
  """Reads a file that `write` or another framework wrote.

  Args:
    path: path of the file.
    kind: the expected name of the file's format.

  Returns:
    The content.

  Raises:
    FileNotFoundError: no such file.
    ValueError: the file is no safetensors file, has another format, or its
      header is damaged.
  """
  if not os.path.exists(path):
    raise FileNotFoundError(f'{path} does not exist')
  try:
    with safetensors.safe_open(path, framework='numpy') as f:
      metadata = f.metadata() or {}
      if metadata.get('format') != kind:
        raise ValueError(
          f'{path}: its header has format {metadata.get("format")!r}, '
          f'expected {kind!r}'
        )
      header = json.loads(metadata.get('header', ''))
      tensors = {name: f.get_tensor(name) for name in f.keys()}
  except SafetensorError as e:
    raise ValueError(f'{path} is not a safetensors file: {e}') from e
  except json.JSONDecodeError as e:
    raise ValueError(f'{path}: its header is not JSON: {e}') from e
  if not isinstance(header, dict):
    raise ValueError(f'{path}: its header is not a JSON object')
  return TensorFile(path, tensors, header)
