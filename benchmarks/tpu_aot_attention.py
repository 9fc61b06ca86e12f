"""Compiles attention for TPUs, and measures the memory that flash saves.

It compiles one training step of a one-block ViT-B encoder (16 frames of 224, so
1568 tokens, bfloat16) ahead of time, sharded over a TPU slice. It needs no TPU,
only libtpu, in its own environment, because libtpu must stay out of the one of
the tests:

  pip install 'jax[tpu]==0.10.2' flax absl-py
  TPU_SKIP_MDS_QUERY=1 JAX_PLATFORMS=cpu python -m benchmarks.tpu_aot_attention

Seen with jax 0.10.2 and libtpu 0.0.42.1 on a 2-core CPU, which takes minutes
per row. The calls are the kernels of the forward pass and of both halves of the
backward pass. It compiled; it has not run on a TPU.

  v5e:2x2, 8 clips a chip
  implementation  custom calls  temporaries MiB
  einsum                     0             1659
  auto                       3              982
"""

from collections.abc import Sequence

from absl import app, flags
import jax
from jax.experimental import topologies
import jax.numpy as jnp

from zsar_jax.models import video_encoder
from zsar_jax.parallel import sharding

_TOPOLOGY = flags.DEFINE_string('topology', 'v5e:2x2', 'TPU slice')
_IMPLEMENTATIONS = flags.DEFINE_list(
  'implementations', ['einsum', 'auto'], 'implementations to compare'
)
_CLIPS = flags.DEFINE_integer('clips_per_chip', 8, 'clips per chip')


def compile_step(implementation: str, mesh: jax.sharding.Mesh, clips: int):
  """Compiles value and gradient of one encoder block.

  Args:
    implementation: see `attention.choose`.
    mesh: mesh of the topology's devices.
    clips: clips in the whole batch.

  Returns:
    The compiled step.
  """
  encoder = video_encoder.VideoEncoder(
    **{**video_encoder.variant('B/16x2'), 'depth': 1},
    dtype=jnp.bfloat16,
    attention_implementation=implementation,
  )

  def loss(params, video):
    return encoder.apply(params, video)['pooled'].astype(jnp.float32).sum()

  video = jax.ShapeDtypeStruct(
    (clips, 16, 224, 224, 3),
    jnp.bfloat16,
    sharding=sharding.batch_sharding(mesh),
  )
  params = jax.eval_shape(encoder.init, jax.random.key(0), video)
  params = jax.tree.map(
    lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
    params,
    sharding.tree_shardings(params, mesh),
  )
  # Attention reads the platform from the mesh.
  with jax.set_mesh(mesh):
    return jax.jit(jax.value_and_grad(loss)).lower(params, video).compile()


def main(argv: Sequence[str]) -> None:
  """Prints one row for each implementation."""
  if len(argv) > 1:
    raise app.UsageError(f'unexpected arguments {argv[1:]}')
  topology = topologies.get_topology_desc(
    platform='tpu', topology_name=_TOPOLOGY.value
  )
  devices = list(topology.devices)
  mesh = sharding.make_mesh({'data': 1, 'fsdp': -1, 'tensor': 1}, devices)
  print(f'{_TOPOLOGY.value}, {_CLIPS.value} clips a chip')
  print('implementation  custom calls  temporaries MiB')
  for implementation in _IMPLEMENTATIONS.value:
    step = compile_step(implementation, mesh, _CLIPS.value * len(devices))
    calls = step.as_text().count('custom_call_target="tpu_custom_call"')
    memory = step.memory_analysis().temp_size_in_bytes / 2**20
    print(f'{implementation:14}  {calls:12}  {memory:15.0f}')


if __name__ == '__main__':
  app.run(main)
