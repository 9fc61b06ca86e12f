import numpy as np

from benchmarks import new_class
import zsar_jax
from zsar_jax.inference import candidates
from zsar_jax.zeroshot import semantic_transfer


def test_a_new_class_costs_less_than_ten_milliseconds():
  model = zsar_jax.load('stick_figures')
  seen, video, text = 400, 1024, 384
  bank = new_class.random_bank(model.bank, seen, video, text)
  names = new_class.RandomNames(model.recognizer, text)
  _, least = new_class.added(names, bank, rounds=10)
  assert least < 10
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
