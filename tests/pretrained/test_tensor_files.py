import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from tests.pretrained import tiny_weights
from zsar_jax.pretrained import bert, clip, directory, tensor_files

HALVES = pytest.mark.parametrize('dtype', [jnp.bfloat16, np.float16])


@HALVES
def test_every_half_precision_number_is_read_exactly(tmp_path, dtype):
  bits = np.arange(2**16, dtype=np.uint16)
  halves = bits.view(dtype)
  path = str(tmp_path / 'halves.safetensors')
  safetensors.numpy.save_file({'x': halves}, path)
  read = tensor_files.read_file(path)['x']
  assert read.dtype == np.float32
  numbers = ~np.isnan(read)
  assert numbers.sum() > 60000
  # Back and forth is the same bits, so nothing was rounded.
  np.testing.assert_array_equal(
    read[numbers].astype(dtype).view(np.uint16), bits[numbers]
  )
  if dtype == jnp.bfloat16:  # The upper half of a float32.
    np.testing.assert_array_equal(
      read[numbers].view(np.uint32), bits[numbers].astype(np.uint32) << 16
    )


def load_bert(path):
  return bert.load_text_encoder(directory.read_weights(path), 12)[1]


def load_clip(path):
  return clip.load_clip(directory.read_weights(path))[1]


@HALVES
@pytest.mark.parametrize(
  'write, load',
  [(tiny_weights.write_bert, load_bert), (tiny_weights.write_clip, load_clip)],
)
def test_models_in_half_precision_load_exactly(tmp_path, dtype, write, load):
  path = write(tmp_path)
  file = tmp_path / 'model.safetensors'
  halves = {
    name: x.astype(dtype)
    for name, x in safetensors.numpy.load_file(file).items()
  }
  safetensors.numpy.save_file(halves, file)
  found = load(path)
  singles = {name: x.astype(np.float32) for name, x in halves.items()}
  safetensors.numpy.save_file(singles, file)
  jax.tree.map(np.testing.assert_array_equal, found, load(path))
  assert {x.dtype for x in jax.tree.leaves(found)} == {np.dtype(np.float32)}


def write_shards(path, *shards, weight_map=None):
  """Shards 0.safetensors, 1.safetensors, ... and their index; its path."""
  found = {}
  for i, tensors in enumerate(shards):
    safetensors.numpy.save_file(tensors, path / f'{i}.safetensors')
    found |= dict.fromkeys(tensors, f'{i}.safetensors')
  tiny_weights.write_json(
    path / tensor_files.INDEX_FILE, {'weight_map': weight_map or found}
  )
  return str(path / tensor_files.INDEX_FILE)


def test_a_model_in_shards_is_the_model(tmp_path):
  path = tiny_weights.write_bert(tmp_path)
  whole = load_bert(path)
  file = tmp_path / 'model.safetensors'
  tensors = sorted(safetensors.numpy.load_file(file).items())
  file.unlink()
  write_shards(tmp_path, *(dict(tensors[i::3]) for i in range(3)))
  jax.tree.map(np.testing.assert_array_equal, load_bert(path), whole)


def test_tensor_in_two_shards_is_refused(tmp_path):
  one = np.ones(1, np.float32)
  index = write_shards(tmp_path, {'a': one}, {'a': one, 'b': one})
  # Whichever of them the index lists it for.
  for at in ('0.safetensors', '1.safetensors'):
    listed = {'a': at, 'b': '1.safetensors', 'c': '0.safetensors'}
    safetensors.numpy.save_file(
      {'a': one, 'c': one}, tmp_path / '0.safetensors'
    )
    write_shards(tmp_path, weight_map=listed)
    with pytest.raises(
      ValueError, match=r"'a' is in two files: .*/0\.safe.* and .*/1\.safe"
    ):
      tensor_files.read_shards(index)


def test_tensor_in_another_shard_than_listed_is_refused(tmp_path):
  one = np.ones(1, np.float32)
  listed = {'a': '0.safetensors', 'b': '0.safetensors', 'c': '1.safetensors'}
  index = write_shards(
    tmp_path, {'a': one}, {'b': one, 'c': one}, weight_map=listed
  )
  with pytest.raises(
    ValueError, match=r"index.json .* missing from .*/0\.safetensors: \['b'\]"
  ):
    tensor_files.read_shards(index)


def test_shard_that_is_damaged_is_named(tmp_path):
  one = np.ones(1, np.float32)
  index = write_shards(tmp_path, {'a': one}, {'b': one})
  (tmp_path / '1.safetensors').write_bytes(b'cut')
  with pytest.raises(ValueError, match=r'1\.safetensors: damaged'):
    tensor_files.read_shards(index)


@pytest.mark.parametrize(
  'name',
  [
    '../0.safetensors',
    '/etc/0.safetensors',
    'sub/0.safetensors',
    '..\\0.safetensors',
    'pytorch_model.bin',
    'x.npz',
    3,
  ],
)
def test_an_index_names_safetensors_of_its_folder_alone(tmp_path, name):
  index = write_shards(tmp_path, weight_map={'a': name})
  with pytest.raises(ValueError, match='expected a .safetensors file of its'):
    tensor_files.read_shards(index)


def test_an_index_of_another_kind_is_named(tmp_path):
  index = write_shards(tmp_path, weight_map=['0.safetensors'])
  with pytest.raises(ValueError, match='index.json: weight_map is not an obj'):
    tensor_files.weight_map(index)
