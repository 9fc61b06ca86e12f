import json

import jax
import numpy as np
import pytest
import tokenizers

from tests.pretrained import tiny_weights
from zsar_jax.data import byte_pairs
from zsar_jax.inference import public_folders
from zsar_jax.models import siglip as siglip_model
from zsar_jax.pretrained import directory, siglip

WORDS = ['juggling', 'rowing', 'boat', 'a', 'video', 'of', 'person', 'is']
WORDS += ['photo', 'human', 'action', ',', '.']


def write_tokenizer(path, kind='SiglipTokenizer'):
  """Whole words and single letters; returns ids by piece."""
  end = '</s>' if kind == 'SiglipTokenizer' else '<eos>'
  letters = [chr(i) for i in range(ord('a'), ord('z') + 1)]
  pieces = ['<pad>', end, '<unk>', *(f'▁{word}' for word in WORDS), '▁']
  pieces += [*letters, ',', '.']
  scores = [0, 0, 0, *([-2.0] * len(WORDS)), *([-9.0] * (len(letters) + 3))]
  model = tokenizers.models.Unigram(
    list(zip(pieces, scores, strict=True)), unk_id=2
  )
  made = tokenizers.Tokenizer(model)
  made.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
  made.save(str(path / 'tokenizer.json'))
  tiny_weights.write_json(
    path / 'tokenizer_config.json', {'tokenizer_class': kind}
  )
  return {piece: i for i, piece in enumerate(pieces)}


def config(**vision):
  shared = {
    'hidden_size': 16,
    'num_hidden_layers': 2,
    'num_attention_heads': 4,
    'intermediate_size': 24,
  }
  # 34 pixels are four patches of 8 and a rest, as 384 of 14 are.
  vision = {**shared, 'image_size': 34, 'patch_size': 8, **vision}
  text = {**shared, 'vocab_size': 60, 'max_position_embeddings': 12}
  return {'model_type': 'siglip', 'text_config': text, 'vision_config': vision}


def peer(path, **vision):
  """Writes random weights by transformers; returns the model."""
  reason = 'parity with PyTorch needs the extra `parity`'
  torch = pytest.importorskip('torch', reason=reason)
  transformers = pytest.importorskip('transformers', reason=reason)
  torch.manual_seed(0)
  content = config(**vision)
  del content['model_type']
  model = transformers.SiglipModel(transformers.SiglipConfig(**content)).eval()
  with torch.no_grad():
    for parameter in model.parameters():
      parameter.add_(0.1 * torch.randn(parameter.shape))
  model.save_pretrained(path)
  return model


def test_outputs_equal_those_of_transformers(tmp_path):
  model = peer(tmp_path)
  import torch

  rng = np.random.default_rng(1)
  video = rng.normal(size=(2, 3, 34, 34, 3)).astype(np.float32)
  ids = rng.integers(0, 60, (3, 12)).astype(np.int32)
  frames = video.reshape(-1, *video.shape[2:]).transpose(0, 3, 1, 2)
  with torch.no_grad():
    expected = model(
      input_ids=torch.tensor(ids).long(), pixel_values=torch.tensor(frames)
    )
  kwargs, params = siglip.load_siglip(directory.read_weights(str(tmp_path)))
  mask = np.ones(ids.shape, bool)
  apply = jax.jit(siglip_model.Siglip(**kwargs).apply)
  out = apply({'params': params}, video, ids, mask)

  def assert_equal(ours, theirs):
    ours = np.asarray(ours).reshape(theirs.shape)
    np.testing.assert_allclose(ours, theirs.numpy(), rtol=0, atol=1e-4)

  images, texts = expected.vision_model_output, expected.text_model_output
  assert_equal(out['video']['tokens'], images.last_hidden_state)
  assert_equal(out['video']['frames'], expected.image_embeds)
  assert_equal(out['text']['tokens'], texts.last_hidden_state)
  assert_equal(out['text']['embedding'], expected.text_embeds)
  cosines = out['text']['embedding'] @ out['video']['frames'].reshape(6, -1).T
  logits = cosines * out['scale'] + out['bias']
  assert_equal(logits, expected.logits_per_text)


def test_the_first_generation_reads_no_capitals_and_no_punctuation(tmp_path):
  piece = write_tokenizer(tmp_path)
  weights = directory.Weights(str(tmp_path), config(), {}, {}, {})
  read = siglip.load_tokenizer(weights)
  ids, mask = read(['A  video, of: Rowing.', ' rowing'])
  words = [piece[f'▁{word}'] for word in ('a', 'video', 'of', 'rowing')]
  end = piece['</s>']
  # Filled up with the end token, and all of it is read.
  assert ids.tolist() == [words + [end] * 8, words[3:] + [end] * 11]
  assert mask.all()
  with pytest.raises(ValueError, match='has 13 tokens, more than'):
    read(['a ' * 12])
  # A bank keeps the definition alone.
  again = byte_pairs.open_tokenizer([read.definition], 12)
  np.testing.assert_array_equal(again(['rowing']), read(['rowing']))


def test_the_second_generation_keeps_punctuation(tmp_path):
  piece = write_tokenizer(tmp_path, 'GemmaTokenizerFast')
  weights = directory.Weights(str(tmp_path), config(), {}, {}, {})
  ids, mask = siglip.load_tokenizer(weights)(['Rowing.'])
  row = [piece['▁rowing'], piece['.'], piece['<eos>']]
  assert ids.tolist() == [row + [piece['<pad>']] * 9]
  assert mask.all()


def test_ids_equal_those_of_transformers(tmp_path):
  """SigLIP 2's tokenizer, of whose kind transformers has one in Python."""
  reason = 'parity with transformers needs the extra `parity`'
  transformers = pytest.importorskip('transformers', reason=reason)
  if not hasattr(transformers, 'Siglip2Tokenizer'):
    pytest.skip('this transformers has no Siglip2Tokenizer')
  letters = [chr(i) for i in range(33, 127)]
  pieces = ['<pad>', '<eos>', '<bos>', '<unk>', '<mask>', '▁', *letters]
  merges = [('o', 'w'), ('r', 'ow'), ('▁', 'row'), ('i', 'n'), ('in', 'g')]
  pieces += [''.join(merge) for merge in merges]
  vocabulary = {piece: i for i, piece in enumerate(pieces)}
  theirs = transformers.Siglip2Tokenizer(
    vocabulary, merges, padding_side='right'
  )
  theirs.save_pretrained(tmp_path)
  settings = tmp_path / 'tokenizer_config.json'
  content = json.loads(settings.read_text())
  settings.write_text(json.dumps({**content, 'padding_side': 'right'}))
  model = config()
  model['text_config'].update(vocab_size=200, max_position_embeddings=64)
  weights = directory.Weights(str(tmp_path), model, {}, {}, {})
  texts = ['Rowing', 'a person, rowing a boat.', "sit-ups don't RING"]
  ids, _ = siglip.load_tokenizer(weights)(texts)
  for row, text in zip(ids, texts, strict=True):
    bare = theirs(text, add_special_tokens=False)['input_ids']
    assert row.tolist() == bare + [1] + [0] * (63 - len(bare))


@pytest.mark.parametrize(
  'change, reason',
  [
    ({'tokenizer_class': 'T5Tokenizer'}, "tokenizer_class is 'T5Tokenizer'"),
    ({'padding_side': 'left'}, 'padded on the left'),
  ],
)
def test_another_tokenizer_is_refused(tmp_path, change, reason):
  write_tokenizer(tmp_path)
  settings = {'tokenizer_class': 'SiglipTokenizer', **change}
  tiny_weights.write_json(tmp_path / 'tokenizer_config.json', settings)
  weights = directory.Weights(str(tmp_path), config(), {}, {}, {})
  with pytest.raises(ValueError, match=reason):
    siglip.load_tokenizer(weights)
  (tmp_path / 'tokenizer.json').unlink()
  write = {'tokenizer_class': 'SiglipTokenizer'}
  tiny_weights.write_json(tmp_path / 'tokenizer_config.json', write)
  with pytest.raises(FileNotFoundError, match='AutoTokenizer'):
    siglip.load_tokenizer(weights)


def test_tokenizer_larger_than_the_model_is_refused(tmp_path):
  write_tokenizer(tmp_path)
  model = config()
  model['text_config']['vocab_size'] = 20
  weights = directory.Weights(str(tmp_path), model, {}, {}, {})
  with pytest.raises(ValueError, match='tokens, .*vocab_size=20'):
    siglip.load_tokenizer(weights)


@pytest.mark.parametrize(
  'change',
  [
    {'hidden_act': 'gelu'},
    {'layer_norm_eps': 1e-5},
    {'vision_use_head': False},
  ],
)
def test_what_the_pooling_head_does_not_know_is_refused(change):
  weights = directory.Weights('here', config(**change), {}, {}, {})
  (key,) = change
  with pytest.raises(ValueError, match=f'vision_config has {key}='):
    siglip.siglip_kwargs(weights)


def test_both_sides_open_as_encoders_with_a_joint_space(tmp_path):
  peer(tmp_path, image_size=32)
  write_tokenizer(tmp_path)
  tiny_weights.write_json(
    tmp_path / 'preprocessor_config.json',
    {
      'size': {'height': 32, 'width': 32},
      'image_mean': [0.5] * 3,
      'image_std': [0.5] * 3,
    },
  )
  encoders = public_folders.open_sides(
    str(tmp_path), str(tmp_path), prompts=('a video of {}',)
  )
  assert encoders.joint and encoders.prep.crop == 'whole'
  clips = np.random.default_rng(0).integers(0, 256, (1, 1, 8, 32, 32, 3))
  names = ['rowing', 'juggling']
  embeddings, logits = encoders.encode_videos(clips.astype(np.uint8), names)
  texts = encoders.encode_class_names(names)['embedding']
  expected = embeddings[0] @ texts.T * encoders.text.scale + encoders.text.bias
  np.testing.assert_allclose(logits, expected, atol=1e-4)
  assert encoders.text.bias != 0
