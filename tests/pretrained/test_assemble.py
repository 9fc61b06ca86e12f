import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zsar_jax.pretrained import assemble, directory

RNG = np.random.default_rng(0)
TENSORS = {
  'fc.weight': RNG.normal(size=(3, 2)).astype(np.float32),
  'fc.bias': RNG.normal(size=3).astype(np.float64),
  'layers.0.norm': np.full(4, 0.0, np.float32),
  'layers.1.norm': np.full(4, 1.0, np.float32),
  'scale': np.asarray(2.0, np.float32),
}
PLAN = {
  **assemble.dense('dense', 'fc'),
  'stack/scale': [assemble.Source(f'layers.{i}.norm') for i in range(2)],
  'scale': assemble.Source('scale'),
}


def shape(*dims):
  return jax.ShapeDtypeStruct(dims, jnp.float32)


SHAPES = {
  'dense': {'kernel': shape(2, 3), 'bias': shape(3)},
  'scale': shape(),
  'stack': {'scale': shape(2, 4)},
}


def weights(**changes):
  tensors = {**TENSORS, **changes}
  tensors = {name: x for name, x in tensors.items() if x is not None}
  return directory.Weights(
    '/w', {}, {}, tensors, dict.fromkeys(tensors, '/w/model.safetensors')
  )


def test_every_parameter_is_where_the_model_wants_it():
  params = assemble.assemble(weights(), PLAN, SHAPES)
  assert jax.tree.structure(params) == jax.tree.structure(SHAPES)
  np.testing.assert_array_equal(
    params['dense']['kernel'], TENSORS['fc.weight'].T
  )
  np.testing.assert_array_equal(params['stack']['scale'][:, 0], [0, 1])
  for param, expected in zip(
    jax.tree.leaves(params), jax.tree.leaves(SHAPES), strict=True
  ):
    assert param.shape == expected.shape and param.dtype == np.float32


def test_transforms_are_those_of_pytorch():
  x = RNG.normal(size=(5, 3, 2, 4))  # out in h w
  kernel = assemble.conv2d_kernel(x)
  assert kernel.shape == (2, 4, 3, 5)
  assert kernel[1, 2, 0, 4] == x[4, 0, 1, 2]
  padded = assemble.padded_rows(3, 5)(np.ones((3, 2)))
  np.testing.assert_array_equal(padded[:, 0], [1, 1, 1, 0, 0])
  with pytest.raises(ValueError, match='expected 4 rows'):
    assemble.padded_rows(4, 5)(np.ones((3, 2)))


def test_what_may_be_unused_is_said_by_name():
  extra = {'head.weight': np.ones(2)}
  with pytest.raises(
    ValueError, match=r"/w: 1 tensors do not belong .*\['head.weight'\]"
  ):
    assemble.assemble(weights(**extra), PLAN, SHAPES)
  assemble.assemble(weights(**extra), PLAN, SHAPES, ignore=(r'^head\.',))
  with pytest.raises(ValueError, match='head.weight'):
    assemble.assemble(weights(**extra), PLAN, SHAPES, ignore=(r'^weight',))


@pytest.mark.parametrize(
  'changes, reason',
  [
    (
      {'fc.bias': None},
      "/w: tensor 'fc.bias' is missing .wanted for dense/bias.",
    ),
    (
      {'fc.bias': np.ones(4)},
      r"/w/model.safetensors: tensor 'fc.bias' has shape \(4,\), which does "
      r'not fit dense/bias of shape \(3,\)',
    ),
    (
      {'fc.weight': np.ones((2, 3))},
      r"'fc.weight' has shape \(2, 3\), which does not fit dense/kernel",
    ),
    ({'layers.1.norm': np.ones(5)}, r"'layers.1.norm' .* shape \(4,\)"),
    ({'layers.1.norm': None}, "'layers.1.norm' is missing"),
  ],
)
def test_tensor_that_does_not_fit_is_named(changes, reason):
  with pytest.raises(ValueError, match=reason):
    assemble.assemble(weights(**changes), PLAN, SHAPES)


def test_transform_that_fails_names_the_tensor():
  plan = {**PLAN, 'scale': assemble.Source('scale', assemble.conv2d_kernel)}
  with pytest.raises(ValueError, match=r"tensor 'scale' of shape \(\) does n"):
    assemble.assemble(weights(), plan, SHAPES)


def test_stack_of_another_depth_is_refused():
  shapes = {**SHAPES, 'stack': {'scale': shape(3, 4)}}
  with pytest.raises(ValueError, match='2 layers for stack/scale of shape'):
    assemble.assemble(weights(), PLAN, shapes)


def test_parameter_without_a_source_is_named():
  plan = {k: v for k, v in PLAN.items() if k != 'scale'}
  with pytest.raises(ValueError, match=r"no tensor for .*\['scale'\]"):
    assemble.assemble(weights(), plan, SHAPES)


def test_loaded_subtree_takes_the_place_of_a_fresh_one():
  mesh = jax.make_mesh((8,), ('fsdp',))
  split = jax.NamedSharding(mesh, jax.P('fsdp'))
  fresh = {
    'text': {'encoder': {'word': jax.device_put(jnp.zeros((8, 2)), split)}},
    'head': jnp.zeros(3),
  }
  loaded = {'word': np.ones((8, 2), np.float64)}
  params = assemble.replace_subtree(fresh, 'text/encoder', loaded)
  word = params['text']['encoder']['word']
  assert word.sharding == split and word.dtype == jnp.float32
  np.testing.assert_array_equal(word, 1)
  assert params['head'] is fresh['head']
  np.testing.assert_array_equal(fresh['text']['encoder']['word'], 0)


@pytest.mark.parametrize(
  'path, loaded, reason',
  [
    ('vision', {}, "no parameters 'vision'"),
    ('text/decoder', {}, "no parameters 'text/decoder'"),
    ('text/word', {'a': np.ones(2)}, "'text/word' have another structure"),
    ('text', {'word': np.ones(3)}, r'text/word.*\(3,\).*\(2,\)'),
    ('text', {'other': np.ones(2)}, "'text' have another structure"),
  ],
)
def test_subtree_that_does_not_fit_is_refused(path, loaded, reason):
  fresh = {'text': {'word': jnp.zeros(2)}}
  with pytest.raises(ValueError, match=reason):
    assemble.replace_subtree(fresh, path, loaded)
