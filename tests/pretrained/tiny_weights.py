"""Small random weights in the layout of public ones, without torch."""

import json

import numpy as np
import safetensors.numpy
import tokenizers

BERT_CONFIG = {
  'model_type': 'bert',
  'vocab_size': 40,
  'hidden_size': 16,
  'num_hidden_layers': 2,
  'num_attention_heads': 4,
  'intermediate_size': 24,
  'max_position_embeddings': 20,
  'hidden_act': 'gelu',
  'layer_norm_eps': 1e-12,
  'type_vocab_size': 2,
}
BERT_PIECES = [
  *('[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', 'row', '##ing', 'arm'),
  *(f'word{i}' for i in range(32)),
]
MERGES = ['i n', 'in g</w>', 'r u', 'n n', 'ru nn', 'runn ing</w>', 'a n']
PREPROCESSOR = {
  'size': {'shortest_edge': 32},
  'crop_size': {'height': 32, 'width': 32},
  'image_mean': [0.48, 0.46, 0.41],
  'image_std': [0.27, 0.26, 0.28],
}


def clip_vocabulary():
  """CLIP's way of making one: bytes, ends of words, merges, the frame."""
  letters = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
  pieces = [
    *letters,
    *(f'{letter}</w>' for letter in letters),
    *(merge.replace(' ', '') for merge in MERGES),
    '<|startoftext|>',
    '<|endoftext|>',
  ]
  return {piece: i for i, piece in enumerate(pieces)}


def clip_config(activation='quick_gelu', end_id=None):
  vocabulary = clip_vocabulary()
  shared = {
    'num_hidden_layers': 2,
    'num_attention_heads': 4,
    'hidden_act': activation,
  }
  end = vocabulary['<|endoftext|>'] if end_id is None else end_id
  return {
    'model_type': 'clip',
    'projection_dim': 12,
    'text_config': {
      **shared,
      'vocab_size': len(vocabulary),
      'hidden_size': 16,
      'intermediate_size': 24,
      'max_position_embeddings': 40,
      'eos_token_id': end,
    },
    'vision_config': {
      **shared,
      'hidden_size': 20,
      'intermediate_size': 28,
      'image_size': 32,
      'patch_size': 8,
    },
  }


class Tensors(dict):
  """Random tensors by name; large enough that every one of them shows."""

  def __init__(self):
    self._rng = np.random.default_rng(0)

  def add(self, name, *shape, std=0.3):
    self[name] = self._rng.normal(0, std, shape).astype(np.float32)

  def dense(self, name, outputs, inputs):
    self.add(f'{name}.weight', outputs, inputs)
    self.add(f'{name}.bias', outputs)

  def norm(self, name, width):
    self.add(f'{name}.weight', width)
    self[f'{name}.weight'] += 1
    self.add(f'{name}.bias', width)


def bert_tensors(config, prefix=''):
  t, width = Tensors(), config['hidden_size']
  embeddings = f'{prefix}embeddings'
  for table, rows in (
    ('word', config['vocab_size']),
    ('position', config['max_position_embeddings']),
    ('token_type', config['type_vocab_size']),
  ):
    t.add(f'{embeddings}.{table}_embeddings.weight', rows, width)
  t.norm(f'{embeddings}.LayerNorm', width)
  for i in range(config['num_hidden_layers']):
    layer = f'{prefix}encoder.layer.{i}'
    for part in ('query', 'key', 'value'):
      t.dense(f'{layer}.attention.self.{part}', width, width)
    t.dense(f'{layer}.attention.output.dense', width, width)
    t.norm(f'{layer}.attention.output.LayerNorm', width)
    hidden = config['intermediate_size']
    t.dense(f'{layer}.intermediate.dense', hidden, width)
    t.dense(f'{layer}.output.dense', width, hidden)
    t.norm(f'{layer}.output.LayerNorm', width)
  t.dense(f'{prefix}pooler.dense', width, width)
  return dict(t)


def mpnet_tensors(config):
  t, width = Tensors(), config['hidden_size']
  hidden, heads = config['intermediate_size'], config['num_attention_heads']
  t.add('embeddings.word_embeddings.weight', config['vocab_size'], width)
  positions = config['max_position_embeddings']
  t.add('embeddings.position_embeddings.weight', positions, width)
  t.norm('embeddings.LayerNorm', width)
  buckets = config['relative_attention_num_buckets']
  t.add('encoder.relative_attention_bias.weight', buckets, heads)
  for i in range(config['num_hidden_layers']):
    layer = f'encoder.layer.{i}'
    for part in 'qkvo':
      t.dense(f'{layer}.attention.attn.{part}', width, width)
    t.norm(f'{layer}.attention.LayerNorm', width)
    t.dense(f'{layer}.intermediate.dense', hidden, width)
    t.dense(f'{layer}.output.dense', width, hidden)
    t.norm(f'{layer}.output.LayerNorm', width)
  return dict(t)


def clip_tensors(config):
  t, dim = Tensors(), config['projection_dim']
  text, vision = config['text_config'], config['vision_config']
  for name, part in (('text_model', text), ('vision_model', vision)):
    width, hidden = part['hidden_size'], part['intermediate_size']
    for i in range(part['num_hidden_layers']):
      layer = f'{name}.encoder.layers.{i}'
      for projection in ('q', 'k', 'v', 'out'):
        t.dense(f'{layer}.self_attn.{projection}_proj', width, width)
      t.dense(f'{layer}.mlp.fc1', hidden, width)
      t.dense(f'{layer}.mlp.fc2', width, hidden)
      t.norm(f'{layer}.layer_norm1', width)
      t.norm(f'{layer}.layer_norm2', width)
  at, width = 'text_model.embeddings', text['hidden_size']
  t.add(f'{at}.token_embedding.weight', text['vocab_size'], width)
  t.add(
    f'{at}.position_embedding.weight', text['max_position_embeddings'], width
  )
  t.norm('text_model.final_layer_norm', width)
  t.add('text_projection.weight', dim, width)
  at, width = 'vision_model.embeddings', vision['hidden_size']
  patch = vision['patch_size']
  t.add(f'{at}.class_embedding', width)
  t.add(f'{at}.patch_embedding.weight', width, 3, patch, patch, std=0.05)
  patches = (vision['image_size'] // patch) ** 2
  t.add(f'{at}.position_embedding.weight', patches + 1, width)
  t.norm('vision_model.pre_layrnorm', width)
  t.norm('vision_model.post_layernorm', width)
  t.add('visual_projection.weight', dim, width)
  t['logit_scale'] = np.float32(2.0)
  return {name: np.asarray(x) for name, x in t.items()}


def write_json(path, content):
  path.write_text(json.dumps(content), encoding='utf-8')


def write(path, config, tensors):
  """Writes a directory; returns its path as text."""
  path.mkdir(parents=True, exist_ok=True)
  write_json(path / 'config.json', config)
  safetensors.numpy.save_file(tensors, path / 'model.safetensors')
  return str(path)


def write_bert(path, config=None, prefix='', **extra):
  """A BERT directory; `extra` are further tensors."""
  config = {**BERT_CONFIG, **(config or {})}
  write(path, config, {**bert_tensors(config, prefix), **extra})
  (path / 'vocab.txt').write_text(''.join(f'{p}\n' for p in BERT_PIECES))
  return str(path)


def write_mpnet(path, pieces):
  """An MPNet directory with these word pieces."""
  config = {
    'model_type': 'mpnet',
    'vocab_size': len(pieces),
    'hidden_size': 16,
    'num_hidden_layers': 2,
    'num_attention_heads': 4,
    'intermediate_size': 24,
    'max_position_embeddings': 66,
    'relative_attention_num_buckets': 32,
    'hidden_act': 'gelu',
  }
  write(path, config, mpnet_tensors(config))
  (path / 'vocab.txt').write_text(''.join(f'{p}\n' for p in pieces))
  return str(path)


def write_clip_vocabulary(path):
  write_json(path / 'vocab.json', clip_vocabulary())
  lines = ['#version: 0.2', *MERGES]
  (path / 'merges.txt').write_text('\n'.join(lines) + '\n')


def write_clip(path, config=None):
  """A CLIP directory with everything that prediction needs."""
  config = config or clip_config()
  write(path, config, clip_tensors(config))
  write_json(path / 'preprocessor_config.json', PREPROCESSOR)
  write_clip_vocabulary(path)
  return str(path)


def write_metaclip_2(path):
  """A MetaCLIP 2 directory whose tokenizer spells any name."""
  letters = 'abcdefghijklmnopqrstuvwxyz'
  pieces = ['<s>', '<pad>', '</s>', '<unk>', '▁', *letters, *',.']
  model = tokenizers.models.Unigram(
    [(piece, -float(i > 3)) for i, piece in enumerate(pieces)], unk_id=3
  )
  made = tokenizers.Tokenizer(model)
  made.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
  # As its text config says: no legacy id, but the token of this tokenizer.
  config = clip_config('gelu', end_id=2)
  config['model_type'] = 'metaclip_2'
  config['text_config'] |= {
    'vocab_size': len(pieces),
    'max_position_embeddings': 77,
  }
  write(path, config, clip_tensors(config))
  write_json(path / 'preprocessor_config.json', PREPROCESSOR)
  made.save(str(path / 'tokenizer.json'))
  return str(path)
