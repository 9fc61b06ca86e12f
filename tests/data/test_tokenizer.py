import importlib.util
import os
import pathlib
import sys

import numpy as np
import pytest

from tests import processes
from zsar_jax.data import class_names, tokenizer
from zsar_jax.data.datasets import stick_figure_classes

ROOT = pathlib.Path(__file__).parents[2]
PIECES = [
  '[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', 'row', '##ing', 'arm',
]  # fmt: skip
EDGE_NAMES = [
  'Jōdō and naïve café',
  "rock'n'roll, (slow) dance!",
  '跳舞 tai-chi',
  'ångström ÅNGSTRÖM',
  'ﬁsh ½ №5',
  'mixed [SEP] doubles',
  'Σίσυφος İstanbul ŒUVRE',
  'row\u0301ing ro\u00adwing row\u200bing',
  '한국 กีฬา',
  'tabs\tand\nlines',
  'zxqj' * 30,
  'a' * 300,
  '   rowing   ',
  '-',
  '',
  ' ',
  '😀 smiling',
  'UPPER lower MiXeD',
  '100m_sprint',
]


@pytest.fixture(scope='module')
def shipped():
  return tokenizer.read_vocabulary(tokenizer.default_vocabulary_path())


needs_tensorflow = pytest.mark.skipif(
  importlib.util.find_spec('tensorflow_text') is None,
  reason='tensorflow-text is not installed',
)


@needs_tensorflow
def test_ids_equal_the_reference(shipped):
  names = [
    *tokenizer.public_class_names(),
    *stick_figure_classes.CLASS_NAMES,
    *map(class_names.canonical_name, EDGE_NAMES),
  ]
  ids, mask = tokenizer.Tokenizer(shipped, 128)(names)
  reference = tokenizer.reference_token_ids(shipped, names)
  for name, row, real, expected in zip(
    names, ids, mask, reference, strict=True
  ):
    assert row[real].tolist() == expected, name


@needs_tensorflow
def test_shipped_vocabulary_is_the_one_of_all_public_names(shipped):
  assert tokenizer.build_vocabulary(tokenizer.public_class_names()) == shipped


def test_public_names_are_canonical_and_hold_every_list():
  names = tokenizer.public_class_names()
  assert class_names.canonical_names(names) == names == sorted(names)
  assert set(stick_figure_classes.CLASS_NAMES) <= set(names)
  for name in ('apply eye makeup', 'shake hands', 'abseiling', 'archery'):
    assert name in names


def test_no_public_name_has_an_unknown_word(shipped):
  unknown = shipped.index(tokenizer.UNKNOWN)
  ids, _ = tokenizer.Tokenizer(shipped, 64)(tokenizer.public_class_names())
  assert not (ids == unknown).any()


def test_names_are_framed_and_padded():
  ids, mask = tokenizer.Tokenizer(PIECES, 6)(['rowing', 'Arm RowArm'])
  assert ids.dtype == np.int32 and mask.dtype == bool
  # 'rowarm' has no pieces: ##arm is not in the vocabulary.
  assert ids.tolist() == [[2, 5, 6, 3, 0, 0], [2, 7, 1, 3, 0, 0]]
  assert mask.tolist() == [[True] * 4 + [False] * 2] * 2


def test_token_length_changes_nothing_but_padding():
  short, _ = tokenizer.Tokenizer(PIECES, 4)(['rowing'])
  long, mask = tokenizer.Tokenizer(PIECES, 9)(['rowing'])
  assert long[mask].tolist() == short[0].tolist()


def test_name_that_is_too_long_raises_and_is_named():
  tokenize = tokenizer.Tokenizer(PIECES, 4)
  tokenize(['rowing'])
  with pytest.raises(
    ValueError, match="'rowing arm' has 5 tokens, more than token_length=4"
  ):
    tokenize(['arm', 'rowing arm'])
  with pytest.raises(ValueError, match='tokens, more than') as raised:
    tokenize(['arm ' * 9999])
  assert len(str(raised.value)) < 300


def test_token_length_must_leave_room_for_a_word():
  with pytest.raises(ValueError, match='at least 3, got 2'):
    tokenizer.Tokenizer(PIECES, 2)


def write(path, pieces):
  path.write_text(''.join(f'{p}\n' for p in pieces), encoding='utf-8')
  return str(path)


def test_vocabulary_is_read_line_by_line(tmp_path):
  # The last but one holds a character that ends lines elsewhere.
  pieces = [*PIECES, '跳', 'a\u2028b', '##é']
  assert tokenizer.read_vocabulary(write(tmp_path / 'v', pieces)) == pieces


def test_missing_vocabulary_raises(tmp_path):
  with pytest.raises(FileNotFoundError, match='does not exist'):
    tokenizer.read_vocabulary(str(tmp_path / 'none.txt'))


@pytest.mark.parametrize('piece', ['[PAD]', '[UNK]', '[CLS]', '[SEP]'])
def test_vocabulary_without_a_reserved_piece_raises(piece, tmp_path):
  pieces = [p for p in PIECES if p != piece]
  with pytest.raises(ValueError, match=rf"lacks \['\[{piece[1:-1]}\]'\]"):
    tokenizer.read_vocabulary(write(tmp_path / 'v', pieces))


def test_vocabulary_with_a_repeated_piece_raises(tmp_path):
  with pytest.raises(ValueError, match='twice'):
    tokenizer.read_vocabulary(write(tmp_path / 'v', [*PIECES, 'arm']))


def test_hash_tells_vocabularies_apart():
  hashes = [
    tokenizer.vocabulary_hash(pieces)
    for pieces in (PIECES, PIECES[:-1], PIECES[:-2] + PIECES[:-3:-1])
  ]
  assert len(set(hashes)) == 3
  assert all(len(h) == 16 for h in hashes)


@needs_tensorflow
def test_command_writes_the_vocabulary(tmp_path, shipped):
  output = tmp_path / 'vocabulary.txt'
  done = processes.run(
    [sys.executable, '-m', 'zsar_jax.data.tokenizer', f'--output={output}'],
    cwd=ROOT,
    env={**os.environ, 'PYTHONPATH': str(ROOT)},
  )
  assert done.returncode == 0, done.stderr
  assert (
    output.read_bytes()
    == pathlib.Path(tokenizer.default_vocabulary_path()).read_bytes()
  )
