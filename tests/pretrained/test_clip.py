import jax
import numpy as np
import pytest
import tokenizers

from tests.pretrained import tiny_weights
from zsar_jax.models import clip as clip_model
from zsar_jax.pretrained import clip, directory

END = tiny_weights.clip_vocabulary()['<|endoftext|>']
START = END - 1


def inputs():
  """Two clips of three frames, three texts of 3, 12 and 7 tokens."""
  rng = np.random.default_rng(1)
  video = rng.normal(size=(2, 3, 32, 32, 3)).astype(np.float32)
  ids = np.full((3, 12), END, np.int32)
  mask = np.zeros((3, 12), bool)
  for row, length in enumerate((3, 12, 7)):
    ids[row, :length] = [START, *rng.integers(0, START, length - 2), END]
    mask[row, :length] = True
  return video, ids, mask


def load(path, **kwargs):
  return clip.load_clip(directory.read_weights(path), **kwargs)


@pytest.mark.parametrize(
  'activation, end_id',
  [('quick_gelu', clip_model.LEGACY_END_ID), ('gelu', END)],
)
def test_outputs_equal_those_of_transformers(tmp_path, activation, end_id):
  reason = 'parity with PyTorch needs the extra `parity`'
  torch = pytest.importorskip('torch', reason=reason)
  transformers = pytest.importorskip('transformers', reason=reason)
  config = tiny_weights.clip_config(activation, end_id)
  path = tiny_weights.write_clip(tmp_path / 'clip', config)
  peer, info = transformers.CLIPModel.from_pretrained(
    path, output_loading_info=True
  )
  assert not info['missing_keys'] and not info['unexpected_keys']
  video, ids, mask = inputs()
  frames = video.reshape(-1, *video.shape[2:]).transpose(0, 3, 1, 2)
  with torch.no_grad():
    expected = peer.eval()(
      input_ids=torch.tensor(ids).long(),
      attention_mask=torch.tensor(mask).long(),
      pixel_values=torch.tensor(frames),
    )
  kwargs, params = load(path)
  apply = jax.jit(clip_model.Clip(**kwargs).apply)
  out = apply({'params': params}, video, ids, mask)

  def assert_equal(ours, theirs):
    ours = np.asarray(ours).reshape(theirs.shape)
    np.testing.assert_allclose(ours, theirs.numpy(), rtol=0, atol=1e-4)

  images, texts = expected.vision_model_output, expected.text_model_output
  assert_equal(out['video']['tokens'], images.last_hidden_state)
  assert_equal(out['video']['frame_embeddings'], expected.image_embeds)
  assert_equal(out['text']['tokens'], texts.last_hidden_state)
  assert_equal(out['text']['embedding'], expected.text_embeds)
  assert_equal(out['scale'], peer.logit_scale.exp().detach())


def test_token_length_cuts_the_positions_and_changes_nothing(tmp_path):
  path = tiny_weights.write_clip(tmp_path / 'clip')
  _, ids, mask = inputs()
  embeddings = []
  for token_length in (None, 12):
    kwargs, params = load(path, token_length=token_length)
    model = clip_model.Clip(**kwargs)
    out = model.apply({'params': params}, ids, mask, method='encode_text')
    embeddings.append(out['embedding'])
  assert params['text_encoder']['position'].shape == (12, 16)
  np.testing.assert_array_equal(*embeddings)
  with pytest.raises(ValueError, match='fewer than token_length=41'):
    load(path, token_length=41)


def test_settings_that_a_saved_config_leaves_out_are_vit_b_32s():
  weights = directory.Weights('here', {'model_type': 'clip'}, {}, {}, {})
  kwargs = clip.clip_kwargs(weights)
  assert kwargs['embedding_dim'] == 512
  assert (kwargs['video']['patch_size'], kwargs['video']['width']) == (32, 768)
  assert kwargs['text']['max_length'] == 77
  # Old files say it twice.
  config = {
    'model_type': 'clip',
    'text_config': {'num_hidden_layers': 1},
    'text_config_dict': {'num_hidden_layers': 3},
    'vision_config_dict': None,
  }
  weights = directory.Weights('here', config, {}, {}, {})
  assert clip.clip_kwargs(weights)['text']['depth'] == 3


def change(path, changes):
  config = tiny_weights.clip_config()
  for key, value in changes.items():
    part, _, name = key.partition('.')
    if name:
      config[part][name] = value
    else:
      config[part] = value
  tiny_weights.write_json(path / 'config.json', config)


@pytest.mark.parametrize(
  'changes, reason',
  [
    ({'model_type': 'bert'}, r"config.json: model_type is 'bert', expected"),
    ({'text_config.hidden_act': 'mish'}, "hidden_act 'mish' is not one of"),
    ({'text_config.vocab_size': 500}, 'expected 500 rows, as config.json'),
    ({'text_config.num_hidden_layers': 3}, 'layers.2.* is missing'),
    ({'vision_config.num_hidden_layers': 1}, '16 tensors do not belong'),
    ({'vision_config.image_size': 64}, 'position_embedding.weight.* shape'),
    (
      {'vision_config.patch_size': 0},
      'config.json: vision_config.patch_size is 0, expected a positive whole',
    ),
    ({'text_config.hidden_size': 'x'}, "text_config.hidden_size is 'x', expec"),
    ({'text_config.num_attention_heads': 3}, 'not divide the hidden_size 16'),
    ({'text_config.layer_norm_eps': True}, 'eps is True, expected a positive'),
    ({'vision_config': [8]}, r'vision_config is \[8\], expected a JSON object'),
    ({'projection_dim': 'x'}, "projection_dim is 'x', expected a positive wh"),
    ({'projection_dim': 13}, 'projection.weight.* does not fit'),
  ],
)
def test_what_does_not_fit_is_named(tmp_path, changes, reason):
  path = tiny_weights.write_clip(tmp_path / 'clip')
  change(tmp_path / 'clip', changes)
  with pytest.raises(ValueError, match=reason) as error:
    load(path)
  assert path in str(error.value)


def test_old_position_numbers_are_ignored_and_nothing_else(tmp_path):
  path, config = tmp_path / 'clip', tiny_weights.clip_config()
  tensors = tiny_weights.clip_tensors(config)
  numbers = np.arange(40)[None]
  old = {'text_model.embeddings.position_ids': numbers}
  load(tiny_weights.write(path, config, {**tensors, **old}))
  extra = {'text_model.adapter.weight': np.ones(3, np.float32)}
  tiny_weights.write(path, config, {**tensors, **extra})
  with pytest.raises(ValueError, match='text_model.adapter.weight'):
    load(str(path))


def test_tokenizer_of_another_size_is_refused(tmp_path):
  path = tiny_weights.write_clip(tmp_path / 'clip')
  weights = directory.read_weights(path)
  assert clip.load_tokenizer(weights, 20).num_tokens == END + 1
  change(tmp_path / 'clip', {'text_config.vocab_size': 500})
  with pytest.raises(ValueError, match=f'{END + 1} tokens, .*vocab_size=500'):
    clip.load_tokenizer(directory.read_weights(path), 20)


def test_metaclip_2_ends_texts_with_the_id_that_its_config_has(tmp_path):
  """Tests an end id of 2, which CLIP ignores as a known misprint."""
  reason = 'parity with PyTorch needs the extra `parity`'
  torch = pytest.importorskip('torch', reason=reason)
  transformers = pytest.importorskip('transformers', reason=reason)
  if not hasattr(transformers, 'MetaClip2Model'):
    pytest.skip('this transformers has no MetaClip2Model')
  content = tiny_weights.clip_config('gelu', 2)
  config = transformers.MetaClip2Config(
    projection_dim=content['projection_dim'],
    text_config=content['text_config'],
    vision_config=content['vision_config'],
  )
  torch.manual_seed(0)
  peer = transformers.MetaClip2Model(config).eval()
  peer.save_pretrained(tmp_path)
  video, ids, mask = inputs()
  # Larger ids stand before the end, and padding behind it.
  ids = np.where(ids == END, 2, ids)
  ids = np.where(mask, ids, 1)
  frames = video.reshape(-1, *video.shape[2:]).transpose(0, 3, 1, 2)
  with torch.no_grad():
    expected = peer(
      input_ids=torch.tensor(ids).long(),
      attention_mask=torch.tensor(mask).long(),
      pixel_values=torch.tensor(frames),
    )
  kwargs, params = load(str(tmp_path))
  apply = jax.jit(clip_model.Clip(**kwargs).apply)
  out = apply({'params': params}, video, ids, mask)
  images = np.asarray(out['video']['frame_embeddings']).reshape(6, -1)
  texts = out['text']['embedding']
  for ours, theirs in (
    (images, expected.image_embeds),
    (texts, expected.text_embeds),
  ):
    np.testing.assert_allclose(ours, theirs.numpy(), rtol=0, atol=1e-4)


def test_metaclip_2_reads_the_tokens_of_xlm_v(tmp_path):
  pieces = ['<s>', '<pad>', '</s>', '<unk>', '▁row', '▁arm', '▁', 'r', 'o']
  scores = [0.0, 0.0, 0.0, 0.0, -1.0, -1.0, -9.0, -9.0, -9.0]
  model = tokenizers.models.Unigram(
    list(zip(pieces, scores, strict=True)), unk_id=3
  )
  made = tokenizers.Tokenizer(model)
  made.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
  made.save(str(tmp_path / 'tokenizer.json'))

  def read(**changes):
    text = {'vocab_size': 9, 'eos_token_id': 2, **changes}
    config = {'model_type': 'metaclip_2', 'text_config': text}
    weights = directory.Weights(str(tmp_path), config, {}, {}, {})
    return clip.load_tokenizer(weights, 6)

  ids, mask = read()(['arm row', 'row'])
  assert ids.tolist() == [[0, 5, 4, 2, 1, 1], [0, 4, 2, 1, 1, 1]]
  assert mask.sum(axis=1).tolist() == [4, 3]
  with pytest.raises(ValueError, match='ends texts with 2, .*eos_token_id=1'):
    read(eos_token_id=1)
