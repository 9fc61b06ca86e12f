"""Tokenizers of a tokenizer.json and what frames their texts."""

import numpy as np
import pytest
import tokenizers

from zsar_jax.data import sentence_pieces

WORDS = ['[PAD]', '[CLS]', '[SEP]', '[UNK]', 'rowing', 'a', 'boat', 'Rowing']
BERT = sentence_pieces.Framing('[CLS]', '[SEP]', '[PAD]')


@pytest.fixture
def folder(tmp_path):
  """A directory of weights whose tokenizer knows whole words."""
  made = tokenizers.Tokenizer(
    tokenizers.models.WordLevel(
      {word: i for i, word in enumerate(WORDS)}, unk_token='[UNK]'
    )
  )
  made.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
  # Files often have these; they would cut texts off, or change their length.
  made.enable_truncation(3)
  made.enable_padding(length=20)
  made.save(str(tmp_path / 'tokenizer.json'))
  return tmp_path


def read(folder, framing=BERT, token_length=6):
  definition = sentence_pieces.make_definition(str(folder), framing)
  return sentence_pieces.SentencePieceTokenizer(definition, token_length)


def test_texts_are_framed_and_filled_up(folder):
  made = read(folder)
  assert made.num_tokens == len(WORDS) and made.end_id == 2
  ids, mask = made(['a boat', 'rowing'])
  assert ids.tolist() == [[1, 5, 6, 2, 0, 0], [1, 4, 2, 0, 0, 0]]
  np.testing.assert_array_equal(mask, ids > 0)
  assert ids.dtype == np.int32 and mask.dtype == bool


def test_a_text_is_read_to_its_end_or_refused(folder):
  # The file cuts texts off at three tokens.
  ids, _ = read(folder)(['rowing a boat'])
  assert ids.tolist() == [[1, 4, 5, 6, 2, 0]]
  with pytest.raises(ValueError, match='has 7 tokens, more than'):
    read(folder)(['a a a a a'])


def test_a_text_needs_no_start_and_no_end(folder):
  made = read(folder, sentence_pieces.Framing('', '', '[PAD]', True))
  ids, mask = made(['rowing', ''])
  assert ids.tolist() == [[4, 0, 0, 0, 0, 0], [0] * 6]
  assert made.end_id is None and mask.all()


def test_capitals_and_punctuation_are_taken_out_where_framing_says(folder):
  text = ['Rowing,  [a]\tboat! ']
  assert 3 in read(folder)(text)[0]
  bare = sentence_pieces.Framing(
    '', '[SEP]', '[PAD]', lowercase=True, punctuation=False
  )
  assert read(folder, bare)(text)[0].tolist() == [[4, 5, 6, 2, 0, 0]]


def test_a_vocabulary_without_a_token_of_the_framing_is_refused(folder):
  for framing in (
    sentence_pieces.Framing('<s>', '[SEP]', '[PAD]'),
    sentence_pieces.Framing('', '<s>', '[PAD]'),
    sentence_pieces.Framing('', '', '<s>'),
  ):
    with pytest.raises(ValueError, match="json: there is no token '<s>'"):
      sentence_pieces.make_definition(str(folder), framing)


def test_a_damaged_file_is_named(folder):
  path = folder / 'tokenizer.json'
  path.write_text(path.read_text()[:-9])
  with pytest.raises(ValueError, match='tokenizer.json: not the content of'):
    sentence_pieces.make_definition(str(folder), BERT)


def test_room_for_a_framed_word_is_needed(folder):
  with pytest.raises(ValueError, match='at least 3, got 2'):
    read(folder, token_length=2)
