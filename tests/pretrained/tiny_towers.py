"""Small random weights of public video models, without torch.

Every directory has a tokenizer that spells any name.
"""

import functools
import string

import numpy as np
import tokenizers

from tests.pretrained import test_pe_video, tiny_weights

SIZE, FRAMES, TOKENS = 16, 2, 64
_PIXELS = {
  'size': {'height': SIZE, 'width': SIZE},
  'image_mean': [0.5, 0.4, 0.3],
  'image_std': [0.5, 0.6, 0.7],
}


def _blocks(t, name, depth, width, hidden, attention='self_attn'):
  """Blocks as of CLIP."""
  for i in range(depth):
    layer = f'{name}.{i}'
    for part in ('q', 'k', 'v', 'out'):
      t.dense(f'{layer}.{attention}.{part}_proj', width, width)
    t.dense(f'{layer}.mlp.fc1', hidden, width)
    t.dense(f'{layer}.mlp.fc2', width, hidden)
    t.norm(f'{layer}.layer_norm1', width)
    t.norm(f'{layer}.layer_norm2', width)


def _pieces(path, end, pad):
  """Writes a tokenizer of single letters; returns the number of its pieces."""
  pieces = [pad, end, '<unk>', '▁', *string.ascii_lowercase, ',', '.']
  model = tokenizers.models.Unigram(
    [(piece, -float(i > 2)) for i, piece in enumerate(pieces)], unk_id=2
  )
  made = tokenizers.Tokenizer(model)
  made.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
  made.save(str(path / 'tokenizer.json'))
  return len(pieces)


def write_siglip(path):
  width, hidden, patch, t = 16, 24, 8, tiny_weights.Tensors()
  path.mkdir(parents=True)
  words = _pieces(path, '</s>', '<pad>') + 5  # more rows than pieces
  tiny_weights.write_json(
    path / 'tokenizer_config.json', {'tokenizer_class': 'SiglipTokenizer'}
  )
  shared = {
    'hidden_size': width,
    'num_hidden_layers': 2,
    'num_attention_heads': 4,
    'intermediate_size': hidden,
  }
  for name in ('text_model', 'vision_model'):
    _blocks(t, f'{name}.encoder.layers', 2, width, hidden)
  text, image = 'text_model.embeddings', 'vision_model.embeddings'
  t.add(f'{text}.token_embedding.weight', words, width)
  t.add(f'{text}.position_embedding.weight', TOKENS, width)
  t.norm('text_model.final_layer_norm', width)
  t.dense('text_model.head', width, width)
  t.add(f'{image}.patch_embedding.weight', width, 3, patch, patch, std=0.1)
  t.add(f'{image}.patch_embedding.bias', width)
  t.add(f'{image}.position_embedding.weight', (SIZE // patch) ** 2, width)
  t.norm('vision_model.post_layernorm', width)
  head = 'vision_model.head'
  t.add(f'{head}.probe', 1, 1, width)
  t.add(f'{head}.attention.in_proj_weight', 3 * width, width)
  t.add(f'{head}.attention.in_proj_bias', 3 * width)
  t.dense(f'{head}.attention.out_proj', width, width)
  t.norm(f'{head}.layernorm', width)
  t.dense(f'{head}.mlp.fc1', hidden, width)
  t.dense(f'{head}.mlp.fc2', width, hidden)
  # Above the largest scale of a training.
  t['logit_scale'] = np.float32([np.log(112.0)])
  t['logit_bias'] = np.float32([-16.0])
  vision = {**shared, 'image_size': SIZE, 'patch_size': patch}
  text = {**shared, 'vocab_size': words, 'max_position_embeddings': TOKENS}
  config = {'text_config': text, 'vision_config': vision}
  tiny_weights.write_json(path / 'preprocessor_config.json', _PIXELS)
  return tiny_weights.write(path, {'model_type': 'siglip', **config}, dict(t))


def write_xclip(path):
  content = tiny_weights.clip_config()
  content['text_config']['max_position_embeddings'] = 77
  vision = content['vision_config']
  vision |= {
    'image_size': SIZE,
    'num_frames': FRAMES,
    'mit_hidden_size': 12,
    'mit_intermediate_size': 20,
    'mit_num_hidden_layers': 2,
    'mit_num_attention_heads': 3,
  }
  t = tiny_weights.Tensors()
  t.update(tiny_weights.clip_tensors(content))
  for part in ('weight', 'bias'):
    norm = t.pop(f'vision_model.pre_layrnorm.{part}')
    t[f'vision_model.pre_layernorm.{part}'] = norm
  width = vision['hidden_size']
  for i in range(vision['num_hidden_layers']):
    layer = f'vision_model.encoder.layers.{i}'
    t.dense(f'{layer}.message_fc', width, width)
    t.norm(f'{layer}.message_ln', width)
    for part in ('q', 'k', 'v', 'out'):
      t.dense(f'{layer}.message_attn.{part}_proj', width, width)
  t.add('mit.position_embedding', 1, FRAMES, 12)
  _blocks(t, 'mit.encoder.layers', 2, 12, 20)
  tiny_weights.write(path, {**content, 'model_type': 'xclip'}, dict(t))
  pixels = {
    **tiny_weights.PREPROCESSOR,
    'size': {'shortest_edge': SIZE},
    'crop_size': {'height': SIZE, 'width': SIZE},
  }
  tiny_weights.write_json(path / 'preprocessor_config.json', pixels)
  tiny_weights.write_clip_vocabulary(path)
  return str(path)


def _prism_blocks(t, name, depth, width, hidden):
  for i in range(depth):
    layer = f'{name}.{i}'
    for part in 'qkvo':
      t.dense(f'{layer}.attention.{part}_proj', width, width)
    t.norm(f'{layer}.layernorm_before', width)
    t.norm(f'{layer}.layernorm_after', width)
    t.dense(f'{layer}.mlp.fc1', hidden, width)
    t.dense(f'{layer}.mlp.fc2', width, hidden)


def write_videoprism(path):
  width, hidden, heads, patch, t = 16, 32, 2, 8, tiny_weights.Tensors()
  path.mkdir(parents=True)
  words = _pieces(path, '</s>', '<pad>')
  shared = {
    'hidden_size': width,
    'intermediate_size': hidden,
    'num_attention_heads': heads,
    'attn_logit_softcapping': 2.0,
  }
  depths = {'spatial': 2, 'temporal': 1, 'auxiliary': 1}

  blocks = functools.partial(_prism_blocks, t, width=width, hidden=hidden)
  video, head = 'video_model.vision_model', 'video_model.head'
  places = f'{video}.spatial_embeddings'
  t.add(
    f'{places}.patch_embeddings.projection.weight', width, 3, 1, patch, patch
  )
  t.add(f'{places}.patch_embeddings.projection.bias', width)
  t.add(f'{places}.position_embeddings', 1, (SIZE // patch) ** 2, width)
  t.add(f'{video}.temporal_embeddings.position_embeddings', 1, FRAMES, width)
  for kind in ('spatial', 'temporal'):
    blocks(f'{video}.{kind}_layers', depths[kind])
  blocks('video_model.auxiliary_layers', depths['auxiliary'])
  t.norm(f'{video}.layernorm1', width)
  t.norm(f'{video}.layernorm2', width)
  t.add(f'{head}.pooling_attention_query', 1, 1, width)
  t.add(f'{head}.per_dim_scale', hidden // heads)
  for part in 'qkv':
    t.dense(f'{head}.{part}_proj', hidden, width)
  t.dense(f'{head}.o_proj', width, hidden)
  t.norm('video_model.head_layernorm', width)
  t.add('text_model.embeddings.token_embedding.weight', words, width)
  t.add('text_model.embeddings.cls_emb', 1, 1, width)
  blocks('text_model.layers', 2)
  t.norm('text_model.layernorm', width)
  config = {
    'model_type': 'videoprism',
    'text_config': {
      **shared,
      'vocab_size': words,
      'num_hidden_layers': 2,
      'max_position_embeddings': TOKENS,
    },
    'vision_config': {
      **shared,
      'image_size': SIZE,
      'num_frames': FRAMES,
      'tubelet_size': [1, patch, patch],
      **{f'num_{kind}_layers': depth for kind, depth in depths.items()},
    },
  }
  tiny_weights.write_json(path / 'video_preprocessor_config.json', _PIXELS)
  return tiny_weights.write(path, config, dict(t))


def write_pe_video(path):
  path.mkdir(parents=True)
  words = len(test_pe_video.write_tokenizer(path))
  content, stored = test_pe_video.config(), test_pe_video.tensors()
  content['text_config'] = {**test_pe_video.TEXT, 'vocab_size': words}
  name = 'text_model.embeddings.tok_embeddings.weight'
  stored[name] = np.resize(stored[name], (words, stored[name].shape[1]))
  side = test_pe_video.TOWER['img_size']
  pixels = {**_PIXELS, 'size': {'height': side, 'width': side}}
  pixels |= {'do_resize': True, 'num_frames': FRAMES}
  tiny_weights.write_json(path / 'video_preprocessor_config.json', pixels)
  return tiny_weights.write(path, content, stored)


def write_vjepa2(path):
  width, hidden, patch, t = 24, 40, 8, tiny_weights.Tensors()
  patches = 'vjepa2.encoder.embeddings.patch_embeddings.proj'
  t.add(f'{patches}.weight', width, 3, 2, patch, patch, std=0.1)
  t.add(f'{patches}.bias', width)
  for i in range(2):
    layer = f'vjepa2.encoder.layer.{i}'
    for part in ('query', 'key', 'value', 'proj'):
      t.dense(f'{layer}.attention.{part}', width, width)
    t.norm(f'{layer}.norm1', width)
    t.norm(f'{layer}.norm2', width)
    t.dense(f'{layer}.mlp.fc1', hidden, width)
    t.dense(f'{layer}.mlp.fc2', width, hidden)
  t.norm('vjepa2.encoder.layernorm', width)
  t.add('pooler.query_tokens', 1, 1, width)
  _blocks(t, 'pooler.self_attention_layers', 1, width, 4 * width)
  cross = 'pooler.cross_attention_layer'
  for part in 'qkv':
    t.dense(f'{cross}.cross_attn.{part}_proj', width, width)
  t.norm(f'{cross}.layer_norm1', width)
  t.norm(f'{cross}.layer_norm2', width)
  t.dense(f'{cross}.mlp.fc1', 4 * width, width)
  t.dense(f'{cross}.mlp.fc2', width, 4 * width)
  config = {
    'model_type': 'vjepa2',
    'hidden_size': width,
    'num_hidden_layers': 2,
    'num_attention_heads': 2,
    'mlp_ratio': hidden / width,
    'hidden_act': 'gelu',
    'tubelet_size': 2,
    'patch_size': patch,
    'crop_size': SIZE,
    'frames_per_clip': 2 * FRAMES,
    'num_pooler_layers': 1,
  }
  pixels = {
    **_PIXELS,
    'size': {'shortest_edge': SIZE},
    'crop_size': {'height': SIZE, 'width': SIZE},
  }
  path.mkdir(parents=True)
  tiny_weights.write_json(path / 'video_preprocessor_config.json', pixels)
  return tiny_weights.write(path, config, dict(t))
