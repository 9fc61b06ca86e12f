"""Turns texts into the byte-pair token ids that CLIP was trained with.

A directory of public CLIP weights brings its own vocabulary:

  tokenize = BytePairTokenizer.from_directory('clip-vit-base-patch32', 77)
  ids, mask = tokenize(['a video of a person juggling.'])

The ids are those of transformers' CLIPTokenizer.
"""

from collections.abc import Sequence
import os
import re

import numpy as np
import tokenizers
from tokenizers import models, normalizers, pre_tokenizers, processors

from zsar_jax.data import sentence_pieces, tokenizer

START, END = '<|startoftext|>', '<|endoftext|>'
# English clitics, runs of letters, single digits, runs of anything else.
_WORD = r"'(?:s|t|re|ve|m|ll|d)|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"


class BytePairTokenizer:
  """Texts to fixed-length byte-pair ids, as CLIP does.

  Attributes:
    definition: text of a `tokenizer.json`; it defines the tokenizer fully.
    token_length: ids per text, start and end included.
    num_tokens: size of the vocabulary.
    end_id: id of the end token, which also fills the padding.
  """

  def __init__(self, definition: str, token_length: int):
    if token_length < 3:
      raise ValueError(f'token_length must be at least 3, got {token_length}')
    try:
      self._tokenizer = tokenizers.Tokenizer.from_str(definition)
    except Exception as e:  # The library raises nothing more specific.
      raise ValueError(f'not the content of a tokenizer.json: {e}') from e
    # A definition may cut texts off silently.
    self._tokenizer.no_truncation()
    self._tokenizer.no_padding()
    self.definition = definition
    self.token_length = token_length
    self.num_tokens = self._tokenizer.get_vocab_size()
    self.end_id = self._tokenizer.token_to_id(END)
    frame = [self._tokenizer.token_to_id(START), self.end_id]
    if None in frame or self._tokenizer.encode('').ids != frame:
      raise ValueError(
        f"not a tokenizer like CLIP's: texts must be framed by {START} "
        f'and {END}'
      )

  @classmethod
  def from_directory(cls, path: str, token_length: int) -> 'BytePairTokenizer':
    """Reads `tokenizer.json`, or else `vocab.json` and `merges.txt`.

    Args:
      path: directory of CLIP weights.
      token_length: ids per text.

    Returns:
      The tokenizer.

    Raises:
      FileNotFoundError: neither exists.
      ValueError: the file is damaged, or belongs to another kind of model.
    """
    whole = os.path.join(path, 'tokenizer.json')
    parts = [os.path.join(path, name) for name in ('vocab.json', 'merges.txt')]
    if os.path.exists(whole):
      with open(whole, encoding='utf-8') as f:
        definition, source = f.read(), whole
    elif all(map(os.path.exists, parts)):
      definition, source = _clip_definition(*parts), parts[0]
    else:
      raise FileNotFoundError(
        f'{path} has no tokenizer.json, nor vocab.json with merges.txt'
      )
    try:
      return cls(definition, token_length)
    except ValueError as e:
      raise ValueError(f'{source}: {e}') from e

  def __call__(self, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Tokenises texts; see `tokenizer.Tokenizer.__call__`."""
    rows = [encoding.ids for encoding in self._tokenizer.encode_batch(names)]
    return tokenizer.padded_ids(names, rows, self.token_length, self.end_id)


def open_tokenizer(
  pieces: Sequence[str], token_length: int
) -> (
  tokenizer.Tokenizer
  | BytePairTokenizer
  | sentence_pieces.SentencePieceTokenizer
):
  """Returns the tokenizer that a checkpoint's vocabulary asks for.

  Args:
    pieces: word pieces in id order, or the `definition` of a tokenizer of
      another kind alone.
    token_length: ids per name.

  Returns:
    The tokenizer.
  """
  if len(pieces) == 1 and sentence_pieces.MARK in pieces[0]:
    return sentence_pieces.SentencePieceTokenizer(pieces[0], token_length)
  if len(pieces) == 1:
    return BytePairTokenizer(pieces[0], token_length)
  return tokenizer.Tokenizer(pieces, token_length)


def _clip_definition(vocab_path: str, merges_path: str) -> str:
  """Returns a tokenizer.json of CLIP's tokenizer with these byte pairs.

  The rules are those of Radford et al. 2021, as transformers runs them. Text
  becomes lower case. Words, single digits and runs of other characters are
  split. Bytes are shown as letters. The last piece of a word has a mark.
  """
  try:
    model = models.BPE.from_file(
      vocab_path, merges_path, unk_token=END, end_of_word_suffix='</w>'
    )
  except Exception as e:  # The library raises nothing more specific.
    raise ValueError(f'{vocab_path} and {merges_path}: {e}') from e
  result = tokenizers.Tokenizer(model)
  result.normalizer = normalizers.Sequence(
    [
      normalizers.NFC(),
      normalizers.Replace(tokenizers.Regex(r'\s+'), ' '),
      normalizers.Lowercase(),
    ]
  )
  special = '|'.join(re.escape(piece) for piece in (START, END))
  word = rf'{special}|{_WORD}'
  result.pre_tokenizer = pre_tokenizers.Sequence(
    [
      pre_tokenizers.Split(tokenizers.Regex(word), 'removed', invert=True),
      pre_tokenizers.ByteLevel(add_prefix_space=False),
    ]
  )
  result.add_special_tokens([START, END])
  result.post_processor = processors.TemplateProcessing(
    single=f'{START} $A {END}',
    special_tokens=[(p, result.token_to_id(p)) for p in (START, END)],
  )
  return result.to_str()
