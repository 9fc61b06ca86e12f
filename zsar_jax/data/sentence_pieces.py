"""Sentence-piece token ids of texts, for SigLIP and MetaCLIP 2.

A directory of weights brings a `tokenizer.json`. What the model's own
tokenizer does beside it (lower case, punctuation, which tokens frame a text,
what fills it up) is written into a `Framing`, and the two together are the
tokenizer's `definition`:

  definition = make_definition('siglip-base-patch16-224', framing)
  ids, mask = SentencePieceTokenizer(definition, 64)(['juggling', 'rowing'])
"""

from collections.abc import Sequence
import dataclasses
import json
import os

import numpy as np
import tokenizers
from tokenizers import normalizers, processors

from zsar_jax.data import tokenizer

# Begins every definition.
MARK = '{"framing":'
# What Python's string.punctuation has.
_PUNCTUATION = r'[!-/:-@\[-`{-~]'


@dataclasses.dataclass(frozen=True)
class Framing:
  """What surrounds the pieces of a text.

  Attributes:
    start: token put before a text; '' for none.
    end: token put behind it; '' for none.
    pad: token that fills it up.
    pads_are_read: whether the model reads the padding, because it was trained
      on texts of one length without a mask.
    lowercase: whether texts are put into lower case.
    punctuation: False takes ASCII punctuation out, and leaves single spaces.
  """

  start: str
  end: str
  pad: str
  pads_are_read: bool = False
  lowercase: bool = False
  punctuation: bool = True


def make_definition(path: str, framing: Framing) -> str:
  """Joins a directory's `tokenizer.json` with what goes with it.

  Args:
    path: of a directory of weights.
    framing: of the texts.

  Returns:
    The definition.

  Raises:
    FileNotFoundError: there is no tokenizer.json.
    ValueError: it is damaged, or lacks a token of the framing.
  """
  file = os.path.join(path, 'tokenizer.json')
  if not os.path.exists(file):
    raise FileNotFoundError(
      f'{path} has no tokenizer.json; where it has another vocabulary, '
      "transformers' AutoTokenizer reads it and save_pretrained writes one"
    )
  with open(file, encoding='utf-8') as f:
    content = f.read()
  framed = json.dumps(dataclasses.asdict(framing))
  definition = f'{MARK}{framed}}}\n{content}'
  try:
    SentencePieceTokenizer(definition, token_length=3)
  except ValueError as e:
    raise ValueError(f'{file}: {e}') from e
  return definition


class SentencePieceTokenizer:
  """Texts to fixed-length ids.

  Attributes:
    definition: from `make_definition`.
    token_length: ids per text, start and end included.
    num_tokens: size of the vocabulary.
    framing: what surrounds the pieces.
    end_id: id of the token behind a text, None where there is none.
  """

  def __init__(self, definition: str, token_length: int):
    if token_length < 3:
      raise ValueError(f'token_length must be at least 3, got {token_length}')
    head, _, content = definition.partition('\n')
    self.framing = Framing(**json.loads(head)['framing'])
    try:
      self._tokenizer = tokenizers.Tokenizer.from_str(content)
    except Exception as e:  # The library raises nothing more telling.
      raise ValueError(f'not the content of a tokenizer.json: {e}') from e
    # A file may cut texts off silently.
    self._tokenizer.no_truncation()
    self._tokenizer.no_padding()
    self.definition, self.token_length = definition, token_length
    self.num_tokens = self._tokenizer.get_vocab_size()
    self._pad_id = self._id(self.framing.pad)
    end = self.framing.end
    self.end_id = self._id(end) if end else None
    self._frame()
    self._normalise()

  def _id(self, token: str) -> int:
    found = self._tokenizer.token_to_id(token)
    if found is None:
      raise ValueError(f'there is no token {token!r}')
    return found

  def _frame(self) -> None:
    start, end = self.framing.start, self.framing.end
    tokens = [token for token in (start, end) if token]
    self._tokenizer.post_processor = processors.TemplateProcessing(
      single=' '.join(part for part in (start, '$A', end) if part),
      special_tokens=[(token, self._id(token)) for token in tokens],
    )

  def _normalise(self) -> None:
    steps = [normalizers.Lowercase()] if self.framing.lowercase else []
    if not self.framing.punctuation:
      steps += [
        normalizers.Replace(tokenizers.Regex(_PUNCTUATION), ''),
        normalizers.Replace(tokenizers.Regex(r'\s+'), ' '),
        normalizers.Strip(),
      ]
    if steps:
      before = self._tokenizer.normalizer
      self._tokenizer.normalizer = normalizers.Sequence(
        [*steps, *([before] if before else [])]
      )

  def __call__(self, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Tokenises texts.

    Args:
      names: the texts.

    Returns:
      ids [c l] int32 and mask [c l] bool, True where the model reads.

    Raises:
      TextTooLong: a text has more tokens than `token_length`.
    """
    rows = [encoding.ids for encoding in self._tokenizer.encode_batch(names)]
    ids, mask = tokenizer.padded_ids(
      names, rows, self.token_length, self._pad_id
    )
    return ids, mask | self.framing.pads_are_read
