import jax
import numpy as np
import pytest
import tokenizers

from tests.pretrained import test_pixels, tiny_weights
from zsar_jax.data import clips
from zsar_jax.inference import public_folders
from zsar_jax.models import pe_video as pe_video_model
from zsar_jax.pretrained import directory, pe_video

WORDS = ['a', 'video', 'of', 'rowing', 'juggling']
TOWER = {
  'img_size': 32,
  'patch_size': 8,
  'embed_dim': 16,
  'depth': 2,
  'num_heads': 2,
  # Not the grid of 4 x 4, so that the scaling of places shows.
  'ref_feat_shape': [3, 3],
  'attn_pool_num_heads': 4,
}
WITH_CLS = 'vit_pe_core_base_patch16_224'
WITHOUT_CLS = 'vit_pe_core_gigantic_patch14_448'
TEXT = {
  'model_type': 'modernbert',
  'vocab_size': 30,
  'hidden_size': 12,
  'intermediate_size': 20,
  'num_hidden_layers': 4,
  'num_attention_heads': 2,
  # Short, so that it cuts texts of nine tokens.
  'local_attention': 4,
  'pad_token_id': 0,
}
VIDEO = {
  'hidden_size': 24,
  'intermediate_size': 40,
  'num_hidden_layers': 2,
  'num_attention_heads': 2,
  'head_dim': 8,
}
FEATURES = 10


def config(architecture=WITH_CLS, **vision):
  vision = {'architecture': architecture, 'model_args': TOWER, **vision}
  video = {**VIDEO, 'vision_config': vision}
  return {'model_type': 'pe_video', 'text_config': TEXT, 'video_config': video}


def tower_tensors(t, architecture):
  name = 'video_encoder.embedder.vision_model.timm_model'
  width, has_cls = TOWER['embed_dim'], architecture == WITH_CLS
  hidden = int(width * (4 if has_cls else 8960 / 1536))
  if has_cls:
    t.add(f'{name}.cls_token', 1, 1, width)
  t.add(f'{name}.pos_embed', 1, 16 + has_cls, width)
  t.add(f'{name}.patch_embed.proj.weight', width, 3, 8, 8, std=0.1)
  for i in range(TOWER['depth']):
    block = f'{name}.blocks.{i}'
    t.norm(f'{block}.norm1', width)
    t.norm(f'{block}.norm2', width)
    t.dense(f'{block}.attn.qkv', 3 * width, width)
    t.dense(f'{block}.attn.proj', width, width)
    t.dense(f'{block}.mlp.fc1', hidden, width)
    t.dense(f'{block}.mlp.fc2', width, hidden)
  t.norm(f'{name}.norm_pre', width)
  t.norm(f'{name}.norm', width)
  pool = f'{name}.attn_pool'
  t.add(f'{pool}.latent', 1, 1, width)
  t.dense(f'{pool}.q', width, width)
  t.dense(f'{pool}.kv', 2 * width, width)
  t.dense(f'{pool}.proj', width, width)
  t.norm(f'{pool}.norm', width)
  t.dense(f'{pool}.mlp.fc1', 4 * width, width)
  t.dense(f'{pool}.mlp.fc2', width, 4 * width)
  t.dense(f'{name}.head', FEATURES, width)


def tensors(architecture=WITH_CLS):
  t, width, dim = tiny_weights.Tensors(), VIDEO['hidden_size'], 12
  tower_tensors(t, architecture)
  t.add('video_encoder.embedder.proj.weight', width, FEATURES)
  t.dense('video_encoder.embedder.data_proj', width, width)
  patches = 'video_encoder.patch_embedder'
  t.add(f'{patches}.class_embedding', 1, 1, width)
  for i in (1, 2):
    t.norm(f'{patches}.resnet_block.block{i}.groupnorm', width)
    project = f'{patches}.resnet_block.block{i}.project'
    t.add(f'{project}.weight', width, width, 3, std=0.1)
    t.add(f'{project}.bias', width)
  for i in range(VIDEO['num_hidden_layers']):
    layer = f'video_encoder.layers.{i}'
    for part in 'qkv':
      t.add(f'{layer}.self_attn.{part}_proj.weight', 16, width)
    t.add(f'{layer}.self_attn.o_proj.weight', width, 16)
    for norm, size in (
      ('self_attn.q_norm', 8),
      ('self_attn.k_norm', 8),
      ('input_layernorm', width),
      ('post_attention_layernorm', width),
    ):
      t.add(f'{layer}.{norm}.weight', size)
    for part in ('gate', 'up'):
      t.add(f'{layer}.mlp.{part}_proj.weight', 40, width)
    t.add(f'{layer}.mlp.down_proj.weight', width, 40)
  t.add('video_encoder.norm.weight', width)
  t.add('video_encoder.output.weight', width, width)
  t.add('text_model.embeddings.tok_embeddings.weight', 30, dim)
  for norm in ('embeddings.norm', 'final_norm'):
    t.add(f'text_model.{norm}.weight', dim)
  for i in range(TEXT['num_hidden_layers']):
    layer = f'text_model.layers.{i}'
    t.add(f'{layer}.attn.Wqkv.weight', 3 * dim, dim)
    t.add(f'{layer}.attn.Wo.weight', dim, dim)
    t.add(f'{layer}.mlp.Wi.weight', 40, dim)
    t.add(f'{layer}.mlp.Wo.weight', dim, 20)
    for norm in ('attn_norm', 'mlp_norm')[i == 0 :]:
      t.add(f'{layer}.{norm}.weight', dim)
  for head, inputs in (('video_head', width), ('text_video_head', dim)):
    t.norm(f'{head}.layer_norm', inputs)
    t.add(f'{head}.proj.weight', dim, inputs)
  t.add('text_video_logit_scale', 1)
  t.add('text_video_logit_bias', 1)
  return dict(t)


def inputs():
  """Clips [2 5 32 32 3], token ids [3 9] and their mask."""
  rng = np.random.default_rng(1)
  video = rng.normal(size=(2, 5, 32, 32, 3)).astype(np.float32)
  mask = np.arange(9) < np.array([[9], [7], [4]])
  ids = np.where(mask, rng.integers(3, 30, (3, 9)), 0).astype(np.int32)
  return video, ids, mask


def run(weights):
  """Our outputs: of clips, of texts, and the logits."""
  kwargs, params = pe_video.load_pe_video(weights)
  model, (video, *texts) = pe_video_model.PeVideo(**kwargs), inputs()

  @jax.jit
  def outputs(params):
    call = lambda *args, **how: model.apply({'params': params}, *args, **how)
    found = call(video, method='encode_video')
    read = call(*texts, method='encode_text')
    return found, read, call(found, read, method='logits')

  return outputs(params)


@pytest.mark.parametrize('architecture', [WITH_CLS, WITHOUT_CLS])
def test_outputs_equal_those_of_transformers_with_timm(tmp_path, architecture):
  reason = 'parity with timm needs the extra `parity`, and timm'
  torch = pytest.importorskip('torch', reason=reason)
  transformers = pytest.importorskip('transformers', reason=reason)
  pytest.importorskip('timm', reason=reason)
  if not hasattr(transformers, 'PeVideoModel'):
    pytest.skip('this transformers has no Perception Encoder')
  content = config(architecture, model_type='timm_wrapper', num_labels=FEATURES)
  del content['model_type']
  peer = transformers.PeVideoModel(transformers.PeVideoConfig(**content)).eval()
  stored = {k: torch.tensor(x) for k, x in tensors(architecture).items()}
  peer.load_state_dict(stored)
  # As transformers writes them.
  peer.save_pretrained(tmp_path)
  video, ids, mask = inputs()
  with torch.no_grad():
    expected = peer(
      pixel_values_videos=torch.tensor(video).movedim(-1, 2).contiguous(),
      input_ids=torch.tensor(ids).long(),
      attention_mask=torch.tensor(mask).long(),
    )
  found, read, logits = run(directory.read_weights(str(tmp_path)))

  def assert_equal(ours, theirs):
    np.testing.assert_allclose(ours, theirs.numpy(), rtol=0, atol=1e-4)

  assert_equal(found['tokens'], expected.video_outputs.last_hidden_state)
  assert_equal(found['vector'], expected.video_embeds)
  texts = torch.tensor(mask)[..., None] * expected.text_outputs[0]
  assert_equal(np.where(mask[..., None], read['tokens'], 0), texts)
  assert_equal(read['vector'], expected.text_video_embeds)
  assert_equal(logits, expected.logits_video_text)


# The same of transformers 5.24.0 with timm 1.0.31, for machines without them.
LOGITS = {
  WITH_CLS: [
    [0.399604, -0.371677, -0.375474],
    [0.422124, -0.441083, -0.445526],
  ],
  WITHOUT_CLS: [[0.257927, 0.161442, 0.215778], [0.235678, 0.128704, 0.205124]],
}


@pytest.mark.parametrize('architecture', LOGITS)
def test_logits_are_those_that_transformers_gave(tmp_path, architecture):
  path = tiny_weights.write(
    tmp_path, config(architecture), tensors(architecture)
  )
  logits = run(directory.read_weights(path))[2]
  np.testing.assert_allclose(logits, LOGITS[architecture], rtol=0, atol=1e-5)


def test_of_weights_that_hear_both_other_sides_are_taken(tmp_path):
  alone = config()
  together = {
    'model_type': 'pe_audio_video',
    'text_config': TEXT,
    'audio_video_config': {
      'video_config': alone['video_config'],
      'audio_config': {'hidden_size': 8},
    },
  }
  stored = {
    k if k.startswith('text_model.') else f'video_model.{k}': x
    for k, x in tensors().items()
  }
  stored['audio_model.audio_encoder.norm.weight'] = np.ones(8, np.float32)
  stored['audio_video_logit_scale'] = np.ones(1, np.float32)
  logits = run(
    directory.read_weights(tiny_weights.write(tmp_path, together, stored))
  )[2]
  np.testing.assert_allclose(logits, LOGITS[WITH_CLS], rtol=0, atol=1e-5)


def write_tokenizer(path):
  """A tokenizer of ModernBERT's kind: bytes, of which words are merged."""
  letters = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
  special = ['[PAD]', '[CLS]', '[SEP]']
  pieces = {piece: i for i, piece in enumerate([*special, *letters])}
  made = tokenizers.Tokenizer(tokenizers.models.BPE(pieces, []))
  made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(
    add_prefix_space=False
  )
  made.save(str(path / 'tokenizer.json'))
  return pieces


def test_both_sides_open_with_a_joint_space(tmp_path):
  content = config()
  content['text_config'] = {**TEXT, 'vocab_size': 300}
  stored = tensors()
  words = 'text_model.embeddings.tok_embeddings.weight'
  stored[words] = np.tile(stored[words], (10, 1))
  path = tiny_weights.write(tmp_path, content, stored)
  pieces = write_tokenizer(tmp_path)
  pixels = {
    'do_resize': True,
    'size': {'height': 32, 'width': 32},
    'image_mean': [0.5] * 3,
    'image_std': [0.5] * 3,
  }
  tiny_weights.write_json(tmp_path / 'video_preprocessor_config.json', pixels)
  # What the side that hears wants is not meant for frames.
  tiny_weights.write_json(
    tmp_path / 'preprocessor_config.json', {'sampling_rate': 48000}
  )
  encoders = public_folders.open_sides(path, path, prompts=('{}',))
  prep = encoders.prep
  assert encoders.joint and (prep.num_frames, prep.sampling) == (16, 'ends')
  assert (prep.resize, prep.crop) == ('bilinear', 'whole')
  ids = encoders.texts.token_ids(['rowing'])[0]['ids'][0]
  frame = [pieces['[CLS]'], *(pieces[x] for x in 'rowing'), pieces['[SEP]']]
  assert ids.tolist() == frame + [pieces['[PAD]']] * 56
  shown = np.random.default_rng(0).integers(0, 256, (1, 1, 16, 32, 32, 3))
  names = ['rowing', 'juggling']
  embeddings, logits = encoders.encode_videos(shown.astype(np.uint8), names)
  texts = encoders.encode_class_names(names)['embedding']
  expected = embeddings[0] @ texts.T * pe_video.SCALE
  np.testing.assert_allclose(logits, expected, atol=1e-3)
  assert public_folders.open_sides(path, path, 4).prep.num_frames == 4


@pytest.mark.parametrize('num_frames', [None, 6])
def test_pixels_and_frames_are_those_of_its_own_processor(tmp_path, num_frames):
  reason = 'parity with its processor needs the extra `parity` and torchvision'
  transformers = pytest.importorskip('transformers', reason=reason)
  pytest.importorskip('torchvision', reason=reason, exc_type=ImportError)
  if not hasattr(transformers, 'PeVideoVideoProcessor'):
    pytest.skip('this transformers has no Perception Encoder')
  peer = transformers.PeVideoVideoProcessor(
    size={'height': 32, 'width': 32},
    do_resize=True,
    do_rescale=True,
    do_normalize=True,
    image_mean=[0.5, 0.4, 0.3],
    image_std=[0.5, 0.6, 0.7],
    num_frames=num_frames,
  )
  peer.save_pretrained(tmp_path)
  path = tiny_weights.write(tmp_path, config(), {'x': np.ones(1)})
  found = pe_video.pixel_settings(directory.read_weights(path))
  frame = test_pixels.frame()
  theirs = peer([frame[None]], return_tensors='np', do_sample_frames=False)
  theirs = np.asarray(theirs['pixel_values_videos'])[0, 0].transpose(1, 2, 0)
  frames = {key: found.pop(key) for key in ('num_frames', 'sampling')}
  ours = test_pixels.as_the_model_sees_it(frame, found)
  # PyTorch rounds levels otherwise than Pillow.
  levels = np.abs(ours - theirs) * 255 * np.asarray(found['std'])
  assert levels.max() < 1.001 and levels.mean() < 0.01
  assert frames == {'num_frames': num_frames or 16, 'sampling': 'ends'}
  if num_frames:
    metadata = transformers.video_utils.VideoMetadata(total_num_frames=77)
    expected = peer.sample_frames(metadata, num_frames=num_frames)
    times = np.arange(77) / 30
    chosen = clips.sample_ends(times, 77 / 30, num_frames)
    assert chosen.tolist() == expected


def test_as_many_frames_as_the_processor_takes(tmp_path):
  size = {'height': 32, 'width': 32}
  given = {'size': size, 'num_frames': 6, 'do_normalize': False}
  weights = directory.Weights('here', config(), given, {}, {})
  assert pe_video.pixel_settings(weights)['num_frames'] == 6


@pytest.mark.parametrize(
  'part, change, reason',
  [
    ('video', {'num_key_value_heads': 1}, 'num_key_value_heads=1'),
    ('video', {'rope_parameters': {'rope_type': 'yarn'}}, "rope_type 'yarn'"),
    ('video', {'vision_config': {'architecture': 'resnet50'}}, "'resnet50' is"),
    (
      'video',
      {'vision_config': {'model_args': {'swiglu_mlp': True}}},
      r"model_args has \['swiglu_mlp'\]",
    ),
    (
      'video',
      {'vision_config': {'model_args': {'depth': 'x'}}},
      "config.json: model_args.depth is 'x', expected a positive whole number",
    ),
    ('video', {'head_dim': 0}, 'video_config.head_dim is 0, expected'),
    ('text', {'norm_eps': 'x'}, "text_config.norm_eps is 'x', expected"),
    ('text', {'model_type': 'bert'}, "text_config is of a 'bert'"),
    ('text', {'mlp_bias': True}, 'mlp_bias=True'),
    ('text', {'layer_types': ['full_attention']}, 'for each of 4 layers'),
  ],
)
def test_another_kind_is_refused(part, change, reason):
  content = config()
  content[f'{part}_config'] = {**content[f'{part}_config'], **change}
  weights = directory.Weights('here', content, {}, tensors(), {})
  with pytest.raises(ValueError, match=reason):
    pe_video.pe_video_kwargs(weights)
