"""Times adding a class to a bank, apart from encoding its name.

python -m benchmarks.new_class [--workdir=FOLDER]

It adds names one at a time to the bank of a model: of a run, of a folder that
`bank build --video` wrote, or by default of the shipped model. Then it does the
same with banks of random unit vectors as large as public ones, with every kind
of transfer weights, and with kernel weights that shorten hubs. The figures are
the least of 30 and their median. Other programs may run on the machine, so the
least shows the cost of the work itself. The limit is 10 ms.
"""

import argparse
import dataclasses
import time

import numpy as np

import zsar_jax
from zsar_jax.inference import candidates, encoders, prototype_bank
from zsar_jax.zeroshot import semantic_transfer

_BOUND = 10.0
_ROUNDS = 30
# Numbers of seen classes and of dimensions of videos and names: those of I3D
# with MiniLM, and of a ViT-L of Kinetics-700 with a base-size text encoder.
_BANKS = ((400, 1024, 384), (700, 1024, 768))
# Weightings, and the hub correction with each.
_SETTINGS = (
  *((weighting, 0.0) for weighting in semantic_transfer.WEIGHTINGS),
  ('kernel', 0.5),
)


def milliseconds(call) -> float:
  """Returns the milliseconds of a call."""
  began = time.perf_counter()
  call()
  return 1000 * (time.perf_counter() - began)


def shown(times: list[float]) -> str:
  """Returns the least and the median in words."""
  return f'{min(times):.2f} / {np.median(times):.2f}'


def added(
  recognizer: encoders.Recognizer,
  bank: prototype_bank.PrototypeBank,
  rounds: int = _ROUNDS,
) -> tuple[list[float], list[float]]:
  """Times adding a class to a bank.

  Args:
    recognizer: encodes the names, and caches the embeddings.
    bank: bank of the recognizer.
    rounds: number of repetitions, after a first one that does not count.

  Returns:
    Milliseconds to encode a name, and to add it; one of each a round.
  """
  to_choose_from = candidates.Candidates(recognizer, bank)
  encoding, adding = [], []
  for i in range(rounds + 1):
    names = [f'juggling {i} balls']
    encoding.append(
      milliseconds(lambda n=names: recognizer.encode_class_names(n))
    )
    adding.append(
      milliseconds(lambda n=names: to_choose_from.add(n, recognizer))
    )
    to_choose_from.clear()
  return encoding[1:], adding[1:]


class RandomNames:
  """Replaces encoders: a random embedding per name, cached as theirs are.

  Attributes:
    transfer_settings: settings of other encoders.
  """

  def __init__(self, like: encoders.Recognizer, width: int):
    self.transfer_settings = like.transfer_settings
    self._width, self._rng, self._kept = width, np.random.default_rng(0), {}

  def encode_class_names(self, names) -> dict[str, np.ndarray]:
    """Returns embeddings of names, `embedding` [c e]."""
    key = tuple(names)
    if key not in self._kept:
      self._kept[key] = random_units(self._rng, len(names), self._width)
    return {'embedding': self._kept[key]}

  def initial_embeddings(self) -> None:
    """Returns None: there was no training."""


def random_units(rng: np.random.Generator, n: int, width: int) -> np.ndarray:
  """Returns random unit vectors [n width]."""
  x = rng.normal(size=(n, width))
  return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def random_bank(
  like: prototype_bank.PrototypeBank, seen: int, video: int, text: int
) -> prototype_bank.PrototypeBank:
  """Returns a bank of random prototypes, with the settings of another one."""
  rng = np.random.default_rng(0)
  return dataclasses.replace(
    like,
    seen_classes=tuple(f'class {i}' for i in range(seen)),
    seen_prototypes=random_units(rng, seen, video),
    class_embeddings=random_units(rng, seen, text),
    counts=np.zeros(seen, np.int64),
    added_classes=(),
    added_embeddings=None,
  )


def main() -> None:
  """Parses the command line and prints the times."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--workdir', default='stick_figures')
  workdir = parser.parse_args().workdir
  model = zsar_jax.load(workdir)
  encoding, adding = added(model.recognizer, model.bank)
  print('ms, least / median')
  print(f'{workdir}, {len(model.bank.seen_classes)} seen classes:')
  print(f'  encoding a name {shown(encoding)}, the new class {shown(adding)}')
  worst = min(adding)
  for seen, video, text in _BANKS:
    names = RandomNames(model.recognizer, text)
    for weighting, hubs in _SETTINGS:
      bank = random_bank(model.bank, seen, video, text)
      chosen = {'weighting': weighting, 'hub_correction': hubs}
      bank = dataclasses.replace(bank, settings={**bank.settings, **chosen})
      _, adding = added(names, bank)
      what = f'{weighting}, hubs shorter' if hubs else weighting
      print(f'{seen} random classes, {what}: {shown(adding)}')
      worst = max(worst, min(adding))
  verdict = 'under' if worst < _BOUND else 'NOT under'
  print(
    f'at most {worst:.2f} ms beside encoding a name: {verdict} {_BOUND:g} ms'
  )


if __name__ == '__main__':
  main()
