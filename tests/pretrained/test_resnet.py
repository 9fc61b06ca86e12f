import json
import warnings

import jax
import numpy as np
import pytest
import safetensors.numpy

from zsar_jax.models import resnet
from zsar_jax.pretrained import directory
from zsar_jax.pretrained import resnet as pretrained_resnet

LAYOUTS = {
  'basic': resnet.Layout((1, 2, 1, 1), bottleneck=False, width=8),
  'bottleneck': resnet.Layout((1, 2, 1, 1), bottleneck=True, width=8),
}


def hf_config(layout):
  wider = 4 if layout.bottleneck else 1
  return {
    'model_type': 'resnet',
    'depths': list(layout.stage_depths),
    'layer_type': 'bottleneck' if layout.bottleneck else 'basic',
    'embedding_size': layout.width,
    'hidden_sizes': [
      layout.width * wider * 2**i for i in range(len(layout.stage_depths))
    ],
  }


def random_tensors(layout, hugging_face=False):
  """Tensors as PyTorch would store them, named by our own plan."""
  names = directory.Weights('', {}, {}, {}, {})
  if hugging_face:
    marker = {'embedder.embedder.convolution.weight': None}
    names = directory.Weights('', {}, {}, marker, {})
  plan = pretrained_resnet.plan(names, layout)
  module = resnet.ResNet(layout, 'frozen')
  shapes = jax.eval_shape(
    module.init, jax.random.key(0), np.zeros((1, 32, 32, 3), np.float32)
  )['params']
  rng = np.random.default_rng(0)
  tensors = {}
  for path, leaf in jax.tree_util.tree_leaves_with_path(shapes):
    shape = leaf.shape
    if len(shape) == 4:
      shape = (shape[3], shape[2], shape[0], shape[1])
    name = plan['/'.join(k.key for k in path)].name
    tensors[name] = rng.uniform(0.5, 1.5, shape).astype(np.float32)
    if name.endswith('running_mean'):
      counter = name.replace('running_mean', 'num_batches_tracked')
      tensors[counter] = np.array(7)
  return tensors


def write(path, tensors, config=None):
  path.mkdir(exist_ok=True)
  if config is None:
    safetensors.numpy.save_file(tensors, path / 'lone.safetensors')
    return directory.read_weights(str(path / 'lone.safetensors'))
  safetensors.numpy.save_file(tensors, path / 'model.safetensors')
  (path / 'config.json').write_text(json.dumps(config))
  return directory.read_weights(str(path))


def _torch():
  try:
    import torch
    import transformers
  except ImportError:
    warnings.warn(
      'NO PARITY CHECK of ResNet: torch and transformers are not installed',
      stacklevel=1,
    )
    pytest.skip('parity needs torch and transformers')
  return torch, transformers


@pytest.fixture(scope='module', params=LAYOUTS)
def peer(request):
  """A random network of transformers, in evaluation mode."""
  torch, transformers = _torch()
  layout = LAYOUTS[request.param]
  torch.manual_seed(0)
  config = transformers.ResNetConfig(**hf_config(layout))
  model = transformers.ResNetForImageClassification(config).eval()
  for name, tensor in model.state_dict().items():
    if name.endswith(('running_mean', 'normalization.bias')):
      tensor.normal_(0, 0.2)
    elif name.endswith(('running_var', 'normalization.weight')):
      tensor.uniform_(0.5, 1.5)
  return torch, layout, model


# An odd size tells apart paddings that an even one hides, and the reverse.
@pytest.mark.parametrize('size', [64, 75])
@pytest.mark.parametrize('with_classifier', [False, True])
def test_parity_with_transformers(peer, with_classifier, size, tmp_path):
  torch, layout, model = peer
  model = model if with_classifier else model.resnet
  model.save_pretrained(tmp_path)
  weights = directory.read_weights(str(tmp_path))
  params = pretrained_resnet.load_resnet(weights, layout)
  x = np.random.default_rng(0).normal(size=(2, size, size, 3))
  x = x.astype(np.float32)
  backbone = model.resnet if with_classifier else model
  with torch.no_grad():
    theirs = backbone(torch.from_numpy(x.transpose(0, 3, 1, 2)))
  theirs = theirs.last_hidden_state.numpy().transpose(0, 2, 3, 1)
  ours = jax.jit(resnet.ResNet(layout, 'frozen').apply)({'params': params}, x)
  assert np.abs(theirs).max() > 0.1
  difference = np.abs(ours - theirs).max()
  print(f'{layout} {size}: largest difference {difference:.1e}')
  assert difference <= 1e-4


def test_torchvision_names_are_read_like_those_of_transformers(peer, tmp_path):
  _, layout, model = peer
  model.resnet.save_pretrained(tmp_path / 'hf')
  theirs = directory.read_weights(str(tmp_path / 'hf'))
  params = pretrained_resnet.load_resnet(theirs, layout)
  as_hf = pretrained_resnet.plan(theirs, layout)
  as_torchvision = pretrained_resnet.plan(
    directory.Weights('', {}, {}, {}, {}), layout
  )
  renamed = {
    as_torchvision[target].name: theirs.tensors[source.name]
    for target, source in as_hf.items()
    if source.name in theirs.tensors
  }
  renamed['fc.weight'] = np.zeros((1000, layout.out_channels), np.float32)
  weights = write(tmp_path / 'torchvision', renamed)
  again = pretrained_resnet.load_resnet(weights, layout)
  jax.tree.map(np.testing.assert_array_equal, params, again)


@pytest.mark.parametrize(
  'depth, name',
  [
    (18, 'layer2.0.downsample.0.weight'),
    (18, 'layer4.1.bn2.running_var'),
    (50, 'layer1.0.downsample.1.bias'),
    (101, 'layer3.22.conv3.weight'),
  ],
)
def test_torchvision_names_are_the_published(depth, name):
  layout = resnet.LAYOUTS[depth]
  plan = pretrained_resnet.plan(directory.Weights('', {}, {}, {}, {}), layout)
  assert name in {source.name for source in plan.values()}


def test_lone_file_loads_without_classifier_and_counters(tmp_path):
  layout = LAYOUTS['basic']
  tensors = random_tensors(layout)
  tensors['fc.weight'] = np.zeros((10, layout.out_channels), np.float32)
  params = pretrained_resnet.load_resnet(write(tmp_path, tensors), layout)
  np.testing.assert_array_equal(
    params['stem']['norm']['var'], tensors['bn1.running_var']
  )
  np.testing.assert_array_equal(
    params['stage_1_block_0']['shortcut']['conv']['kernel'][0, 0],
    tensors['layer2.0.downsample.0.weight'][:, :, 0, 0].T,
  )


@pytest.mark.parametrize(
  'change, message',
  [
    (lambda t: t.pop('layer1.0.conv2.weight'), 'conv2.weight.* is missing'),
    (
      lambda t: t.update(extra=np.zeros(2)),
      "do not belong to this model: .'extra'",
    ),
    (
      lambda t: t.update({'bn1.bias': np.zeros(9, np.float32)}),
      r"'bn1.bias' has shape \(9,\)",
    ),
    (
      lambda t: t.update({'conv1.weight': np.zeros((8, 3), np.float32)}),
      r"'conv1.weight' of shape \(8, 3\) does not fit stem/conv/kernel",
    ),
  ],
)
def test_tensors_that_do_not_fit_raise(change, message, tmp_path):
  tensors = random_tensors(LAYOUTS['basic'])
  change(tensors)
  weights = write(tmp_path, tensors)
  with pytest.raises(ValueError, match=message):
    pretrained_resnet.load_resnet(weights, LAYOUTS['basic'])


@pytest.mark.parametrize(
  'change, message',
  [
    ({'model_type': 'vit'}, "model_type is 'vit', expected 'resnet'"),
    ({'depths': [2, 2, 2, 2]}, r'depths is \[2, 2, 2, 2\], this ResNet has'),
    ({'hidden_act': 'gelu'}, "hidden_act is 'gelu'"),
    ({'downsample_in_first_stage': True}, 'downsample_in_first_stage is True'),
    ({'downsample_in_bottleneck': True}, 'puts the stride into the first 1x1'),
  ],
)
def test_config_of_another_network_raises(change, message, tmp_path):
  layout = LAYOUTS['bottleneck']
  weights = write(
    tmp_path,
    random_tensors(layout, hugging_face=True),
    {**hf_config(layout), **change},
  )
  with pytest.raises(ValueError, match=message):
    pretrained_resnet.load_resnet(weights, layout)
