import pickle

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from tests.pretrained import tiny_weights
from zsar_jax.pretrained import directory

TENSORS = {
  'a.weight': np.arange(6, dtype=np.float32).reshape(2, 3),
  'b.bias': np.arange(3, dtype=np.float32),
}
CONFIG = {'model_type': 'bert', 'hidden_size': 3}


def write(path, tensors=TENSORS):
  return tiny_weights.write(path, CONFIG, tensors)


def test_directory_is_read_whole(tmp_path):
  path = write(tmp_path)
  tiny_weights.write_json(tmp_path / 'preprocessor_config.json', {'size': 4})
  weights = directory.read_weights(path)
  assert weights.config == CONFIG and weights.preprocessor == {'size': 4}
  assert set(weights.tensors) == set(TENSORS)
  for name, tensor in TENSORS.items():
    np.testing.assert_array_equal(weights.tensors[name], tensor)
    assert weights.origin[name] == str(tmp_path / 'model.safetensors')
  assert directory.expect_model_type(weights, 'vit', 'bert') == 'bert'
  assert directory.setting(weights, 'hidden_size') == 3
  assert directory.setting(weights, 'layer_norm_eps', 0.5) == 0.5
  with pytest.raises(ValueError, match="config.json lacks 'num_layers'"):
    directory.setting(weights, 'num_layers')
  with pytest.raises(ValueError, match="is 'bert', expected 'clip' or 'vit'"):
    directory.expect_model_type(weights, 'clip', 'vit')


def test_preprocessor_may_be_part_of_a_processor(tmp_path):
  path = write(tmp_path)
  assert directory.read_weights(path).preprocessor == {}
  whole = {'image_processor': {'size': 4}, 'processor_class': 'CLIPProcessor'}
  tiny_weights.write_json(tmp_path / 'processor_config.json', whole)
  assert directory.read_weights(path).preprocessor == {'size': 4}


@pytest.mark.parametrize('dtype', [jnp.bfloat16, np.float16])
def test_half_precision_becomes_float32(tmp_path, dtype):
  exact = np.array([1.0, -0.5, 3.140625], np.float32)  # In both formats.
  weights = directory.read_weights(write(tmp_path, {'x': exact.astype(dtype)}))
  assert weights.tensors['x'].dtype == np.float32
  np.testing.assert_array_equal(weights.tensors['x'], exact)


def test_integers_and_scalars_stay_what_they_are(tmp_path):
  tensors = {'ids': np.array([[2**40]]), 'scale': np.asarray(2.5, np.float32)}
  read = directory.read_weights(write(tmp_path, tensors)).tensors
  assert read['ids'].dtype == np.int64 and read['ids'][0, 0] == 2**40
  assert read['scale'].shape == () and read['scale'] == 2.5


@pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize('dtype', [np.float32, np.float16, jnp.bfloat16])
def test_tensors_that_are_not_finite_are_named(tmp_path, dtype, value):
  largest = np.full(9, jnp.finfo(dtype).max, dtype)  # Their sum overflows.
  tensors = {**TENSORS, 'large': largest, 'none': np.zeros(0, dtype)}
  directory.read_weights(write(tmp_path, tensors))
  tensors['c.weight'] = np.array([[0, value], [1, -1]], dtype)
  message = "model.safetensors: tensor 'c.weight' holds NaN or infinity"
  with pytest.raises(ValueError, match=message) as e:
    directory.read_weights(write(tmp_path, tensors))
  assert str(tmp_path) in str(e.value)


def write_shards(path):
  path.mkdir(exist_ok=True)
  tiny_weights.write_json(path / 'config.json', CONFIG)
  weight_map = {}
  for i, (name, tensor) in enumerate(TENSORS.items()):
    weight_map[name] = f'model-{i}.safetensors'
    safetensors.numpy.save_file({name: tensor}, path / weight_map[name])
  tiny_weights.write_json(
    path / 'model.safetensors.index.json', {'weight_map': weight_map}
  )
  return str(path)


def test_shards_are_joined(tmp_path):
  path = write_shards(tmp_path)
  weights = directory.read_weights(path)
  assert set(weights.tensors) == set(TENSORS)
  assert weights.origin['b.bias'].endswith('model-1.safetensors')


def test_shard_that_is_missing_is_named(tmp_path):
  path = write_shards(tmp_path)
  (tmp_path / 'model-1.safetensors').unlink()
  with pytest.raises(FileNotFoundError, match='index.json.*model-1.safe'):
    directory.read_weights(path)
  tiny_weights.write_json(tmp_path / 'model.safetensors.index.json', {})
  with pytest.raises(ValueError, match='index.json lists no tensors'):
    directory.read_weights(path)


def test_shard_that_is_not_as_indexed_is_named(tmp_path):
  path = write_shards(tmp_path)
  safetensors.numpy.save_file(
    {'c': np.ones(1)}, tmp_path / 'model-1.safetensors'
  )
  with pytest.raises(ValueError, match="index.json.*'b.bias'"):
    directory.read_weights(path)


@pytest.mark.parametrize('name', ['config.json', 'model.safetensors'])
def test_file_that_is_missing_is_named(tmp_path, name):
  path = write(tmp_path)
  (tmp_path / name).unlink()
  with pytest.raises(FileNotFoundError, match=f'{tmp_path} has no {name}'):
    directory.read_weights(path)


def test_further_files_are_found_or_named(tmp_path):
  weights = directory.read_weights(write(tmp_path))
  assert weights.file('config.json') == str(tmp_path / 'config.json')
  with pytest.raises(FileNotFoundError, match='has no vocab.txt'):
    weights.file('vocab.txt')


def test_path_that_does_not_exist_is_named():
  with pytest.raises(FileNotFoundError, match='/nowhere do not exist'):
    directory.read_weights('/nowhere')


@pytest.mark.parametrize('content', ['{"model_type": ', '[1]', '\xff'])
def test_config_that_is_damaged_is_named(tmp_path, content):
  path = write(tmp_path)
  (tmp_path / 'config.json').write_bytes(content.encode('latin-1'))
  with pytest.raises(ValueError, match='config.json: '):
    directory.read_weights(path)


@pytest.mark.parametrize('kept', [0, 5, 60, -4])
def test_truncated_safetensors_are_named(tmp_path, kept):
  path = write(tmp_path)
  file = tmp_path / 'model.safetensors'
  file.write_bytes(file.read_bytes()[:kept])
  with pytest.raises(ValueError, match=f'{file}: damaged or not a safeten'):
    directory.read_weights(path)


class _Bomb:
  def __reduce__(self):
    return (pytest.fail, ('a pickle was executed',))


@pytest.mark.parametrize('name', ['pytorch_model.bin', 'model.pth', 'x.ckpt'])
@pytest.mark.parametrize('lone', [False, True])
def test_pickles_are_refused_with_how_to_convert_them(tmp_path, name, lone):
  path = write(tmp_path)
  (tmp_path / 'model.safetensors').unlink()
  (tmp_path / name).write_bytes(pickle.dumps(_Bomb()))
  with pytest.raises(ValueError, match='is a pickle') as error:
    directory.read_weights(str(tmp_path / name) if lone else path)
  message = str(error.value)
  assert message.startswith(f'{tmp_path / name} ')
  # The command in it is one that Python understands.
  command = message.partition('python -c "')[2].removesuffix('"')
  compile(command, name, 'exec')
  assert f"torch.load('{tmp_path / name}'" in command


def test_lone_files_have_no_config(tmp_path):
  np.savez(tmp_path / 'w.npz', **TENSORS)
  safetensors.numpy.save_file(TENSORS, tmp_path / 'w.safetensors')
  for name in ('w.npz', 'w.safetensors'):
    weights = directory.read_weights(str(tmp_path / name))
    assert weights.config == {} and set(weights.tensors) == set(TENSORS)
    np.testing.assert_array_equal(
      weights.tensors['a.weight'], TENSORS['a.weight']
    )


def test_npz_with_a_pickled_object_is_refused(tmp_path):
  file = tmp_path / 'w.npz'
  np.savez(file, x=np.array([_Bomb()], object))
  with pytest.raises(ValueError, match=f'{file}: damaged or not an .npz'):
    directory.read_weights(str(file))


@pytest.mark.parametrize('content', [b'', b'PK\x03\x04 cut off', b'text'])
def test_npz_that_is_damaged_is_named(tmp_path, content):
  file = tmp_path / 'w.npz'
  file.write_bytes(content)
  with pytest.raises(ValueError, match=f'{file}: damaged or not an .npz'):
    directory.read_weights(str(file))


def test_lone_file_of_another_kind_is_refused(tmp_path):
  file = tmp_path / 'w.msgpack'
  file.write_bytes(b'1')
  with pytest.raises(ValueError, match='expected a .safetensors or .npz file'):
    directory.read_weights(str(file))
