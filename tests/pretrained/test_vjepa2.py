import jax
import numpy as np
import pytest

from tests.pretrained import tiny_weights
from zsar_jax.inference import public_sides
from zsar_jax.models import video_encoder
from zsar_jax.models import vjepa2 as vjepa2_model
from zsar_jax.pretrained import directory, vjepa2

LABELS = {0: 'rowing', 1: 'juggling', 2: 'doing yoga'}


@pytest.fixture(scope='module')
def peer(tmp_path_factory):
  """A small classifier by transformers, and its folder."""
  reason = 'parity with PyTorch needs the extra `parity`'
  torch = pytest.importorskip('torch', reason=reason)
  transformers = pytest.importorskip('transformers', reason=reason)
  if not hasattr(transformers, 'VJEPA2ForVideoClassification'):
    pytest.skip('this transformers has no V-JEPA 2')
  torch.manual_seed(0)
  config = transformers.VJEPA2Config(
    patch_size=8,
    crop_size=32,
    frames_per_clip=4,
    tubelet_size=2,
    # A head of 20: thirds of 6, and two channels that do not turn.
    hidden_size=40,
    num_attention_heads=2,
    num_hidden_layers=2,
    mlp_ratio=2.5,
    num_pooler_layers=2,
    pred_hidden_size=24,
    pred_num_attention_heads=2,
    pred_num_hidden_layers=1,
    id2label=LABELS,
  )
  model = transformers.VJEPA2ForVideoClassification(config).eval()
  with torch.no_grad():
    for parameter in model.parameters():
      parameter.add_(0.1 * torch.randn(parameter.shape))
  path = tmp_path_factory.mktemp('weights') / 'vjepa2'
  model.save_pretrained(path)
  tiny_weights.write_json(
    path / 'video_preprocessor_config.json',
    {
      'size': {'shortest_edge': 36},
      'crop_size': {'height': 32, 'width': 32},
      'image_mean': [0.485, 0.456, 0.406],
      'image_std': [0.229, 0.224, 0.225],
      'resample': 2,
    },
  )
  return model, str(path)


def test_outputs_equal_those_of_transformers(peer):
  import torch

  model, path = peer
  rng = np.random.default_rng(1)
  video = rng.normal(size=(2, 4, 32, 32, 3)).astype(np.float32)
  pixels = torch.tensor(video).permute(0, 1, 4, 2, 3)
  with torch.no_grad():
    tokens = model.vjepa2(pixels, skip_predictor=True).last_hidden_state
    pooled = model.pooler(tokens)
  kwargs, params = vjepa2.load_vjepa2(directory.read_weights(path))
  network = vjepa2_model.VJepa2(**kwargs)
  out = jax.jit(network.apply)({'params': params}, video)
  close = dict(rtol=0, atol=1e-4)
  np.testing.assert_allclose(out['tokens'], tokens.numpy(), **close)
  np.testing.assert_allclose(out['pooled'], pooled.numpy(), **close)


def test_it_opens_as_a_classifier(peer):
  side = public_sides.open_video(peer[1])
  assert side.labels == tuple(LABELS.values())
  assert side.columns.shape == (3, 40)
  assert (side.pixels['num_frames'], side.pixels['short_side']) == (4, 36)
  assert side.pixels['crop'] == 'centre'
  clips = np.zeros((1, 1, 4, 32, 32, 3), np.uint8)
  np.testing.assert_allclose(np.linalg.norm(side.embed(clips)[0, 0]), 1, 1e-5)


def test_weights_without_the_pooler_are_refused(peer):
  weights = directory.read_weights(peer[1])
  bare = {k: x for k, x in weights.tensors.items() if 'pooler' not in k}
  weights = directory.Weights('here', weights.config, {}, bare, {})
  with pytest.raises(ValueError, match='are no classifier'):
    vjepa2.load_vjepa2(weights)


@pytest.mark.parametrize(
  'change, message',
  [
    ({'mlp_ratio': 'x'}, "mlp_ratio is 'x', expected a positive number"),
    ({'tubelet_size': 0}, 'tubelet_size is 0, expected a positive whole'),
    ({'num_attention_heads': 7}, 'not divide the hidden_size 40'),
    ({'num_pooler_layers': -1}, 'layers is -1, expected a whole number, 0 or'),
  ],
)
def test_damaged_settings_are_named(peer, change, message):
  config = {**directory.read_weights(peer[1]).config, **change}
  with pytest.raises(ValueError, match=f'here/config.json: .*{message}'):
    vjepa2.vjepa2_kwargs(directory.Weights('here', config, {}, {}, {}))


def test_rotary_positions_need_joint_attention():
  encoder = video_encoder.VideoEncoder(
    12, 1, 2, 12, (1, 8, 8), pooling='cls', positions='rotary'
  )
  with pytest.raises(ValueError, match="'rotary' positions need joint"):
    encoder.init(jax.random.key(0), np.zeros((1, 1, 8, 8, 3), np.float32))
