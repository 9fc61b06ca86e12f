"""Compiles the real training step for TPU slices, without a TPU.

It compiles the sharded training step of a config ahead of time, and prints the
cost per chip for every slice. It needs no TPU, only libtpu, in its own
environment, because libtpu must stay out of the one of the tests:

  pip install -e . 'jax[tpu]==0.10.2'
  export TPU_SKIP_MDS_QUERY=1 JAX_PLATFORMS=cpu
  python -m benchmarks.tpu_compile --config=configs/k400.py \
    --topology=v5e:2x2,v5e:4x4,v5e:8x8,v5e:16x16

Columns, each for one chip and one step:

  memory    parameters, optimiser state, batch and temporaries, by the
            compiler, and their share of the chip's HBM
  compute   time of the model operations at the published peak: every matrix
            product of the forward pass, times three, without those that remat
            repeats
  exchange  time to send the bytes of all collectives over the links of one
            torus axis, with collectives in loops counted as often as they run.
            XLA may be faster, since it can use all axes at once
  HBM       time to access the compiler's number of bytes, at the published
            bandwidth. It is pessimistic, because bytes in fast memory count
            too. XLA counts a loop once, so the number is measured on one and
            two blocks without a loop, and extrapolated to the model's depth
  clips/s   rate that a host must read, if a step takes as long as the slower
            of compute at 40% of the peak and exchange; and the rate that its
            cores can read, from that of one core here, for each storage
            (benchmarks/input_pipeline.py)

The step scans over blocks (`model.video.scan_blocks`), as it should on a slice.
docs/benchmarks.md has the tables.
"""

from collections.abc import Sequence
import dataclasses
import sys

from absl import app, flags
import jax
from jax.experimental import topologies
import ml_collections
from ml_collections import config_flags

from benchmarks import compiled
from zsar_jax.inference import model_builder
from zsar_jax.parallel import hardware, sharding
from zsar_jax.training import make_step, step_cost, train_state

_CONFIG = config_flags.DEFINE_config_file('config', None, 'the config file')
_TOPOLOGY = flags.DEFINE_list('topology', ['v5e:4x4'], 'TPU slices')
_PRESET = flags.DEFINE_string('preset', 'fsdp', 'mesh preset')
_CLIPS = flags.DEFINE_integer('clips_per_chip', 8, 'clips per chip')
_CLASSES = flags.DEFINE_integer('num_classes', 400, 'seen classes')
_WINDOWED = flags.DEFINE_bool(
  'windowed',
  True,
  "XLA's default: gathers and scatters of matrix products as rings of "
  'permutations; --nowindowed shows them as all-gather and reduce-scatter',
)
_HBM_TIME = flags.DEFINE_bool(
  'hbm_time', True, 'estimate the HBM time: two more compilations per slice'
)

# Clips per second that one core reads, from benchmarks/input_pipeline.py:
# 2026-11-24, two cores of an AMD EPYC, 16 of 250 frames of 340 x 256.
READ_RATES = {'video': 31.7, 'frames': 78.8}
_UTILISATION = 0.4
# A threshold in MiB above all sizes.
_NO_WINDOWS = {'xla_jf_spmd_threshold_for_windowed_einsum_mib': '1000000'}
# The vocabulary size of public BERT checkpoints.
_VOCABULARY = 30522


@dataclasses.dataclass(frozen=True)
class Cost:
  """The cost of a step on one chip.

  Attributes:
    memory: bytes of memory.
    flops: model operations.
    sent: kind of collective -> bytes sent.
    accessed: bytes accessed in HBM, with one iteration of each loop.
    kernels: number of calls of Pallas kernels (flash attention).
  """

  memory: float
  flops: float
  sent: dict[str, float]
  accessed: float
  kernels: int


def compile_step(
  config: ml_collections.ConfigDict,
  mesh: jax.sharding.Mesh,
  num_classes: int,
  vocabulary_size: int = _VOCABULARY,
  compiler_options: dict[str, str] | None = None,
):
  """Compiles a config's training step for a mesh of abstract devices."""
  prep = model_builder.make_preprocessing(
    config, [f'piece{i}' for i in range(vocabulary_size)]
  )
  model = model_builder.build_model(config, prep, vocabulary_size, num_classes)
  optimizer, step = make_step.make_step(config, model, prep, mesh)
  state = train_state.abstract_state(
    model,
    optimizer,
    model_builder.input_shapes(prep),
    mesh,
    config.optim.ema_decay > 0,
  )
  batch, text = step_cost.step_inputs(
    prep, config.train.batch_size, num_classes
  )
  on = lambda s: lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s)
  batch = jax.tree.map(on(sharding.batch_sharding(mesh)), batch)
  text = jax.tree.map(on(sharding.replicated(mesh)), text)
  flops = step_cost.step_flops(config, prep, vocabulary_size, num_classes)
  with jax.set_mesh(mesh):
    program = step.__wrapped__.lower(state, batch, text).compile(
      compiler_options=compiler_options
    )
  return program, flops


def cost_of(program, flops: float, chips: int) -> Cost:
  """Returns the cost of a compiled step on each chip."""
  m = program.memory_analysis()
  memory = (
    m.argument_size_in_bytes
    + m.output_size_in_bytes
    - m.alias_size_in_bytes
    + m.temp_size_in_bytes
    + m.generated_code_size_in_bytes
  )
  text = program.as_text()
  return Cost(
    memory,
    flops / chips,
    compiled.sent_by_kind(compiled.collectives(text)),
    program.cost_analysis()['bytes accessed'],
    text.count('custom_call_target="tpu_custom_call"'),
  )


def prepared(config, chips: int, clips_per_chip: int, **video):
  """Returns the config for a slice, with keys of `model.video` changed."""
  config = config.copy_and_resolve_references()
  with config.unlocked():
    config.train.batch_size = chips * clips_per_chip
    config.model.video.update(scan_blocks=True, **video)
  return config


def make_mesh(topology: str, preset: str) -> jax.sharding.Mesh:
  """Returns the mesh of a slice, 'v5e:4x4'."""
  described = topologies.get_topology_desc(
    platform='tpu', topology_name=topology
  )
  return sharding.make_mesh({'preset': preset}, list(described.devices))


def bytes_accessed(
  config, topology, preset, num_classes, clips_per_chip, depth
) -> float:
  """Returns the bytes accessed in HBM, for that many blocks without a loop."""
  mesh = make_mesh(topology, preset)
  found = []
  for blocks in (1, 2):
    small = prepared(config, mesh.size, clips_per_chip, depth=blocks)
    with small.unlocked():
      small.model.video.scan_blocks = False
    program, _ = compile_step(small, mesh, num_classes)
    found.append(program.cost_analysis()['bytes accessed'])
  return found[0] + (depth - 1) * (found[1] - found[0])


def row(topology: str, cost: Cost, accessed: float, clips: int) -> str:
  """Returns one line of the table."""
  kind, _, shape = topology.partition(':')
  device = hardware.TPU[kind]
  compute = cost.flops / device.peak_flops
  sent = sum(cost.sent.values())
  exchange = sent / (device.link_bandwidth / device.link_axes)
  step = max(compute / _UTILISATION, exchange)
  needed = device.host_chips * clips / step
  can = '  '.join(
    f'{device.host_cpus * rate:7.0f}' for rate in READ_RATES.values()
  )
  starves = ' '.join(
    name
    for name, rate in READ_RATES.items()
    if device.host_cpus * rate < needed
  )
  hbm = f'{1e3 * accessed / device.memory_bandwidth:7.1f}' if accessed else ''
  return (
    f'{topology:10}  {cost.memory / 1e9:6.2f} GB '
    f'{cost.memory / device.memory:4.0%}'
    f'  {cost.flops / 1e12:6.2f} TF {1e3 * compute:7.1f} ms'
    f'  {sent / 1e6:7.0f} MB {1e3 * exchange:6.1f} ms  {hbm:>7} ms'
    f'  {cost.kernels:7}  {needed:7.0f}  {can}  {starves or "none"}'
  )


HEADER = (
  f'{"slice":10}  {"memory a chip":14}  {"compute at peak":21}'
  f'  {"exchange":19}  {"HBM":>10}  kernels  needs/s'
  + '  '.join(f'{name:>9}' for name in READ_RATES)
  + '  starves'
)


def main(argv: Sequence[str]) -> None:
  """Prints a row for each slice, then its collectives."""
  if len(argv) > 1:
    raise app.UsageError(f'unexpected arguments {argv[1:]}')
  config, clips = _CONFIG.value, _CLIPS.value
  print(f'{clips} clips a chip, preset {_PRESET.value}')
  print(HEADER)
  accessed, details = {}, []
  for topology in _TOPOLOGY.value:
    kind = topology.partition(':')[0]
    if kind not in hardware.TPU:
      raise ValueError(f'{topology!r}: known are {list(hardware.TPU)}')
    if _HBM_TIME.value and kind not in accessed:
      accessed[kind] = bytes_accessed(
        config,
        topology,
        _PRESET.value,
        _CLASSES.value,
        clips,
        config.model.video.depth,
      )
    mesh = make_mesh(topology, _PRESET.value)
    program, flops = compile_step(
      prepared(config, mesh.size, clips),
      mesh,
      _CLASSES.value,
      compiler_options=None if _WINDOWED.value else _NO_WINDOWS,
    )
    cost = cost_of(program, flops, mesh.size)
    print(row(topology, cost, accessed.get(kind, 0.0), clips), flush=True)
    details.append((topology, dict(mesh.shape), cost.sent))
  print('\nMB sent by each chip, by kind')
  for topology, shape, sent in details:
    kinds = ', '.join(f'{k} {v / 1e6:.0f}' for k, v in sorted(sent.items()))
    print(f'{topology:10} {shape}: {kinds}')


if __name__ == '__main__':
  sys.path.insert(0, '.')
  app.run(main)
