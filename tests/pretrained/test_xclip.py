import jax
import numpy as np
import pytest

from tests.pretrained import tiny_weights
from zsar_jax.inference import public_folders
from zsar_jax.models import clip as clip_model
from zsar_jax.pretrained import clip, directory

FRAMES = 3


@pytest.fixture(scope='module')
def peer(tmp_path_factory):
  """A small X-CLIP by transformers, and its folder."""
  reason = 'parity with PyTorch needs the extra `parity`'
  torch = pytest.importorskip('torch', reason=reason)
  transformers = pytest.importorskip('transformers', reason=reason)
  torch.manual_seed(0)
  content = tiny_weights.clip_config()
  config = transformers.XCLIPConfig(
    projection_dim=12,
    prompt_num_attention_heads=4,
    text_config=content['text_config'],
    vision_config={
      **content['vision_config'],
      'num_frames': FRAMES,
      'mit_hidden_size': 12,
      'mit_intermediate_size': 20,
      'mit_num_hidden_layers': 2,
      'mit_num_attention_heads': 3,
    },
  )
  model = transformers.XCLIPModel(config).eval()
  with torch.no_grad():
    for name, parameter in model.named_parameters():
      # transformers leaves this one as memory had it.
      if name == 'mit.position_embedding':
        parameter.zero_()
      parameter.add_(0.1 * torch.randn(parameter.shape))
  path = tmp_path_factory.mktemp('weights') / 'xclip'
  model.save_pretrained(path)
  preprocessor = {**tiny_weights.PREPROCESSOR, 'resample': 2}
  tiny_weights.write_json(path / 'preprocessor_config.json', preprocessor)
  tiny_weights.write_clip_vocabulary(path)
  return model, str(path)


def test_features_equal_those_of_transformers(peer):
  import torch

  model, path = peer
  rng = np.random.default_rng(1)
  video = rng.normal(size=(2, FRAMES, 32, 32, 3)).astype(np.float32)
  end = model.config.text_config.vocab_size - 1
  ids = rng.integers(0, end - 1, (2, 7)).astype(np.int32)
  ids[:, -1] = end
  pixels = torch.tensor(video).permute(0, 1, 4, 2, 3)
  with torch.no_grad():
    videos = model.get_video_features(pixel_values=pixels).pooler_output
    texts = model.get_text_features(
      input_ids=torch.tensor(ids).long()
    ).pooler_output
    tokens = model.vision_model(pixels.flatten(0, 1)).last_hidden_state
  kwargs, params = clip.load_clip(directory.read_weights(path))
  apply = jax.jit(clip_model.Clip(**kwargs).apply)
  out = apply({'params': params}, video, ids, np.ones(ids.shape, bool))

  def assert_equal(ours, theirs):
    ours = np.asarray(ours).reshape(theirs.shape)
    np.testing.assert_allclose(ours, theirs.numpy(), rtol=0, atol=1e-4)

  unit = torch.nn.functional.normalize
  assert_equal(out['video']['tokens'], tokens)
  assert_equal(out['video']['embedding'], unit(videos, dim=-1))
  assert_equal(out['text']['embedding'], unit(texts, dim=-1))


def test_both_sides_open_with_a_joint_space(peer):
  path = peer[1]
  encoders = public_folders.open_sides(path, path, prompts=('{}',))
  assert encoders.joint and encoders.prep.num_frames == FRAMES
  clips = np.zeros((1, 1, FRAMES, 32, 32, 3), np.uint8)
  embeddings, logits = encoders.encode_videos(clips, ['running'])
  assert embeddings.shape == (1, 1, 12) and logits.shape == (1, 1)
  with pytest.raises(ValueError, match='takes clips of 3 frames, not 8'):
    public_folders.open_sides(path, path, num_frames=8)


def test_a_clip_of_another_length_is_refused(peer):
  kwargs, params = clip.load_clip(directory.read_weights(peer[1]))
  video = np.zeros((1, FRAMES + 1, 32, 32, 3), np.float32)
  with pytest.raises(
    ValueError, match='a clip of 4 frames for an encoder of 3'
  ):
    clip_model.Clip(**kwargs).apply(
      {'params': params}, video, method='encode_video'
    )
