"""Prompts and descriptions of a class become one embedding."""

import numpy as np
import pytest

from zsar_jax.data import tokenizer
from zsar_jax.inference import class_texts

NAMES = ['rowing', 'juggling']
TEMPLATES = ('{}', 'a person {}')
DESCRIPTIONS = {'juggling': ['Balls fly.', 'Hands catch.', 'Arms move.']}


@pytest.fixture(scope='module')
def pieces():
  return tokenizer.read_vocabulary(tokenizer.default_vocabulary_path())


def unit(x):
  return x / np.linalg.norm(x, axis=-1, keepdims=True)


def make(pieces, weight):
  return class_texts.ClassTexts(pieces, 32, TEMPLATES, DESCRIPTIONS, weight)


ROWS = unit(np.random.default_rng(0).normal(size=(5, 2, 4)))


def test_every_text_counts_alike_where_no_weight_is_given(pieces):
  texts = make(pieces, None)
  assert [row['ids'].shape[0] for row in texts.token_ids(NAMES)] == [2] * 5
  mean = texts.mean(NAMES, list(ROWS))
  np.testing.assert_allclose(mean[0], unit(ROWS[:2, 0].sum(axis=0)))
  np.testing.assert_allclose(mean[1], unit(ROWS[:, 1].sum(axis=0)))


@pytest.mark.parametrize('weight', [0.0, 0.65, 1.0])
def test_a_weight_divides_between_prompts_and_sentences(pieces, weight):
  mean = make(pieces, weight).mean(NAMES, list(ROWS))
  # What has no description is its name, to the last bit.
  without = class_texts.ClassTexts(pieces, 32, TEMPLATES)
  np.testing.assert_array_equal(mean[0], without.mean(NAMES, list(ROWS[:2]))[0])
  name = unit(ROWS[:2, 1].mean(axis=0))
  sentences = unit(ROWS[2:, 1].mean(axis=0))
  np.testing.assert_allclose(
    mean[1], unit((1 - weight) * name + weight * sentences)
  )


def test_further_descriptions_leave_the_first_texts_as_they_were(pieces):
  texts = make(pieces, 0.5)
  more = texts.described({'rowing': ['Oars dip.']})
  assert more.texts(['rowing']) == [['rowing', 'a person rowing', 'Oars dip.']]
  assert texts.texts(['rowing']) == [['rowing', 'a person rowing']]
  assert more.texts(['juggling']) == texts.texts(['juggling'])
  assert more.description_weight == 0.5


def test_a_text_that_is_too_long_is_named_with_its_class(pieces):
  texts = class_texts.ClassTexts(pieces, 8, ('{}', 'a {}'))
  names = ['row', 'row ' * 6 + 'row']
  with pytest.raises(
    ValueError,
    match=r"^class 'row row .*': text 'row .*token_length=8; set preprocessing",
  ):
    texts.token_ids(names)
  with pytest.raises(ValueError, match='^class .*; shorten it$'):
    texts.token_ids(names, 'shorten it')
