import os
import stat

import numpy as np
import pytest
from safetensors import numpy as safetensors_numpy

from zsar_jax.evaluation import tensor_files


@pytest.mark.parametrize('umask', [0o022, 0o027, 0o077])
def test_a_file_may_be_read_as_others_may(umask, tmp_path):
  path = str(tmp_path / 'x.safetensors')
  before = os.umask(umask)
  try:
    tensor_files.save(path, {'x': np.ones(2)})
  finally:
    os.umask(before)
  assert stat.S_IMODE(os.stat(path).st_mode) == 0o666 & ~umask


def test_scalars_and_views_are_saved_as_they_read(tmp_path):
  path = str(tmp_path / 'x.safetensors')
  tensors = {
    'scalar': np.float32(2.5),
    'transposed': np.arange(6).reshape(2, 3).T,
    'broadcast': np.broadcast_to(np.arange(3), (2, 3)),
  }
  tensor_files.save(path, tensors)
  back = safetensors_numpy.load_file(path)
  for name, wanted in tensors.items():
    assert back[name].shape == np.shape(wanted)
    np.testing.assert_array_equal(back[name], wanted)
  assert os.listdir(tmp_path) == ['x.safetensors']
