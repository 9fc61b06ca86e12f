"""Turns class names into WordPiece token ids.

Three implementations read one vocabulary file and agree. `tokenizers` works at
run time and loads in milliseconds. tensorflow-text is the reference in tests.
tensorflow-text's learner builds the vocabulary. Only the functions that need
TensorFlow import it. This command makes the file that ships:

  python -m zsar_jax.data.tokenizer --output=vocabulary.txt
"""

from collections.abc import Sequence
import hashlib
import importlib.resources
import os

from absl import app, flags
import numpy as np

from zsar_jax.data import class_names
from zsar_jax.data.datasets import stick_figure_classes

# Letters of a text in a message.
_MOST_SHOWN = 120
PAD, UNKNOWN, START, END, MASK = '[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]'
_RESERVED = (PAD, UNKNOWN, START, END, MASK)
# MPNet's names of the same; its vocabulary begins with the first.
_MPNET = ('<pad>', UNKNOWN, '<s>', '</s>', '<mask>')


def default_vocabulary_path() -> str:
  """Returns the path of the vocabulary that ships with the package."""
  return str(importlib.resources.files('zsar_jax.data') / 'vocabulary.txt')


def read_vocabulary(path: str) -> list[str]:
  """Reads a vocabulary, one word piece a line; the line number is the id.

  Args:
    path: a BERT-style `vocab.txt`.

  Returns:
    The word pieces in id order.

  Raises:
    FileNotFoundError: the file does not exist.
    ValueError: a reserved piece is missing, or a piece occurs twice.
  """
  if not os.path.exists(path):
    raise FileNotFoundError(f'vocabulary file {path} does not exist')
  with open(path, encoding='utf-8') as f:
    # Not splitlines: it also splits at rarer characters, which are pieces of a
    # multilingual vocabulary.
    pieces = [line.rstrip('\n') for line in f]
  missing = [p for p in _RESERVED[:4] if p not in pieces]
  if missing:
    raise ValueError(f'{path}: vocabulary lacks {missing}')
  if len(set(pieces)) != len(pieces):
    raise ValueError(f'{path}: vocabulary lists a word piece twice')
  return pieces


def vocabulary_hash(pieces: Sequence[str]) -> str:
  """Hashes a vocabulary to sixteen hex digits."""
  return hashlib.sha256('\n'.join(pieces).encode()).hexdigest()[:16]


class TextTooLong(ValueError):
  """A text has more tokens than fit.

  Attributes:
    index: its place among the texts.
  """

  def __init__(self, index: int, text: str, found: int, most: int):
    super().__init__(
      f'text {shown(text)!r} has {found} tokens, more than token_length={most}'
    )
    self.index = index


def shown(text: str) -> str:
  """Returns as much of a text as a message shows."""
  return text if len(text) <= _MOST_SHOWN else f'{text[:_MOST_SHOWN]}…'


class Tokenizer:
  """Class names to fixed-length WordPiece ids, as BERT (uncased) does.

  Attributes:
    pieces: the vocabulary in id order.
    token_length: ids per name, start and end included.
    num_tokens: size of the vocabulary.
  """

  def __init__(self, pieces: Sequence[str], token_length: int):
    import tokenizers

    if token_length < 3:
      raise ValueError(f'token_length must be at least 3, got {token_length}')
    self.pieces = list(pieces)
    self.token_length = token_length
    ids = {piece: i for i, piece in enumerate(self.pieces)}
    # The constructor with a dict registers the special pieces itself.
    of_mpnet = self.pieces[0] == _MPNET[2]
    pad, unknown, start, end, mask = _MPNET if of_mpnet else _RESERVED
    self._tokenizer = tokenizers.BertWordPieceTokenizer(
      vocab=ids,
      lowercase=True,
      unk_token=unknown,
      sep_token=end,
      cls_token=start,
      pad_token=pad,
      mask_token=mask,
    )
    self._pad_id = ids[pad]
    self.num_tokens = len(self.pieces)

  def __call__(self, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Tokenises names.

    Args:
      names: class names.

    Returns:
      ids [c l] int32 and mask [c l] bool, True where a token is real.

    Raises:
      TextTooLong: a name needs more than `token_length` tokens. Nothing is cut
        off silently, because two names may differ only at the end.
    """
    rows = [self._tokenizer.encode(name).ids for name in names]
    return padded_ids(names, rows, self.token_length, self._pad_id)


def padded_ids(
  names: Sequence[str],
  rows: Sequence[Sequence[int]],
  token_length: int,
  pad_id: int,
) -> tuple[np.ndarray, np.ndarray]:
  """Arranges rows of ids as arrays, with padding.

  Args:
    names: name of each row, for the message.
    rows: token ids.
    token_length: l.
    pad_id: id that fills a row up.

  Returns:
    ids [c l] int32 and mask [c l] bool, True where a token is real.

  Raises:
    TextTooLong: a row is longer than `token_length`.
  """
  ids = np.full((len(names), token_length), pad_id, np.int32)
  mask = np.zeros((len(names), token_length), bool)
  for i, (name, tokens) in enumerate(zip(names, rows, strict=True)):
    if len(tokens) > token_length:
      raise TextTooLong(i, name, len(tokens), token_length)
    ids[i, : len(tokens)] = tokens
    mask[i, : len(tokens)] = True
  return ids, mask


def _import_tensorflow():
  """Imports TensorFlow and tensorflow-text; explains if they are missing."""
  try:
    import tensorflow as tf
    import tensorflow_text as tf_text
  except ModuleNotFoundError as e:
    raise ValueError(
      'building or checking a vocabulary needs tensorflow and '
      'tensorflow-text, which have wheels up to Python 3.13; everything else '
      'works without them'
    ) from e
  return tf, tf_text


def reference_token_ids(
  pieces: Sequence[str], names: Sequence[str]
) -> list[list[int]]:
  """Tokenises by tensorflow-text, unpadded; `Tokenizer` must give the same ids.

  Both are equal for canonical names. Other names differ in compatibility
  characters, which only tensorflow-text folds, and in reserved pieces such as
  `[SEP]`, which only `Tokenizer` obeys. Among canonical names we know one
  exception: tensorflow-text turns the letter eszett into ss.

  Args:
    pieces: the vocabulary in id order.
    names: canonical class names.

  Returns:
    One list of ids per name, [CLS] and [SEP] included.

  Raises:
    ValueError: tensorflow-text is not installed.
  """
  tf, tf_text = _import_tensorflow()
  table = tf.lookup.StaticVocabularyTable(
    tf.lookup.KeyValueTensorInitializer(
      list(pieces), tf.range(len(pieces), dtype=tf.int64)
    ),
    num_oov_buckets=1,
  )
  tokenizer = tf_text.BertTokenizer(
    table, lower_case=True, token_out_type=tf.int64
  )
  ids = tokenizer.tokenize(list(names)).merge_dims(-2, -1).to_list()
  unknown = list(pieces).index(UNKNOWN)
  start, end = list(pieces).index(START), list(pieces).index(END)
  return [
    [start, *(i if i < len(pieces) else unknown for i in row), end]
    for row in ids
  ]


def build_vocabulary(names: Sequence[str], size: int = 2000) -> list[str]:
  """Learns a WordPiece vocabulary from class names with tensorflow-text.

  Args:
    names: canonical class names; order and repeats do not matter.
    size: largest number of pieces to learn, roughly.

  Returns:
    The pieces, reserved ones first.

  Raises:
    ValueError: tensorflow-text is not installed.
  """
  tf, _ = _import_tensorflow()
  from tensorflow_text.tools.wordpiece_vocab import bert_vocab_from_dataset

  corpus = tf.data.Dataset.from_tensor_slices(sorted(set(names))).batch(256)
  return bert_vocab_from_dataset.bert_vocab_from_dataset(
    corpus,
    vocab_size=size,
    reserved_tokens=list(_RESERVED),
    bert_tokenizer_params={'lower_case': True},
    # The learner's own thresholds suit corpora of millions of words. With
    # them it spells a thousand names letter by letter.
    learn_params={'lower_thresh': 1, 'upper_thresh': 20, 'num_iterations': 2},
  )


def public_class_names() -> list[str]:
  """Returns the class names of the public lists and stick_figures, canonical.

  The word pieces of the vocabulary are learnt from these names.
  """
  folder = importlib.resources.files('zsar_jax.data.protocols') / 'class_lists'
  names = set(class_names.canonical_names(stick_figure_classes.CLASS_NAMES))
  for path in sorted(folder.iterdir(), key=lambda p: p.name):
    if path.name.endswith('.txt'):
      names.update(
        class_names.canonical_name(line)
        for line in path.read_text(encoding='utf-8').splitlines()
        if line.strip()
      )
  return sorted(names)


def main(argv: list[str]) -> None:
  """Writes the vocabulary of all public class names.

  Args:
    argv: the program's name alone; flags are parsed already.
  """
  if len(argv) > 1:
    raise app.UsageError(f'arguments not understood: {" ".join(argv[1:])}')
  pieces = build_vocabulary(public_class_names(), flags.FLAGS.size)
  with open(flags.FLAGS.output, 'w', encoding='utf-8') as f:
    f.writelines(f'{piece}\n' for piece in pieces)
  print(f'{len(pieces)} word pieces written to {flags.FLAGS.output}')


if __name__ == '__main__':
  flags.DEFINE_string('output', None, 'File to write.', required=True)
  flags.DEFINE_integer('size', 2000, 'Most word pieces, about.', lower_bound=6)
  app.run(main)
