"""Tests counts and comparisons of the benchmarks of the training step."""

import sys

import jax
import numpy as np
import pytest

from benchmarks import determinism, gpu_step, inference, kernels, step_parts
from benchmarks import train_step as benchmark
from tests import processes, tiny
from zsar_jax import config_utils
from zsar_jax.inference import model_builder
from zsar_jax.models import video_encoder
from zsar_jax.parallel import hardware, program_cost
from zsar_jax.training import step_cost

# Everything else of the stack is absent on a bare GPU machine.
_BARE = """
import importlib.abc
import sys

ABSENT = {'tensorflow', 'tensorflow_text', 'tensorflow_datasets', 'clu',
          'ml_collections', 'grain', 'av', 'cv2', 'simplejpeg', 'tokenizers',
          'sklearn', 'matplotlib', 'scipy.stats'}
for name in ABSENT - {'tokenizers', 'sklearn', 'scipy.stats'}:
  sys.modules[name] = None

from benchmarks import train_step
args = train_step.parse(['--variant=Ti', '--depth=2', '--frames=2', '--size=32',
                         '--batch=2'])
step, _ = train_step.jax_step(args)
first = float(step())
assert float(step()) < first
ours = {n for n in sys.modules if n.startswith('zsar_jax')}
print(sorted(ours))
"""


def test_the_step_runs_where_only_models_and_jax_are():
  done = processes.run([sys.executable, '-c', _BARE], cwd=tiny.ROOT)
  assert done.returncode == 0, done.stderr[-2000:]
  assert 'zsar_jax.data' not in done.stdout
  assert 'zsar_jax.models.video_encoder' in done.stdout


@pytest.mark.parametrize(
  ('parse', 'flag', 'said'),
  [
    (benchmark.parse, '--rounds=0', 'no whole number above 0'),
    (step_parts.main, '--threads=-1', 'no whole number above 0'),
    (gpu_step.parse, '--batch=x', 'no whole number above 0'),
    (inference.parse, '--batches=8,0', 'no whole number above 0'),
    (inference.parse, '--models=clip,foo', "['foo'] are not among"),
    (inference.parse, '--text=/no/weights', 'is no folder'),
  ],
)
def test_wrong_flags_are_refused(parse, flag, said, capsys):
  with pytest.raises(SystemExit):
    parse([flag])
  assert said in capsys.readouterr().err


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_both_sides_compute_the_same_thing(dtype):
  pytest.importorskip('transformers')
  torch = pytest.importorskip('torch')
  args = benchmark.parse(
    ['--variant=Ti', '--depth=2', '--frames=2', '--size=32', '--batch=2']
    + [f'--dtype={dtype}']
  )
  ours, _ = benchmark.jax_step(args)
  theirs, _ = benchmark.torch_step(args)
  torch.set_num_threads(1)
  # Other random weights of the same kind: losses start at log(classes).
  first = [float(ours()), float(theirs())]
  assert first == pytest.approx([np.log(benchmark.CLASSES)] * 2, rel=0.25)
  assert [float(ours()), float(theirs())] < first


@pytest.mark.parametrize('variant', ['S', 'B'])
@pytest.mark.parametrize('scan', [True, False])
def test_closed_form_operations_are_those_of_the_traced_model(variant, scan):
  module = video_encoder.VideoEncoder(
    **video_encoder.variant(f'{variant}/16x2'),
    scan_blocks=scan,
    attention_implementation='einsum',
  )
  video = jax.ShapeDtypeStruct((1, 16, 224, 224, 3), np.float32)
  params = jax.eval_shape(module.init, jax.random.key(0), video)
  counted = program_cost.training_flops(module.apply, params, video)
  expected = benchmark.model_flops(variant, 16, 224)
  assert counted == pytest.approx(expected, rel=0.001)
  if variant == 'B':
    assert expected == pytest.approx(1.07e12, rel=0.03)


def test_a_steps_operations_grow_with_the_batch_and_not_with_remat():
  def flops(**changes):
    config = tiny.config(**changes)
    prep = model_builder.make_preprocessing(config, ['a'] * 200)
    return step_cost.step_flops(config, prep, 200, 6)

  one, two = flops(train__batch_size=8), flops(train__batch_size=16)
  names = 2 * one - two  # what does not depend on the batch
  assert 0 < names < one
  assert flops(train__batch_size=32) == pytest.approx(4 * one - 3 * names)
  assert flops(model__video__remat='full') == one
  config_utils.check_config(tiny.config())


def test_a_ratio_has_an_interval_around_it():
  rng = np.random.default_rng(0)
  ours, theirs = rng.normal(1.0, 0.01, 40), rng.normal(1.2, 0.01, 40)
  ratio, low, high = benchmark.ratio_interval(ours, theirs)
  assert low < 1.2 < high and low < ratio < high and high - low < 0.05


@pytest.mark.parametrize(
  'kind,name',
  [
    ('TPU v5 lite', 'v5e'),
    ('TPU v5p', 'v5p'),
    ('TPU v5', 'v5p'),
    ('TPU v6 lite', 'v6e'),
    ('NVIDIA H100 80GB HBM3', 'H100'),
    ('NVIDIA H200', 'H200'),
    ('NVIDIA A100-SXM4-40GB', 'A100'),
    ('NVIDIA L4', 'L4'),
  ],
)
def test_devices_are_known_by_what_jax_calls_them(kind, name):
  assert hardware.find(kind).name == name


def test_a_cpu_has_no_published_peak():
  assert hardware.find('cpu') is None


def test_kernels_are_read_from_a_profile_and_sorted_by_kind():
  step = jax.jit(lambda x: jax.nn.gelu(x @ x).sum())
  x = np.ones((256, 256), np.float32)
  found = kernels.of_jax(
    lambda: step(x).block_until_ready(), plane='/host:CPU', line='tf_XLA'
  )
  assert any('fusion' in name for name in found) and min(found.values()) >= 0
  with pytest.raises(ValueError, match='/device:GPU'):
    kernels.of_jax(lambda: step(x).block_until_ready())
  kinds = kernels.by_kind(
    {
      'cudnn_generated_fort_native_sdpa_sm90_flash_bprop': 1.0,
      'nvjet_tst_256x128_64x4': 2.0,
      'MemcpyD2D': 4.0,
      'loop_add_fusion': 8.0,
      'gemm_fusion_dot_3': 16.0,
    }
  )
  assert list(kinds.values()) == [1.0, 18.0, 4.0, 8.0]
  assert len(kernels.lines(found)) >= 6


def test_a_resumed_run_is_compared_with_an_undisturbed_one(tmp_path):
  args = ['--config=configs/demo.py:smoke', '--clips=2', '--timed=1', '--one']
  args.append(f'--workdir={tmp_path}')
  whole = determinism.one_process(determinism.parse(args))
  again = determinism.one_process(determinism.parse([*args, '--resume']))
  assert whole['first'] == 0 and again['first'] == 3
  assert whole['state'] == again['state']
  assert whole['metrics'] == again['metrics']
  changed = {'a': np.ones(3), 'b': np.zeros(2)}
  assert determinism.digest(changed) != determinism.digest({'a': np.ones(3)})
