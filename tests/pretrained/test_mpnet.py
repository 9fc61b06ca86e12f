import numpy as np
import pytest

from zsar_jax.data import tokenizer
from zsar_jax.inference import public_sides
from zsar_jax.models import text_encoder
from zsar_jax.pretrained import directory, mpnet

REASON = 'parity with PyTorch needs the extra `parity`'
LENGTH = 12
PIECES = [
  *('<s>', '<pad>', '</s>', '<unk>', '[PAD]', '[UNK]', '[CLS]', '[SEP]'),
  *('row', '##ing', 'arm', 'a', 'person', 'video', 'of'),
  *(f'word{i}' for i in range(24)),
  '<mask>',
]
NAMES = ['rowing', 'arm row of word3', 'unheard Person']


@pytest.fixture(scope='module')
def peer():
  pytest.importorskip('torch', reason=REASON).manual_seed(0)
  transformers = pytest.importorskip('transformers', reason=REASON)
  config = transformers.MPNetConfig(
    vocab_size=len(PIECES),
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=24,
    max_position_embeddings=24,
    initializer_range=0.5,
  )
  return transformers.MPNetModel(config).eval()


@pytest.fixture(scope='module')
def path(peer, tmp_path_factory):
  folder = tmp_path_factory.mktemp('mpnet')
  peer.save_pretrained(folder)
  (folder / 'vocab.txt').write_text('\n'.join(PIECES) + '\n')
  return str(folder)


def load(path, length=LENGTH):
  return mpnet.load_text_encoder(directory.read_weights(path), length)


def test_tokens_equal_those_of_transformers(peer, path):
  import torch

  kwargs, params, pieces = load(path)
  ids, mask = tokenizer.Tokenizer(pieces, LENGTH)(NAMES)
  with torch.no_grad():
    theirs = peer(
      input_ids=torch.tensor(ids).long(),
      attention_mask=torch.tensor(mask).long(),
    ).last_hidden_state.numpy()
  encoder = text_encoder.TextEncoder(**kwargs)
  ours = encoder.apply({'params': params}, ids, mask)['tokens']
  np.testing.assert_allclose(ours[mask], theirs[mask], rtol=0, atol=1e-4)


def test_ids_are_those_of_its_own_tokenizer(path):
  ids, mask = tokenizer.Tokenizer(PIECES, LENGTH)(NAMES)
  at = PIECES.index
  row, end = at('row'), at('</s>')
  expected = [at('<s>'), row, at('##ing'), end]
  assert ids[0].tolist() == expected + [at('<pad>')] * (LENGTH - 4)
  assert ids[2, :4].tolist() == [0, at('[UNK]'), at('person'), end]
  assert mask.sum(axis=1).tolist() == [4, 6, 4]


def test_far_tokens_share_numbers_as_in_transformers():
  pytest.importorskip('torch', reason=REASON)
  import torch
  from transformers.models.mpnet import modeling_mpnet

  ahead = torch.arange(300)[None] - torch.arange(300)[:, None]
  for buckets in (8, 32):
    theirs = modeling_mpnet.MPNetEncoder.relative_position_bucket(
      ahead, num_buckets=buckets
    )
    ours = text_encoder.relative_buckets(300, buckets)
    assert (ours != theirs.numpy()).mean() < 1e-3


def test_it_is_a_text_side(path):
  side = public_sides.open_text(path)
  found = side.embed_names(NAMES[:2])
  assert found.shape == (2, 16) and not side.space
  np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)


def test_what_does_not_fit_is_named(path):
  with pytest.raises(ValueError, match='leaves 22 positions, fewer than'):
    load(path, 23)
  weights = directory.read_weights(path)
  del weights.tensors['encoder.relative_attention_bias.weight']
  with pytest.raises(
    ValueError, match='relative_attention_bias.weight.* is mi'
  ):
    mpnet.load_text_encoder(weights, LENGTH)
