"""The prototype bank: what inference needs beside the encoders, in one file.

A safetensors file: seen prototypes, their class embeddings and video counts
as tensors; names, domain, preprocessing, vocabulary and protocol as JSON in
the header. Nothing in it is unpickled.
"""

import dataclasses
import json
import os

import numpy as np
import safetensors
from safetensors import SafetensorError
from safetensors import numpy as safetensors_numpy

_FORMAT = 'zsar_jax prototype bank 1'


@dataclasses.dataclass(frozen=True)
class PrototypeBank:
  """Seen prototypes and where they come from.

  Attributes:
    seen_classes: names, in the order of the arrays.
    seen_prototypes: [s d], unit vectors.
    class_embeddings: [s d], unit vectors.
    counts: int [s], videos that each prototype is the mean of.
    domain: what the training pictures are.
    protocol: id of the protocol that the prototypes belong to.
    preprocessing: JSON text of `Preprocessing`.
    step: of the checkpoint whose encoders made the arrays.
  """

  seen_classes: tuple[str, ...]
  seen_prototypes: np.ndarray
  class_embeddings: np.ndarray
  counts: np.ndarray
  domain: str
  protocol: str
  preprocessing: str
  step: int


def save_bank(bank: PrototypeBank, path: str) -> None:
  """Writes a bank whole or not at all."""
  header = {
    'seen_classes': list(bank.seen_classes),
    'domain': bank.domain,
    'protocol': bank.protocol,
    'preprocessing': bank.preprocessing,
    'step': bank.step,
  }
  arrays = ('seen_prototypes', 'class_embeddings', 'counts')
  safetensors_numpy.save_file(
    {name: np.ascontiguousarray(getattr(bank, name)) for name in arrays},
    f'{path}.tmp',
    metadata={'format': _FORMAT, 'header': json.dumps(header)},
  )
  os.replace(f'{path}.tmp', path)


def load_bank(path: str) -> PrototypeBank:
  """Reads a bank.

  Args:
    path: written by `save_bank`.

  Returns:
    The bank.

  Raises:
    FileNotFoundError: no such file.
    ValueError: not a bank.
  """
  if not os.path.exists(path):
    raise FileNotFoundError(
      f'{path} does not exist: the run has not finished training'
    )
  try:
    with safetensors.safe_open(path, framework='numpy') as f:
      metadata = f.metadata() or {}
      if metadata.get('format') != _FORMAT:
        raise ValueError(f'{path} is not a {_FORMAT!r} file')
      header = json.loads(metadata['header'])
      arrays = {name: f.get_tensor(name) for name in f.keys()}
  except SafetensorError as e:
    raise ValueError(f'{path} is not a safetensors file: {e}') from e
  return PrototypeBank(
    **{**header, 'seen_classes': tuple(header['seen_classes'])}, **arrays
  )
