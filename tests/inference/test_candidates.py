import dataclasses

import numpy as np
import pytest

from benchmarks import new_class
import zsar_jax
from zsar_jax.inference import candidates
from zsar_jax.zeroshot import hubness, semantic_transfer


@pytest.mark.parametrize(
  'weighting, factorise', [('ridge', 'solve'), ('kernel', 'inv')]
)
def test_what_the_bank_alone_decides_is_made_once(
  weighting, factorise, monkeypatch
):
  model = zsar_jax.load('stick_figures')
  bank = new_class.random_bank(model.bank, 30, 24, 16)
  settings = {**bank.settings, 'weighting': weighting, 'hub_correction': 0.5}
  bank = dataclasses.replace(bank, settings=settings)
  recognizer = new_class.RandomNames(model.recognizer, 16)
  of = candidates.Candidates(recognizer, bank)
  names = [['juggling'], ['rowing']]
  for added in names:
    of.add(added, recognizer)
  expected = of.prototypes
  of.clear()

  def again(*args, **kwargs):
    raise AssertionError('made of the bank once more')

  monkeypatch.setattr(np.linalg, factorise, again)
  monkeypatch.setattr(hubness, 'typical_likeness', again)
  for added in names:
    of.add(added, recognizer)
  np.testing.assert_array_equal(of.prototypes, expected)


def test_a_new_class_is_composited_and_a_seen_one_has_its_own_prototype():
  model = zsar_jax.load('stick_figures')
  bank = new_class.random_bank(model.bank, 40, 24, 16)
  names = new_class.RandomNames(model.recognizer, 16)
  of = candidates.Candidates(names, bank)
  of.add(['juggling', 'class 3'], names)
  weights = semantic_transfer.transfer_weights(
    names.encode_class_names(['juggling', 'class 3'])['embedding'],
    bank.class_embeddings,
    temperature=bank.settings['temperature'],
    top_k=bank.settings['top_k'],
    centre=bank.settings['centre_text'],
  )
  np.testing.assert_allclose(of.weights[0], weights[0], atol=1e-6)
  assert of.weights[1, 3] == 1 and of.weights[1].sum() == 1
  np.testing.assert_array_equal(of.prototypes[1], bank.seen_prototypes[3])
