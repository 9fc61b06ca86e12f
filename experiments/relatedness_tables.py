"""Makes the tables of `experiments.relatedness`."""

from collections import Counter
from collections.abc import Mapping, Sequence
import dataclasses

import numpy as np

from experiments import class_texts, column_draws
from zsar_jax.evaluation import methods, results_text
from zsar_jax.inference import public_encoders
from zsar_jax.zeroshot import semantic_transfer

PROMPTS = (
  '{}',
  'a person {}',
  'a video of {}',
  'what {} looks like',
  'a scene where people are {}',
)
CONSE = 'ConSE'
DEFAULT = 'kernel, as the product'
# Methods to measure with controls.
OF_CONTROLS = (CONSE, 'softmax', 'kernel', DEFAULT)
# Number of draws of each size in the table of few seen classes.
_FEW_DRAWS = 100
_WORST = 12
_Settings = methods.TransferSettings


def product_settings() -> _Settings:
  """Returns the transfer settings that `bank build --video` writes."""
  return public_encoders.SETTINGS


def candidates() -> dict[str, dict[str, column_draws.Scorer]]:
  """Returns method -> settings as text -> scorer, for the development draws."""
  scorers = lambda weighting, grid: {
    ', '.join(f'{_SHORT[k]} {v:g}' for k, v in changes.items()): (
      column_draws.transfer(_Settings(weighting=weighting, **changes))
    )
    for changes in grid
  }
  each = lambda key, values: [{key: value} for value in values]
  return {
    'nearest seen name': scorers('softmax', each('top_k', (1,))),
    CONSE: {
      f'top {top}, scale {scale}{", centred" if centre else ""}': (
        column_draws.conse(scale, top, centre)
      )
      for scale in (5, 20)
      for top in (5, 10, 40)
      for centre in (False, True)
    },
    'softmax': scorers('softmax', each('temperature', (0.05, 0.1, 0.2, 0.3))),
    'ridge': scorers('ridge', each('ridge', (0.1, 0.3, 1.0, 3.0))),
    'simplex': {'': column_draws.transfer(_Settings(weighting='simplex'))},
    'kernel': scorers(
      'kernel',
      [
        {'kernel_gamma': gamma, 'ridge': ridge, 'hub_correction': hubs}
        for gamma in (0.5, 1.0, 2.0)
        for ridge in (0.1, 0.3, 1.0)
        for hubs in (0.0, 0.5)
      ],
    ),
    DEFAULT: {'': column_draws.transfer(product_settings())},
  }


_SHORT = {
  'temperature': 'tau',
  'top_k': 'top',
  'ridge': 'lambda',
  'kernel_gamma': 'gamma',
  'hub_correction': 'beta',
}


@dataclasses.dataclass
class _Text:
  """Class embeddings, and the outcome of each method with them.

  Attributes:
    embeddings: [c e].
    chosen: method -> chosen settings as text.
    outcomes: method -> an outcome for each size of draws.
  """

  embeddings: np.ndarray
  chosen: dict[str, str]
  outcomes: dict[str, list[column_draws.Outcome]]


class Study:
  """Compares text encoders and methods on draws of classes.

  Attributes:
    registered: protocol -> draws, for protocols whose classes the classifier
      has.
  """

  def __init__(
    self,
    labels: Sequence[str],
    columns: np.ndarray,
    sizes: Sequence[int],
    number: int,
  ):
    """Makes the draws.

    Args:
      labels: canonical names of the classes [c].
      columns: columns of the classifier [c d].
      sizes: numbers of unseen classes.
      number: draws of each size; half as many more choose the settings.
    """
    self._labels, self._columns = tuple(labels), np.asarray(columns)
    self._names = [f'{size} unseen' for size in sizes]
    draw = lambda size, number, first: column_draws.random_draws(
      self._columns, size, number, first
    )
    self._develop = [
      draw(size, max(number // 2, 2), column_draws.DEVELOPMENT)
      for size in sizes
    ]
    self._reported = [
      draw(size, number, column_draws.REPORTED) for size in sizes
    ]
    self.registered = column_draws.registered_draws(labels, self._columns)
    self._names += self.registered
    self._reported += self.registered.values()
    self._texts: dict[str, _Text] = {}
    self._changes: list[list[str]] = []

  def add(
    self,
    name: str,
    embeddings: np.ndarray,
    only: Sequence[str] = (),
  ) -> None:
    """Chooses settings on development draws, and measures on the others.

    Args:
      name: name of the text encoder.
      embeddings: class embeddings [c e].
      only: methods to measure; () for all.
    """
    text = _Text(embeddings, {}, {})
    for method, options in candidates().items():
      if only and method not in only:
        continue
      chosen = [*options][0]
      if len(options) > 1:
        chosen = column_draws.choose(self._develop, embeddings, options)
      text.chosen[method] = chosen
      text.outcomes[method] = [
        column_draws.Outcome(draws, embeddings, options[chosen])
        for draws in self._reported
      ]
    self._texts[name] = text

  def add_prompts(self, encoder: class_texts.Encoder) -> None:
    """Measures each prompt of an encoder, and changes of the settings."""
    base = product_settings()
    own = self._texts[encoder.name].embeddings
    rows: list[tuple[str, np.ndarray, _Settings]] = [
      ('nothing', own, base),
      *(
        (f'prompt "{p}"', encoder.embed(self._labels, (p,)), base)
        for p in PROMPTS
      ),
      ('all five prompts', encoder.embed(self._labels, PROMPTS), base),
    ]
    rows += [
      (words, own, dataclasses.replace(base, **change))
      for words, change in (
        ('names not centred', {'centre_text': False}),
        ('hubs not corrected', {'hub_correction': 0.0}),
        ('gamma 0.5', {'kernel_gamma': 0.5}),
        ('gamma 2', {'kernel_gamma': 2.0}),
        ('lambda 0.1', {'ridge': 0.1}),
        ('lambda 1', {'ridge': 1.0}),
      )
    ]
    for words, embeddings, settings in rows:
      scorer = column_draws.transfer(settings)
      line = [encoder.name, words]
      for draws in self._reported:
        top = column_draws.Outcome(draws, embeddings, scorer).top(1)
        line.append(_mean_and_deviation(top))
      self._changes.append(line)

  def tables(self, few: Sequence[tuple[int, int]]) -> dict[str, list[str]]:
    """Returns all tables.

    Args:
      few: pairs (number of seen classes, number of unseen classes).

    Returns:
      Table name -> lines.
    """
    first = next(iter(self._texts))
    return {
      'methods': self._methods(),
      'spearman': self._spearman(),
      'changes': results_text.columns(
        ('text', 'changed', *self._names), self._changes
      )
      if self._changes
      else ['no text encoder'],
      'paired': self._paired(),
      'names that mislead': self._thirds(first),
      'losses': self._losses(first),
      'few seen classes': self._few(few),
    }

  def _methods(self) -> list[str]:
    lines = []
    for name, text in self._texts.items():
      for method, outcomes in text.outcomes.items():
        line = [name, method, text.chosen[method]]
        for outcome in outcomes:
          ends = column_draws.class_interval(outcome.found, outcome.drawn)
          line += [
            _mean_and_deviation(outcome.top(1)),
            f'{ends[0]:.1f} - {ends[1]:.1f}',
            f'{outcome.top(5).mean():.1f}',
          ]
        lines.append(line)
    header = ['text', 'method', 'chosen']
    for name in self._names:
      header += [f'{name}: top-1 (sd)', 'over classes', 'top-5']
    return results_text.columns(header, lines)

  def _spearman(self) -> list[str]:
    lines = []
    for name, text in self._texts.items():
      for words, centre in (('centred', True), ('as they are', False)):
        rhos = (
          column_draws.spearman(draws, text.embeddings, centre)
          for draws in self._reported
        )
        lines.append([name, words, *(f'{rho:.3f}' for rho in rhos)])
    return results_text.columns(('text', 'names', *self._names), lines)

  def _paired(self) -> list[str]:
    lines = []
    for name, text in self._texts.items():
      for method in text.outcomes:
        if method == DEFAULT:
          continue
        line = [name, f'{DEFAULT} - {method}']
        for ours, theirs in zip(
          text.outcomes[DEFAULT], text.outcomes[method], strict=True
        ):
          gain = ours.found - theirs.found
          low, high = column_draws.class_interval(gain, ours.drawn)
          points = np.mean(ours.top(1) - theirs.top(1))
          per_class = gain / np.maximum(ours.drawn, 1)
          line += [
            f'{points:+.1f}',
            f'{low:+.1f} - {high:+.1f}',
            f'{(per_class > 0).sum()} / {(per_class < 0).sum()}',
          ]
        lines.append(line)
    header = ['text', 'difference']
    for name in self._names:
      header += [f'{name}: points', 'over classes', 'better / worse']
    return results_text.columns(header, lines)

  def _looks(self, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Finds, for each class, the nearest other class by column and by name.

    Returns both, and the rank by name of the nearest by column.
    """
    text = self._texts[name].embeddings
    related = np.array(semantic_transfer.relatedness(text, text))
    away = self._columns - self._columns.mean(axis=0)
    away /= np.linalg.norm(away, axis=1, keepdims=True)
    alike = away @ away.T
    for square in (related, alike):
      np.fill_diagonal(square, -np.inf)
    looks, named = alike.argmax(axis=1), related.argmax(axis=1)
    own = np.take_along_axis(related, looks[:, None], axis=1)
    return looks, named, (related > own).sum(axis=1) + 1

  def _summed(self, name: str, method: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns how often each class was found and drawn, over random draws."""
    outcomes = self._texts[name].outcomes[method][: len(self._develop)]
    return (
      np.sum([o.found for o in outcomes], axis=0),
      np.sum([o.drawn for o in outcomes], axis=0),
    )

  def _thirds(self, name: str) -> list[str]:
    """Returns accuracies by the rank of the lookalike class, by name."""
    _, _, rank = self._looks(name)
    lines = []
    for words, group in (
      ('1', rank == 1),
      ('2 to 5', (rank > 1) & (rank <= 5)),
      ('6 to 20', (rank > 5) & (rank <= 20)),
      ('above 20', rank > 20),
    ):
      line = [words, str(group.sum())]
      for method in (DEFAULT, 'softmax', CONSE):
        found, drawn = self._summed(name, method)
        times = max(drawn[group].sum(), 1)
        line.append(f'{100 * found[group].sum() / times:.1f}')
      lines.append(line)
    header = ('rank by name of the class that looks most alike', 'classes')
    return results_text.columns((*header, DEFAULT, 'softmax', CONSE), lines)

  def _losses(self, name: str) -> list[str]:
    """Returns the classes where the transfer loses most to ConSE, and why."""
    looks, named, rank = self._looks(name)
    ours, drawn = self._summed(name, DEFAULT)
    theirs, _ = self._summed(name, CONSE)
    rate = lambda found: 100 * found / np.maximum(drawn, 1)
    order = np.argsort(rate(ours) - rate(theirs), kind='stable')[:_WORST]
    taken = self._taken_for(name)
    lines = [
      [
        self._labels[c],
        f'{rate(ours)[c]:.0f}',
        f'{rate(theirs)[c]:.0f}',
        taken[c],
        self._labels[named[c]],
        self._labels[looks[c]],
        str(rank[c]),
      ]
      for c in order
    ]
    header = (
      *('class', 'transfer', CONSE, 'taken for', 'nearest by name'),
      *('looks most like', 'its rank by name'),
    )
    return results_text.columns(header, lines)

  def _taken_for(self, name: str) -> list[str]:
    """Returns each class's most frequent wrong answer, by default settings."""
    wrong = [Counter() for _ in self._labels]
    outcomes = self._texts[name].outcomes[DEFAULT]
    for draws, outcome in zip(self._reported, outcomes, strict=True):
      for draw, answers in zip(draws, outcome.answers, strict=True):
        for true, answer in zip(draw.unseen, answers, strict=True):
          if answer != true:
            wrong[true][self._labels[answer]] += 1
    return [count.most_common(1)[0][0] if count else '' for count in wrong]

  def _few(self, few: Sequence[tuple[int, int]]) -> list[str]:
    """Compares declared and default settings, with few seen classes."""
    options: Mapping[str, _Settings] = {
      'softmax, tau 0.1 (declared)': _Settings(),
      'softmax, tau 0.2': _Settings(temperature=0.2),
      DEFAULT: product_settings(),
      'the same, hubs not corrected': dataclasses.replace(
        product_settings(), hub_correction=0.0
      ),
    }
    few = [
      (seen, unseen)
      for seen, unseen in few
      if seen + unseen <= len(self._labels)
    ]
    drawn = [
      column_draws.random_draws(
        self._columns, unseen, _FEW_DRAWS, column_draws.REPORTED, seen
      )
      for seen, unseen in few
    ]
    lines = []
    for name, text in self._texts.items():
      for words, settings in options.items():
        line = [name, words]
        for draws in drawn:
          top = column_draws.Outcome(
            draws, text.embeddings, column_draws.transfer(settings)
          ).top(1)
          error = top.std(ddof=1) / np.sqrt(len(top))
          line.append(f'{top.mean():.1f} +- {error:.1f}')
        lines.append(line)
    header = [f'{seen} seen, {unseen} unseen' for seen, unseen in few]
    return results_text.columns(('text', 'method', *header), lines)


def _mean_and_deviation(values: np.ndarray) -> str:
  return f'{values.mean():.1f} ({values.std():.1f})'
