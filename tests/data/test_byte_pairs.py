import numpy as np
import pytest

from tests.pretrained import tiny_weights
from zsar_jax.data import byte_pairs, tokenizer

VOCABULARY = tiny_weights.clip_vocabulary()
END = VOCABULARY['<|endoftext|>']
START = VOCABULARY['<|startoftext|>']
EDGE_TEXTS = [
  'a video of a person Running.',
  "rock'n'roll, it's they're I'll he'd I've I'm don't 's 'S",
  'Jōdō and naïve café',
  'nai\u0308ve cafe\u0301 ﬁsh ½ №5',
  '跳舞 tai-chi 한국 กีฬา',
  'Σίσυφος İstanbul ŒUVRE',
  'tabs\tand\nlines \u2028 \u00a0spaces  two',
  '100m sprint, 3x3 basketball!!! ...?',
  '😀 smiling 👍🏽',
  '   rowing   ',
  '-',
  '',
  ' ',
  '<|endoftext|>',
  'one <|startoftext|> two<|endoftext|>three <| endoftext |>',
  'under_score "quoted" (brackets) a/b',
  'zxqj' * 20,
]


@pytest.fixture
def directory(tmp_path):
  tiny_weights.write_clip_vocabulary(tmp_path)
  return tmp_path


def test_texts_are_merged_framed_and_padded(directory):
  tokenize = byte_pairs.BytePairTokenizer.from_directory(str(directory), 6)
  ids, mask = tokenize(['Running', 'an'])
  assert ids.dtype == np.int32 and mask.dtype == bool
  # 'an' ends a word, which only 'a' and 'n</w>' spell.
  letters = [VOCABULARY[piece] for piece in ('running</w>', 'a', 'n</w>')]
  assert ids.tolist() == [
    [START, letters[0], END, END, END, END],
    [START, *letters[1:], END, END, END],
  ]
  assert mask.sum(axis=1).tolist() == [3, 4]
  assert tokenize.num_tokens == len(VOCABULARY)


@pytest.mark.parametrize('form', ['vocab.json', 'tokenizer.json'])
def test_ids_equal_those_of_transformers(directory, tmp_path, form):
  transformers = pytest.importorskip(
    'transformers', reason='parity needs the extra `parity`'
  )
  peer = transformers.CLIPTokenizer.from_pretrained(str(directory))
  if form == 'tokenizer.json':
    directory = tmp_path / 'whole'
    peer.save_pretrained(directory)
    assert (directory / form).exists()
  tokenize = byte_pairs.BytePairTokenizer.from_directory(str(directory), 150)
  texts = [*tokenizer.public_class_names(), *EDGE_TEXTS]
  expected = peer(texts, padding='max_length', max_length=150)
  ids, mask = tokenize(texts)
  for text, row, theirs in zip(texts, ids, expected['input_ids'], strict=True):
    assert row.tolist() == theirs, text
  np.testing.assert_array_equal(mask, np.array(expected['attention_mask']) > 0)


def test_text_that_is_too_long_raises_even_where_the_file_cuts(directory):
  source = byte_pairs.BytePairTokenizer.from_directory(str(directory), 5)
  inner = byte_pairs.tokenizers.Tokenizer.from_str(source.definition)
  inner.enable_truncation(5)
  inner.enable_padding()
  tokenize = byte_pairs.BytePairTokenizer(inner.to_str(), 5)
  tokenize(['abc'])
  with pytest.raises(ValueError, match="'abcd' has 6 tokens, more than token_"):
    tokenize(['abcd'])


def test_definition_is_all_there_is_to_it(directory):
  first = byte_pairs.BytePairTokenizer.from_directory(str(directory), 99)
  again = byte_pairs.BytePairTokenizer(first.definition, 99)
  np.testing.assert_array_equal(first(EDGE_TEXTS)[0], again(EDGE_TEXTS)[0])


def test_bad_files_are_named(directory):
  load = byte_pairs.BytePairTokenizer.from_directory
  with pytest.raises(ValueError, match='at least 3, got 2'):
    load(str(directory), 2)
  (directory / 'merges.txt').write_text('#version: 0.2\nno such pair\n')
  with pytest.raises(ValueError, match='vocab.json and .*merges.txt: '):
    load(str(directory), 9)
  (directory / 'tokenizer.json').write_text('{"version"')
  with pytest.raises(ValueError, match='tokenizer.json: not the content of'):
    load(str(directory), 9)
  for name in ('tokenizer.json', 'merges.txt'):
    (directory / name).unlink()
  with pytest.raises(FileNotFoundError, match='has no tokenizer.json, nor'):
    load(str(directory), 9)


def test_tokenizer_of_another_model_is_refused(directory):
  inner = byte_pairs.tokenizers.BertWordPieceTokenizer(
    vocab={p: i for i, p in enumerate(tiny_weights.BERT_PIECES)}
  )
  inner.save(str(directory / 'tokenizer.json'))
  with pytest.raises(ValueError, match="not a tokenizer like CLIP's"):
    byte_pairs.BytePairTokenizer.from_directory(str(directory), 9)
