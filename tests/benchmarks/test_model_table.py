import jax
import jax.numpy as jnp
import pytest

from benchmarks import model_table, module_cost
from zsar_jax.models import resnet, text_encoder, video_encoder
from zsar_jax.parallel import program_cost

TINY = dict(width=32, depth=3, num_heads=2, mlp_dim=64)


def tiny_video(**kwargs):
  module = video_encoder.VideoEncoder(**TINY, tubelet_size=(2, 8, 8), **kwargs)
  return module, (jax.ShapeDtypeStruct((2, 4, 48, 48, 3), jnp.float32),)


def tiny_rest():
  layout = resnet.Layout((1, 1), bottleneck=True, width=32)
  module = resnet.ResNet(layout, 'frozen')
  return module, (jax.ShapeDtypeStruct((2, 64, 64, 3), jnp.float32),)


def tiny_text():
  module = text_encoder.TextEncoder(**TINY, vocabulary_size=100, max_length=20)
  return module, (
    jax.ShapeDtypeStruct((5, 20), jnp.int32),
    jax.ShapeDtypeStruct((5, 20), jnp.bool_),
  )


def macs(module, arguments):
  params = model_table.parameter_shapes(module, arguments)
  return module_cost.forward_macs(module, params, arguments)


def compiled(function, *arguments):
  return jax.jit(function).lower(*arguments).compile()


def transformer_macs(tokens, width, depth, mlp_dim):
  """Closed form of one sequence: projections and MLP, then attention."""
  dense = tokens * (4 * width**2 + 2 * width * mlp_dim)
  return depth * (dense + 2 * tokens**2 * width)


def test_count_is_the_closed_form_of_a_transformer():
  blocks = transformer_macs(2 * 6 * 6, 32, 3, 64)
  embedding = 2 * 6 * 6 * (2 * 8 * 8 * 3) * 32
  assert macs(*tiny_video()) == 2 * (blocks + embedding)
  assert macs(*tiny_text()) == 5 * transformer_macs(20, 32, 3, 64)


# Wide for their length: XLA counts norms, softmax and activations too. It
# leaves out what a convolution reads of its padding, so images are large.
_WIDE = dict(depth=1, num_heads=4)
WIDE = {
  'joint': lambda: (
    video_encoder.VideoEncoder(
      **_WIDE, width=256, mlp_dim=1024, tubelet_size=(2, 8, 8)
    ),
    tiny_video()[1],
  ),
  'divided': lambda: (
    video_encoder.VideoEncoder(
      **_WIDE,
      width=256,
      mlp_dim=1024,
      tubelet_size=(2, 8, 8),
      attention='divided',
    ),
    tiny_video()[1],
  ),
  'resnet': lambda: (
    resnet.ResNet(resnet.Layout((1, 1), bottleneck=True), 'frozen'),
    (jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32),),
  ),
  'text': lambda: (
    text_encoder.TextEncoder(
      **_WIDE, width=512, mlp_dim=2048, vocabulary_size=100, max_length=20
    ),
    tiny_text()[1],
  ),
}


@pytest.mark.parametrize('name', WIDE)
def test_count_agrees_with_the_compiled_program(name):
  module, arguments = WIDE[name]()
  params = model_table.parameter_shapes(module, arguments)
  program = compiled(module.apply, {'params': params}, *arguments)
  measured = program.cost_analysis()['flops']
  ours = 2 * module_cost.forward_macs(module, params, arguments)
  assert ours == pytest.approx(measured, rel=0.04)


def test_scanned_blocks_count_as_often_as_they_run():
  whole = macs(*tiny_video())
  assert macs(*tiny_video(scan_blocks=True)) == whole
  assert macs(*tiny_video(remat='full')) == whole


def test_loops_without_a_length_are_refused_and_dear_branches_count():
  x = jax.ShapeDtypeStruct((4, 4), jnp.float32)
  count = lambda f: program_cost.count_macs(jax.make_jaxpr(f)(x).jaxpr)
  with pytest.raises(ValueError, match='has no length'):
    count(
      lambda x: jax.lax.while_loop(lambda y: y[0, 0] < 1, lambda y: y @ y, x)
    )
  assert (
    count(
      lambda x: jax.lax.cond(
        x[0, 0] > 0, lambda y: y @ y, lambda y: y @ y @ y, x
      )
    )
    == 2 * 4**3
  )
  assert count(lambda x: jnp.einsum('ij,kj->ik', x, x)) == 4**3


@pytest.mark.parametrize(
  'build', [tiny_video, tiny_rest], ids=lambda f: f.__name__
)
def test_activations_are_near_what_the_compiled_step_needs(build):
  module, arguments = build()
  params = model_table.parameter_shapes(module, arguments)

  def loss(params, *arguments):
    out = module.apply({'params': params}, *arguments)
    return sum(x.astype(jnp.float32).sum() for x in jax.tree.leaves(out))

  step = compiled(jax.grad(loss), params, *arguments)
  needed = step.memory_analysis().temp_size_in_bytes
  ours = module_cost.activation_bytes(module, params, arguments)
  assert 0.5 < ours / needed < 3


def test_dense_layer_keeps_its_input_alone():
  from flax import linen as nn

  class TwoLayers(nn.Module):
    @nn.compact
    def __call__(self, x):
      x = nn.Dense(7, dtype=jnp.bfloat16)(x)
      return nn.Dense(9, dtype=jnp.bfloat16)(x)

  arguments = (jax.ShapeDtypeStruct((5, 3), jnp.bfloat16),)
  params = model_table.parameter_shapes(TwoLayers(), arguments)
  # Neither the first input nor kernels cast to bfloat16 count.
  kept = module_cost.activation_bytes(TwoLayers(), params, arguments)
  assert kept == 5 * 7 * 2


@pytest.mark.parametrize(
  'row',
  [row for row in model_table.ROWS if row.published],
  ids=lambda r: r.name,
)
def test_published_costs_are_reproduced_within_two_percent(row):
  module, arguments = row.build(jnp.bfloat16)
  params = model_table.parameter_shapes(module, arguments)
  published = row.published
  assert model_table.count_parameters(params) == pytest.approx(
    published.parameters - published.without, rel=0.02
  )
  assert module_cost.forward_macs(module, params, arguments) == pytest.approx(
    published.macs, rel=0.02
  )


def test_table_prints_the_rows_that_are_asked_for(capsys):
  model_table.main(['resnet-18', 'ti/16x2'])
  head, names, tiny, ours = capsys.readouterr().out.splitlines()
  assert 'published' in head and 'GMAC' in names
  assert tiny.startswith('ViT-Ti/16x2') and len(tiny.split()) == 6
  assert '11.18  1.000' in ours and 'torchvision' in ours
