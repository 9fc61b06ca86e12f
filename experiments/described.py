"""What do descriptions of classes add to their names? No videos needed.

python -m experiments.described --video=i3d --text=MINILM_DIR --text=words

As `experiments.relatedness`, with the same draws and the product's settings of
the transfer: some classes of a classifier play unseen, and their columns must
be found by their texts. How much the descriptions weigh beside the names is
chosen on the development draws, which are not reported. --text may be repeated,
and takes `words` and `letters`: these know nothing but the spelling, and say
how much of a gain is common words. Each has its own tables.
--docs=docs/results/relatedness.md also puts them into the document.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import re

from absl import flags
import numpy as np

from experiments import class_texts, column_draws, documents, relatedness
from experiments.relatedness_tables import product_settings
from zsar_jax import cli
from zsar_jax.data import class_descriptions
from zsar_jax.evaluation import methods, results_text
from zsar_jax.inference import public_sides

# Of the descriptions in a class embedding; development draws choose.
WEIGHTS = (0.35, 0.5, 0.65, 0.8)
_BARE = 'names alone'
_WORST, _BEST = 12, 6


@dataclasses.dataclass(frozen=True)
class Draws:
  """Which classes play unseen.

  Attributes:
    develop: development draws of each size.
    reported: draws of each size.
    few: draws where few classes are seen.
    names: of the sizes, for tables.
    few_names: of the draws with few seen classes.
  """

  develop: list[list[column_draws.Draw]]
  reported: list[list[column_draws.Draw]]
  few: list[list[column_draws.Draw]]
  names: list[str]
  few_names: list[str]


def make_draws(columns: np.ndarray, sizes: Sequence[int], number: int) -> Draws:
  """Makes the draws of `experiments.relatedness`.

  Args:
    columns: of the classifier [c d].
    sizes: numbers of unseen classes.
    number: draws of each size; half as many choose the weight.
  """
  draw = lambda size, number, first, seen=0: column_draws.random_draws(
    columns, size, number, first, seen
  )
  develop, reported = column_draws.DEVELOPMENT, column_draws.REPORTED
  few = [pair for pair in relatedness.FEW if sum(pair) <= len(columns)]
  return Draws(
    [draw(size, max(number // 2, 2), develop) for size in sizes],
    [draw(size, number, reported) for size in sizes],
    [draw(unseen, number, reported, seen) for seen, unseen in few],
    [f'{size} unseen' for size in sizes],
    [f'{seen} seen, {unseen} unseen' for seen, unseen in few],
  )


class Described:
  """What one text encoder finds with and without descriptions.

  Attributes:
    name: of the encoder.
    embeddings: words -> class embeddings [c e].
    weight: chosen on the development draws.
  """

  def __init__(
    self,
    draws: Draws,
    name: str,
    bare: np.ndarray,
    mixed: Mapping[float | str, np.ndarray],
  ):
    """Chooses the weight.

    Args:
      draws: to find classes in.
      name: of the encoder.
      bare: class embeddings of names alone [c e].
      mixed: weight of the descriptions -> class embeddings [c e]; or words ->
        others that are measured, and not chosen.
    """
    self.name, self._draws = name, draws
    self._scorer = column_draws.transfer(product_settings())
    words = {w: w if isinstance(w, str) else f'weight {w:g}' for w in mixed}
    self.embeddings = {_BARE: bare}
    self.embeddings |= {words[w]: text for w, text in mixed.items()}
    weights = [w for w in mixed if not isinstance(w, str)]
    self.weight = max(weights, key=lambda w: self._developed(words[w]))
    self._best = mixed[self.weight]

  def _found(self, draws_of_sizes, text, scorer=None):
    return [
      column_draws.Outcome(draws, text, scorer or self._scorer)
      for draws in draws_of_sizes
    ]

  def _developed(self, words: str) -> float:
    """Mean top-1 over sizes of development draws."""
    outcomes = self._found(self._draws.develop, self.embeddings[words])
    return float(np.mean([outcome.top(1).mean() for outcome in outcomes]))

  def _partly(self, described) -> column_draws.Scorer:
    """Scores where `described`(draw) alone have their descriptions."""
    bare = self.embeddings[_BARE]

    def score(draw, text):
      ids = described(draw)
      partly = bare.copy()
      partly[ids] = text[ids]
      return self._scorer(draw, partly)

    return score

  def rows(self) -> list[list[str]]:
    """Rows of the table `descriptions`."""
    reported = self._draws.reported
    without = self._found(reported, self.embeddings[_BARE])
    found = {
      words: (f'{self._developed(words):.1f}', self._found(reported, text))
      for words, text in self.embeddings.items()
    }
    if self.embeddings[_BARE].shape == self._best.shape:  # not of controls
      half = lambda draw: np.concatenate([draw.seen, draw.unseen[::2]])
      for words, described in (
        ('seen classes alone', lambda draw: draw.seen),
        ('unseen classes alone', lambda draw: draw.unseen),
        ('seen and every second unseen class', half),
      ):
        outcomes = self._found(reported, self._best, self._partly(described))
        found[f'weight {self.weight:g}, {words}'] = ('', outcomes)
    lines = []
    for words, (developed, outcomes) in found.items():
      line = [words, developed]
      for outcome, base in zip(outcomes, without, strict=True):
        gain = outcome.found - base.found
        low, high = column_draws.class_interval(gain, base.drawn)
        line += [
          f'{outcome.top(1).mean():.1f}',
          f'{np.mean(outcome.top(1) - base.top(1)):+.1f}',
          f'{low:+.1f} - {high:+.1f}',
          f'{(gain > 0).sum()} / {(gain < 0).sum()}',
        ]
      lines.append(line)
    return lines

  def few_rows(self) -> list[list[str]]:
    """Rows of the table `descriptions, few seen classes`."""
    lines = []
    options = {
      'softmax, tau 0.1 (declared)': methods.TransferSettings(),
      'kernel, as the product': product_settings(),
    }
    for settings_words, settings in options.items():
      scorer = column_draws.transfer(settings)
      for words, text in (
        (_BARE, self.embeddings[_BARE]),
        (f'weight {self.weight:g}', self._best),
      ):
        line = [words, settings_words]
        for outcome in self._found(self._draws.few, text, scorer):
          top = outcome.top(1)
          error = top.std(ddof=1) / np.sqrt(len(top))
          line.append(f'{top.mean():.1f} +- {error:.1f}')
        lines.append(line)
    return lines

  def by_class(self, labels: Sequence[str]) -> list[str]:
    """Lines on the classes that descriptions hurt and help most."""
    draws = [draw for of_size in self._draws.reported for draw in of_size]
    rates = []
    for text in (self.embeddings[_BARE], self._best):
      outcome = column_draws.Outcome(draws, text, self._scorer)
      rates.append(100 * outcome.found / np.maximum(outcome.drawn, 1))
    gain = rates[1] - rates[0]
    order = np.argsort(gain, kind='stable')
    return results_text.columns(
      ('class', 'names alone', 'with descriptions', 'points'),
      [
        [labels[c], *(f'{rate[c]:.0f}' for rate in rates), f'{gain[c]:+.0f}']
        for c in (*order[:_WORST], *order[::-1][:_BEST])
      ],
    )


def _of_encoder(draws, path, labels, descriptions) -> Described:
  encoder = class_texts.Encoder(path)
  bare, alone, alike, *mixed = encoder.embed_described(
    labels, descriptions, (0.0, 1.0, None, *WEIGHTS)
  )
  others = {'descriptions alone': alone, 'every text alike': alike}
  mixed = dict(zip(WEIGHTS, mixed, strict=True))
  return Described(draws, encoder.name, bare, {**others, **mixed})


def _of_control(draws, kind: str, labels, descriptions) -> Described:
  """Names beside names and sentences, by their spelling."""
  whole = (' '.join([n, *descriptions.get(n, ())]) for n in labels)
  texts = [' '.join(re.findall(r'\w+', text.lower())) for text in whole]
  control = class_texts.control
  return Described(
    draws, kind, control(kind, labels), {1.0: control(kind, texts)}
  )


def tables(
  draws: Draws, studied: Described, labels: Sequence[str]
) -> dict[str, list[str]]:
  """The tables of one text encoder: name -> lines."""
  header = ['class embeddings of', 'development']
  for name in draws.names:
    header += [f'{name}: top-1', 'gain', 'over classes', 'better / worse']
  few = ('class embeddings of', 'method', *draws.few_names)
  name = f'descriptions, {studied.name.split()[0]}'
  return {
    name: results_text.columns(header, studied.rows()),
    f'{name}, few seen': results_text.columns(few, studied.few_rows()),
    f'{name}, by class': studied.by_class(labels),
    f'{name}, machine': [f'{studied.name}: {documents.machine()}'],
  }


def main(argv: list[str]) -> None:
  """Reads the weights, and prints the tables."""
  values = cli.new_flags()
  flags.DEFINE_string(
    'video', 'i3d', 'Weights of a video classifier.', flag_values=values
  )
  flags.DEFINE_multi_string(
    'text', None, 'Weights of a text encoder.', flag_values=values
  )
  cli.define_descriptions(values, 'Of the classes')
  values['descriptions'].value = class_descriptions.SHIPPED
  flags.DEFINE_integer(
    'draws', 30, 'Of each size.', flag_values=values, lower_bound=2
  )
  flags.DEFINE_list(
    'unseen',
    [*map(str, relatedness.UNSEEN)],
    'Unseen classes.',
    flag_values=values,
  )
  documents.define_docs(values)
  cli.parse(values, argv, usage=__doc__)
  if not values.text:
    raise ValueError('give --text, weights of a text encoder')
  video = public_sides.open_video(values.video)
  if video.columns is None:
    raise ValueError(f'{values.video} has no classifier, so no columns')
  descriptions = cli.read_descriptions(values.descriptions, video.labels)
  draws = make_draws(
    video.columns, [int(size) for size in values.unseen], values.draws
  )
  for path in values.text:
    of = _of_control if path in class_texts.CONTROLS else _of_encoder
    studied = of(draws, path, video.labels, descriptions)
    made = tables(draws, studied, video.labels)
    documents.publish(made, values.docs)


if __name__ == '__main__':
  cli.run(main)
