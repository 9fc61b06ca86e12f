import jax
import numpy as np
import pytest
import tokenizers

from tests.pretrained import tiny_weights
from zsar_jax.inference import public_folders
from zsar_jax.models import videoprism as videoprism_model
from zsar_jax.pretrained import directory, videoprism

SHARED = {
  'hidden_size': 16,
  'intermediate_size': 32,
  'num_attention_heads': 2,
  # Low, so that the cap shows.
  'attn_logit_softcapping': 2.0,
}


def write_tokenizer(path):
  pieces = ['<pad>', '</s>', '<unk>', '▁', '▁rowing', '▁juggling']
  scores = [0.0, 0.0, 0.0, -9.0, -1.0, -1.0]
  model = tokenizers.models.Unigram(
    list(zip(pieces, scores, strict=True)), unk_id=2
  )
  made = tokenizers.Tokenizer(model)
  made.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
  made.save(str(path / 'tokenizer.json'))


@pytest.fixture(scope='module')
def peer(tmp_path_factory):
  """A small model by transformers, and its folder."""
  reason = 'parity with PyTorch needs the extra `parity`'
  torch = pytest.importorskip('torch', reason=reason)
  transformers = pytest.importorskip('transformers', reason=reason)
  if not hasattr(transformers, 'VideoPrismClipModel'):
    pytest.skip('this transformers has no VideoPrism')
  torch.manual_seed(0)
  config = transformers.VideoPrismConfig(
    text_config={
      **SHARED,
      'vocab_size': 30,
      'num_hidden_layers': 2,
      'max_position_embeddings': 9,
    },
    vision_config={
      **SHARED,
      'image_size': 24,
      'num_frames': 3,
      'tubelet_size': [1, 8, 8],
      'num_spatial_layers': 2,
      'num_temporal_layers': 2,
      'num_auxiliary_layers': 1,
    },
  )
  config._attn_implementation = 'eager'
  model = transformers.VideoPrismClipModel(config).eval()
  with torch.no_grad():
    for parameter in model.parameters():
      parameter.add_(0.2 * torch.randn(parameter.shape))
  path = tmp_path_factory.mktemp('weights') / 'videoprism'
  model.save_pretrained(path)
  tiny_weights.write_json(
    path / 'video_preprocessor_config.json',
    {'size': {'height': 24, 'width': 24}, 'do_normalize': False},
  )
  write_tokenizer(path)
  return model, str(path)


def test_outputs_equal_those_of_transformers(peer):
  import torch

  model, path = peer
  rng = np.random.default_rng(1)
  video = rng.uniform(size=(2, 3, 24, 24, 3)).astype(np.float32)
  ids = rng.integers(3, 30, (2, 9)).astype(np.int32)
  mask = np.arange(9) < np.array([[9], [4]])
  with torch.no_grad():
    expected = model(
      pixel_values_videos=torch.tensor(video).permute(0, 1, 4, 2, 3),
      input_ids=torch.tensor(ids).long(),
      attention_mask=torch.tensor(mask).long(),
    )
  kwargs, params = videoprism.load_videoprism(directory.read_weights(path))
  apply = jax.jit(videoprism_model.VideoPrism(**kwargs).apply)
  out = apply({'params': params}, video, ids, mask)

  def assert_equal(ours, theirs):
    np.testing.assert_allclose(ours, theirs.numpy(), rtol=0, atol=1e-4)

  videos = expected.video_model_output
  assert_equal(out['video']['tokens'], videos.last_hidden_state)
  assert_equal(out['video']['embedding'], expected.video_embeds)
  assert_equal(out['text']['embedding'], expected.text_embeds)


def test_both_sides_open_with_a_joint_space(peer):
  path = peer[1]
  encoders = public_folders.open_sides(path, path, prompts=('{}',))
  assert encoders.joint and encoders.prep.num_frames == 3
  assert encoders.prep.mean == (0, 0, 0) and encoders.prep.crop == 'whole'
  clips = np.zeros((1, 1, 3, 24, 24, 3), np.uint8)
  names = ['rowing', 'juggling']
  embeddings, logits = encoders.encode_videos(clips, names)
  # Padding changes nothing: the class token stands behind the real tokens.
  texts = encoders.encode_class_names(names)['embedding']
  expected = embeddings[0] @ texts.T * videoprism.SCALE
  np.testing.assert_allclose(logits, expected, atol=1e-3)
  with pytest.raises(ValueError, match='takes clips of 3 frames, not 8'):
    public_folders.open_sides(path, path, num_frames=8)


def test_weights_without_a_text_side_are_refused(peer):
  weights = directory.read_weights(peer[1])
  bare = {k: x for k, x in weights.tensors.items() if 'head' not in k}
  bare = directory.Weights('here', weights.config, {}, bare, {})
  with pytest.raises(ValueError, match='only LvT'):
    videoprism.load_videoprism(bare)


def test_another_kind_is_refused():
  config = {'model_type': 'videoprism', 'text_config': {'hidden_act': 'gelu'}}
  weights = directory.Weights('here', config, {}, {}, {})
  with pytest.raises(ValueError, match="text_config has hidden_act='gelu'"):
    videoprism.videoprism_kwargs(weights)
