import dataclasses

import numpy as np
import pytest
from safetensors import numpy as safetensors_numpy

from zsar_jax.inference import prototype_bank

BANK = prototype_bank.PrototypeBank(
  seen_classes=('rowing', 'jōdō', '跳舞'),
  seen_prototypes=np.eye(3, 4, dtype=np.float32),
  class_embeddings=np.eye(3, 4, k=1, dtype=np.float32),
  counts=np.array([3, 1, 2]),
  domain='filmed video',
  protocol='set/1',
  preprocessing='{"size": 48}',
  step=500,
)


def test_bank_is_read_back_bit_equal(tmp_path):
  path = str(tmp_path / 'bank.safetensors')
  prototype_bank.save_bank(BANK, path)
  back = prototype_bank.load_bank(path)
  for field in dataclasses.fields(BANK):
    was, now = getattr(BANK, field.name), getattr(back, field.name)
    if isinstance(was, np.ndarray):
      assert now.dtype == was.dtype
      np.testing.assert_array_equal(now, was)
    else:
      assert now == was and type(now) is type(was), field.name
  assert [p.name for p in tmp_path.iterdir()] == ['bank.safetensors']


def test_arrays_that_are_views_are_saved_as_they_read(tmp_path):
  path = str(tmp_path / 'bank.safetensors')
  transposed = np.arange(1, 13, dtype=np.float32).reshape(4, 3).T
  transposed = transposed / np.linalg.norm(transposed, axis=1, keepdims=True)
  assert not transposed.flags.c_contiguous
  prototype_bank.save_bank(
    dataclasses.replace(BANK, seen_prototypes=transposed), path
  )
  np.testing.assert_array_equal(
    prototype_bank.load_bank(path).seen_prototypes, transposed
  )


def test_missing_bank_raises_and_says_why(tmp_path):
  with pytest.raises(FileNotFoundError, match='at the end of training'):
    prototype_bank.load_bank(str(tmp_path / 'bank.safetensors'))


def test_a_folder_is_no_bank(tmp_path):
  with pytest.raises(IsADirectoryError, match='is its bank.safetensors'):
    prototype_bank.load_bank(str(tmp_path))


@pytest.mark.parametrize('content', [b'', b'no tensors here', b'\x00' * 100])
def test_file_of_another_kind_raises(content, tmp_path):
  path = tmp_path / 'bank.safetensors'
  path.write_bytes(content)
  with pytest.raises(ValueError, match='is not a safetensors file'):
    prototype_bank.load_bank(str(path))


def test_truncated_bank_raises(tmp_path):
  path = tmp_path / 'bank.safetensors'
  prototype_bank.save_bank(BANK, str(path))
  path.write_bytes(path.read_bytes()[:-10])
  with pytest.raises(ValueError, match='is not a safetensors file'):
    prototype_bank.load_bank(str(path))


def test_tensors_that_are_no_bank_raise(tmp_path):
  path = str(tmp_path / 'weights.safetensors')
  safetensors_numpy.save_file({'kernel': np.zeros(3)}, path)
  with pytest.raises(ValueError, match="is not a 'zsar_jax prototype bank"):
    prototype_bank.load_bank(path)
