import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors import numpy as safetensors_numpy

from zsar_jax.models import video_encoder
from zsar_jax.pretrained import directory, video, video_plan

REASON = 'parity with PyTorch needs the extra `parity`'
COMMON = dict(
  hidden_size=32,
  num_hidden_layers=2,
  num_attention_heads=4,
  intermediate_size=48,
  image_size=24,
)
CONFIGS = {
  'vit': dict(COMMON, patch_size=8),
  'videomae': dict(COMMON, patch_size=8, num_frames=6, tubelet_size=2),
  'vivit': dict(COMMON, num_frames=6, tubelet_size=[2, 8, 8]),
  'timesformer': dict(COMMON, patch_size=8, num_frames=6),
}


def clip(frames=6, size=24):
  shape = (2, frames, size, size, 3)
  return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def save_torch(name, path, **config):
  """Saves a random model of transformers' class `name`, and returns it."""
  torch = pytest.importorskip('torch', reason=REASON)
  transformers = pytest.importorskip('transformers', reason=REASON)
  cls = getattr(transformers, name)
  model = cls(cls.config_class(**config)).eval()
  generator = torch.Generator().manual_seed(0)
  with torch.no_grad():
    # A parameter that starts at zero or one could hide in a wrong place.
    for parameter in model.parameters():
      noise = torch.randn(parameter.shape, generator=generator)
      parameter.add_(0.1 * noise)
  model.save_pretrained(path, safe_serialization=True)
  return model


def run_torch(model, frames):
  """Last hidden state for clips [b t h w c]."""
  import torch

  pixels = torch.from_numpy(frames).permute(0, 1, 4, 2, 3)
  with torch.no_grad():
    if model.config.model_type == 'vit':
      return model(pixels[:, 0]).last_hidden_state.numpy()
    return model(pixels).last_hidden_state.numpy()


def load(path, *args, **kwargs):
  return video.load_video_encoder(directory.read_weights(path), *args, **kwargs)


def run(loaded, frames):
  kwargs, params = loaded
  encoder = video_encoder.VideoEncoder(**kwargs)
  return jax.jit(encoder.apply)({'params': params}, frames)


def in_our_order(tokens, frames):
  """TimeSformer's tokens [b 1+(h w t) d] as [b 1+(t h w) d]."""
  b, n, d = tokens.shape
  grid = tokens[:, 1:].reshape(b, (n - 1) // frames, frames, d).swapaxes(1, 2)
  return np.concatenate([tokens[:, :1], grid.reshape(b, n - 1, d)], axis=1)


@pytest.mark.parametrize(
  'name, kind, changes',
  [
    ('ViTModel', 'vit', {}),
    ('ViTModel', 'vit', {'qkv_bias': False, 'hidden_act': 'gelu_new'}),
    ('VideoMAEModel', 'videomae', {}),
    ('VideoMAEModel', 'videomae', {'use_mean_pooling': False}),
    ('VideoMAEModel', 'videomae', {'qv_bias': False}),
    ('VivitModel', 'vivit', {}),
    ('TimesformerModel', 'timesformer', {}),
    (
      'TimesformerModel',
      'timesformer',
      {'attention_type': 'joint_space_time', 'qkv_bias': False},
    ),
  ],
)
def test_last_hidden_states_equal_those_of_transformers(
  tmp_path, name, kind, changes
):
  model = save_torch(name, tmp_path, **{**CONFIGS[kind], **changes})
  frames = clip(1 if kind == 'vit' else 6)
  expected = run_torch(model, frames)
  if kind == 'timesformer':
    expected = in_our_order(expected, 6)
  found = run(load(tmp_path), frames)['tokens']
  assert found.shape == expected.shape
  np.testing.assert_allclose(found, expected, atol=1e-4, rtol=0)
  scanned = run(load(tmp_path, scan_blocks=True), frames)['tokens']
  np.testing.assert_allclose(scanned, found, atol=1e-5)


def test_pooled_videomae_equals_what_its_classifier_reads(tmp_path):
  model = save_torch(
    'VideoMAEForVideoClassification', tmp_path, **CONFIGS['videomae']
  )
  seen = []
  model.classifier.register_forward_pre_hook(lambda _, x: seen.append(x[0]))
  import torch

  with torch.no_grad():
    model(torch.from_numpy(clip()).permute(0, 1, 4, 2, 3))
  found = run(load(tmp_path), clip())['pooled']
  np.testing.assert_allclose(found, seen[0].numpy(), atol=1e-4, rtol=0)


def test_videomae_biases_may_lie_in_the_dense_layers(tmp_path):
  """As transformers 5.17 saves them, with a bias of the keys."""
  save_torch('VideoMAEModel', tmp_path, **CONFIGS['videomae'])
  expected = run(load(tmp_path), clip())['tokens']
  path = tmp_path / 'model.safetensors'
  tensors = safetensors_numpy.load_file(path)
  for name in [name for name in tensors if name.endswith('.q_bias')]:
    base = name.removesuffix('q_bias')
    tensors[f'{base}query.bias'] = tensors.pop(name)
    tensors[f'{base}value.bias'] = tensors.pop(f'{base}v_bias')
    # The same for all keys, so the softmax does not see it.
    tensors[f'{base}key.bias'] = np.full(32, 0.5, np.float32)
  safetensors_numpy.save_file(tensors, path, {'format': 'pt'})
  loaded = load(tmp_path)
  assert loaded[0]['qkv_bias'] == 'qkv'
  np.testing.assert_allclose(run(loaded, clip())['tokens'], expected, atol=1e-5)


@pytest.mark.parametrize(
  'name, kind',
  [
    ('ViTForImageClassification', 'vit'),
    ('ViTForMaskedImageModeling', 'vit'),
    ('VivitForVideoClassification', 'vivit'),
    ('TimesformerForVideoClassification', 'timesformer'),
    ('VideoMAEForPreTraining', 'videomae'),
  ],
)
def test_heads_are_left_behind(tmp_path, name, kind):
  config = dict(CONFIGS[kind])
  if name == 'ViTForMaskedImageModeling':
    config['encoder_stride'] = 8
  if name == 'VideoMAEForPreTraining':
    config.update(decoder_num_hidden_layers=1, use_mean_pooling=False)
  model = save_torch(name, tmp_path, **config)
  frames = clip(1 if kind == 'vit' else 6)
  encoder = getattr(model, kind)
  if kind == 'videomae':
    import torch

    mask = torch.zeros((2, 27), dtype=torch.bool)
    pixels = torch.from_numpy(frames).permute(0, 1, 4, 2, 3)
    with torch.no_grad():
      expected = encoder(pixels, bool_masked_pos=mask).last_hidden_state.numpy()
  else:
    expected = run_torch(encoder, frames)
  if kind == 'timesformer':
    expected = in_our_order(expected, 6)
  found = run(load(tmp_path), frames)['tokens']
  np.testing.assert_allclose(found, expected, atol=1e-4, rtol=0)


def write_vit(path, changes=None, **config):
  """A ViT directory made without PyTorch; a change to None drops a tensor."""
  rng = np.random.default_rng(0)
  shapes = {
    'embeddings.cls_token': (1, 1, 32),
    'embeddings.position_embeddings': (1, 10, 32),
    'embeddings.patch_embeddings.projection.weight': (32, 3, 8, 8),
    'embeddings.patch_embeddings.projection.bias': (32,),
    'layernorm.weight': (32,),
    'layernorm.bias': (32,),
  }
  for i in range(2):
    layer = f'encoder.layer.{i}'
    linear = {
      f'attention.attention.{part}': (32, 32)
      for part in ('query', 'key', 'value')
    }
    linear |= {
      'attention.output.dense': (32, 32),
      'intermediate.dense': (48, 32),
      'output.dense': (32, 48),
    }
    for name, shape in linear.items():
      shapes[f'{layer}.{name}.weight'] = shape
      shapes[f'{layer}.{name}.bias'] = shape[:1]
    for name in ('layernorm_before', 'layernorm_after'):
      shapes[f'{layer}.{name}.weight'] = shapes[f'{layer}.{name}.bias'] = (32,)
  tensors = {
    name: 0.1 * rng.normal(size=shape).astype(np.float32)
    for name, shape in shapes.items()
  }
  for name, value in (changes or {}).items():
    tensors[name] = value
    if value is None:
      del tensors[name]
  path.mkdir(exist_ok=True)
  safetensors_numpy.save_file(tensors, path / 'model.safetensors')
  content = dict(
    CONFIGS['vit'],
    model_type='vit',
    hidden_act='gelu',
    layer_norm_eps=1e-12,
    qkv_bias=True,
  )
  (path / 'config.json').write_text(json.dumps({**content, **config}))
  return path


@pytest.mark.parametrize('inflation', video_plan.INFLATIONS)
def test_inflated_encoder_sees_a_still_clip_as_its_image(tmp_path, inflation):
  path = write_vit(tmp_path)
  image = run(load(path), clip(1))['tokens']
  still = np.repeat(clip(1), 4, axis=1)
  loaded = load(path, inflation, tubelet_frames=4)
  assert loaded[0]['tubelet_size'] == (4, 8, 8)
  np.testing.assert_allclose(run(loaded, still)['tokens'], image, atol=1e-5)


def test_inflations_differ_in_which_frames_they_see():
  kernel = np.random.default_rng(0).normal(size=(5, 3, 2, 2))
  inflate = lambda rule: video_plan.tubelet_kernel(kernel, 4, rule).reshape(
    4, 2, 2, 3, 5
  )
  flat = kernel.transpose(2, 3, 1, 0)
  centre, average = inflate('centre'), inflate('average')
  np.testing.assert_array_equal(centre[2], flat)
  np.testing.assert_array_equal(centre[[0, 1, 3]], 0)
  np.testing.assert_allclose(average, np.stack([flat / 4] * 4))
  with pytest.raises(ValueError, match="'middle' is not one of"):
    inflate('middle')


def test_positions_follow_the_size_and_length_of_clips(tmp_path):
  path = write_vit(tmp_path)
  kwargs, native = load(path)
  _, params = load(path, num_frames=3, size=40)
  assert params['space_position'].shape == (5, 5, 32)
  assert params['time_position'].shape == (3, 32)
  # The middle of the picture stays in the middle.
  np.testing.assert_allclose(
    params['space_position'][2, 2], native['space_position'][1, 1], atol=1e-6
  )
  out = run((kwargs, params), clip(3, 40))
  assert out['tokens'].shape == (2, 1 + 3 * 25, 32)


@pytest.mark.parametrize('kind', ['videomae', 'vivit', 'timesformer'])
def test_video_weights_take_other_clips(tmp_path, kind):
  names = {
    'videomae': 'VideoMAEModel',
    'vivit': 'VivitModel',
    'timesformer': 'TimesformerModel',
  }
  save_torch(names[kind], tmp_path, **CONFIGS[kind])
  loaded = load(tmp_path, num_frames=8, size=32)
  tokens = run(loaded, clip(8, 32))['tokens']
  tubelets = 8 // loaded[0]['tubelet_size'][0] * 16
  assert tokens.shape == (2, tubelets + (kind != 'videomae'), 32)
  assert np.isfinite(tokens).all()


QUERY = 'encoder.layer.1.attention.attention.query.weight'


@pytest.mark.parametrize(
  'changes, message',
  [
    ({QUERY: None}, f"'{QUERY}' is missing"),
    ({'embeddings.cls_token': None}, "'embeddings.cls_token' is missing"),
    (
      {QUERY: np.zeros((32, 31), np.float32)},
      rf"model.safetensors: tensor '{QUERY}' has shape \(32, 31\)",
    ),
    (
      {'embeddings.position_embeddings': np.zeros((1, 9, 32), np.float32)},
      'model.safetensors: tensor .embeddings.position_embeddings. of shape',
    ),
    (
      {'embeddings.cls_token': np.zeros((1, 1, 31), np.float32)},
      'model.safetensors: tensor .embeddings.cls_token. has shape',
    ),
    (
      {
        'embeddings.patch_embeddings.projection.weight': np.zeros(
          (32, 3, 2, 8, 8), np.float32
        )
      },
      'projection.weight. of shape .* expected a 2-D convolution',
    ),
    ({'extra': np.zeros(3, np.float32)}, r"\['extra'\]"),
  ],
)
def test_bad_tensors_are_named(tmp_path, changes, message):
  with pytest.raises(ValueError, match=message) as e:
    load(write_vit(tmp_path, changes))
  assert str(tmp_path) in str(e.value)


@pytest.mark.parametrize(
  'config, message',
  [
    ({'model_type': 'bert'}, "model_type is 'bert'"),
    ({'hidden_act': 'selu'}, "hidden_act 'selu' is not one of"),
    ({'num_hidden_layers': 1}, 'do not belong to this model'),
    ({'num_hidden_layers': 3}, 'encoder.layer.2.* is missing'),
    ({'hidden_size': 64}, 'does not fit'),
    (
      {'model_type': 'vivit', 'num_frames': 2, 'tubelet_size': [2, 8, 8]},
      'expected a 3-D convolution',
    ),
  ],
)
def test_other_architectures_are_refused(tmp_path, config, message):
  with pytest.raises(ValueError, match=message) as e:
    load(write_vit(tmp_path, **config))
  assert str(tmp_path) in str(e.value)


WHOLE_NUMBER = 'expected a positive whole number'


@pytest.mark.parametrize(
  'config, message',
  [
    ({'num_attention_heads': 'two'}, f"heads is 'two', {WHOLE_NUMBER}"),
    ({'num_attention_heads': 0}, f'num_attention_heads is 0, {WHOLE_NUMBER}'),
    ({'num_attention_heads': 3}, 'heads is 3, .* divide the hidden_size 32'),
    ({'hidden_size': True}, f'hidden_size is True, {WHOLE_NUMBER}'),
    ({'hidden_size': 32.5}, f'hidden_size is 32.5, {WHOLE_NUMBER}'),
    ({'patch_size': 0}, f'patch_size is 0, {WHOLE_NUMBER}'),
    ({'patch_size': [8, 8, 8]}, r'patch_size is \[8, 8, 8\], .* list of two'),
    ({'image_size': None}, f'image_size is None, {WHOLE_NUMBER}'),
    ({'layer_norm_eps': 'x'}, "layer_norm_eps is 'x', expected a positive num"),
    ({'layer_norm_eps': float('nan')}, 'layer_norm_eps is nan, expected a pos'),
    ({'qkv_bias': 'no'}, "qkv_bias is 'no', expected true or false"),
    ({'num_channels': -3}, f'num_channels is -3, {WHOLE_NUMBER}'),
    ({'hidden_act': ['gelu']}, r"hidden_act \['gelu'\] is not one of"),
    (
      {'model_type': 'timesformer', 'num_frames': -1},
      f'num_frames is -1, {WHOLE_NUMBER}',
    ),
    (
      {'model_type': 'vivit', 'num_frames': 2, 'tubelet_size': [2, 8]},
      r'tubelet_size is \[2, 8\], expected a list of three',
    ),
  ],
)
def test_damaged_settings_are_named(tmp_path, config, message):
  config = {'attention_type': 'joint_space_time', **config}
  with pytest.raises(ValueError, match=f'config.json: .*{message}') as e:
    load(write_vit(tmp_path, **config))
  assert str(tmp_path) in str(e.value)


def test_missing_setting_is_named(tmp_path):
  path = write_vit(tmp_path)
  content = json.loads((path / 'config.json').read_text())
  del content['hidden_size']
  (path / 'config.json').write_text(json.dumps(content))
  with pytest.raises(ValueError, match="config.json lacks 'hidden_size'"):
    load(path)


def test_truncated_file_is_named(tmp_path):
  path = write_vit(tmp_path) / 'model.safetensors'
  path.write_bytes(path.read_bytes()[:-100])
  with pytest.raises(ValueError, match='model.safetensors: damaged'):
    load(tmp_path)


def test_only_flat_patches_can_be_inflated(tmp_path):
  path = write_vit(
    tmp_path, model_type='videomae', num_frames=4, tubelet_size=2
  )
  with pytest.raises(ValueError, match='its tubelets have 2 frames, not 4'):
    load(path, tubelet_frames=4)


def test_space_only_timesformer_is_refused(tmp_path):
  path = write_vit(
    tmp_path,
    model_type='timesformer',
    num_frames=4,
    attention_type='space_only',
  )
  with pytest.raises(ValueError, match="attention_type is 'space_only'"):
    load(path)


@pytest.mark.parametrize(
  'given, mean, std, short_side',
  [
    (
      {'image_mean': [0.1, 0.2, 0.3], 'image_std': [0.4, 0.5, 0.6], 'size': 24},
      (0.1, 0.2, 0.3),
      (0.4, 0.5, 0.6),
      24,
    ),
    # ViViT: pixels in [-1, 1] that are normalised once more.
    (
      {
        'image_mean': [0.5] * 3,
        'image_std': [0.5] * 3,
        'rescale_factor': 1 / 127.5,
        'offset': True,
        'size': {'shortest_edge': 32},
        'do_center_crop': True,
      },
      (0.75,) * 3,
      (0.25,) * 3,
      32,
    ),
    (
      {
        'do_normalize': False,
        'rescale_factor': 1 / 127.5,
        'offset': True,
        'size': {'height': 24, 'width': 24},
      },
      (0.5,) * 3,
      (0.5,) * 3,
      24,
    ),
  ],
)
def test_preprocessing_of_weights(tmp_path, given, mean, std, short_side):
  write_vit(tmp_path)
  (tmp_path / 'preprocessor_config.json').write_text(json.dumps(given))
  found = video.preprocessing(directory.read_weights(tmp_path))
  np.testing.assert_allclose(found.pop('mean'), mean, rtol=1e-6)
  np.testing.assert_allclose(found.pop('std'), std, rtol=1e-6)
  assert found == {
    'size': 24,
    'short_side': short_side,
    'resize': 'bilinear',
    'crop': 'whole' if short_side == 24 else 'centre',
    'num_frames': None,
  }


def test_preprocessing_is_never_guessed(tmp_path):
  write_vit(tmp_path)
  with pytest.raises(FileNotFoundError, match='config.json is missing'):
    video.preprocessing(directory.read_weights(tmp_path))


def test_loaded_parameters_are_those_of_the_model(tmp_path):
  kwargs, params = load(write_vit(tmp_path))
  shapes = jax.eval_shape(
    video_encoder.VideoEncoder(**kwargs).init, jax.random.key(0), clip(1)
  )['params']
  assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, shapes)
