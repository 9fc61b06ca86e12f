"""What do a few example videos of an unseen class bring?

python -m experiments.few_examples --workdir=stick_figures \
  --inner=runs/inner0,runs/inner1,runs/inner2

First on inner draws (runs with --config.data.inner_draw=0, 1, 2): seen classes
play unseen, and the strength of the name beside the examples is chosen. Then,
with that strength, on the unseen classes of --workdir. Examples are drawn
twenty times; the others of the videos are tested, the same ones for every
number of examples. `half` gives examples to every second class of a random
order, the others have their name alone; all are candidates together.

Embeddings are kept in --embeddings. --docs=docs/results/examples.md puts the
tables into the document.
"""

import dataclasses
import os

from absl import flags
import numpy as np

from experiments import documents, pooled
from zsar_jax import cli
from zsar_jax.evaluation import (
  accuracy,
  choosing,
  example_draws,
  methods,
  protocol_evaluation,
  results_text,
)
from zsar_jax.inference import (
  bank_building,
  confidence,
  embedders,
  evaluate_run,
  example_videos,
  model_files,
  prototype_bank,
  saved_encoders,
)
from zsar_jax.system import terminal
from zsar_jax.zeroshot import examples

NUM_EXAMPLES = (0, 1, 2, 5, 10)
NUM_DRAWS = 20
# So little that the name counts for nothing once there is an example.
_EXAMPLES_ALONE = 1e-6


class Problem:
  """Unseen classes, their videos, and draws of examples among these.

  Attributes:
    evaluation: the arrays.
    draws: which videos are examples, and which are tested.
  """

  def __init__(self, evaluation, settings, centre=None):
    """Draws the examples.

    Args:
      evaluation: of unseen classes.
      settings: of the transfer.
      centre: of `example_videos.centre_of`.
    """
    self.evaluation = evaluation
    videos, rng = evaluation.videos, np.random.default_rng(0)
    self.draws = [
      example_draws.draw(
        videos, evaluation.unseen.names, max(NUM_EXAMPLES), rng
      )
      for _ in range(NUM_DRAWS)
    ]
    self._composites, _ = methods.unseen_prototypes(
      evaluation.seen.classes,
      evaluation.seen.prototypes,
      evaluation.unseen,
      settings,
    )
    self._directions = examples.directions(videos.embeddings, centre)

  def scores(self, counts, prior: float) -> list[np.ndarray]:
    """Scores of the tested videos of each draw; `counts` [draws c] or one."""
    counts = np.broadcast_to(counts, (NUM_DRAWS, len(self._composites)))
    return [
      example_draws.scores(
        drawn,
        self.evaluation.videos.embeddings,
        self._directions,
        self._composites,
        of_draw,
        prior,
      )
      for drawn, of_draw in zip(self.draws, counts, strict=True)
    ]

  def labels(self, drawn: example_draws.Draw) -> np.ndarray:
    """Labels of the tested videos."""
    return np.asarray(self.evaluation.videos.labels)[drawn.tested]

  def accuracies(self, scores: list[np.ndarray]) -> np.ndarray:
    """The accuracy of each class in each draw, [draws c]."""
    return np.stack(
      [
        example_draws.per_class_accuracy(scored, self.labels(drawn))
        for drawn, scored in zip(self.draws, scores, strict=True)
      ]
    )

  def halves(self) -> np.ndarray:
    """Which classes have examples where half of them do, bool [draws c]."""
    rng, c = np.random.default_rng(1), len(self._composites)
    return np.stack([rng.permutation(c) % 2 == 0 for _ in range(NUM_DRAWS)])

  def pool(self) -> pooled.Pool:
    """What computes intervals over all draws; each is a split."""
    videos = self.evaluation.videos
    return pooled.Pool(
      [
        dataclasses.replace(
          self.evaluation,
          video_ids=tuple(self.evaluation.video_ids[i] for i in drawn.tested),
          videos=dataclasses.replace(
            videos,
            embeddings=videos.embeddings[drawn.tested],
            match=None,
            labels=self.labels(drawn),
            groups=tuple(videos.groups[i] for i in drawn.tested),
            changed_embeddings={},
            unreadable_labels=(),
            candidates=None,
            tested=None,
            metadata=None,
            pooled=None,
          ),
        )
        for drawn in self.draws
      ]
    )


def _embed(recognizer, protocols, folder: str, bank=None):
  with recognizer.config.zeroshot.unlocked():  # older models lack the key
    recognizer.config.zeroshot.motion_controls = False
  embed = embedders.make_embedder(
    recognizer,
    evaluate_run.video_cache(recognizer.config),
    folder,
    say=terminal.say,
  )
  seen = None
  if bank is not None:
    seen = bank_building.seen_of(bank, recognizer.joint)
  return protocol_evaluation.embed_protocols(protocols, embed, seen=seen)


def inner_table(
  problems: list[Problem], default: float
) -> tuple[list[str], float]:
  """Compares strengths of the name on inner draws, and chooses one.

  Args:
    problems: of the draws.
    default: strength that another one must beat.

  Returns:
    Lines of the table, and the strength.
  """
  priors = (_EXAMPLES_ALONE, *choosing.PRIORS)
  found = {
    (n, prior): np.stack(
      [p.accuracies(p.scores(n, prior)).mean(axis=1) for p in problems]
    )  # [runs draws]
    for n in NUM_EXAMPLES
    for prior in priors
  }
  lines = [
    [
      str(n),
      *(
        _with_deviation(found[n, prior]) if n or prior == default else ''
        for prior in priors
      ),
    ]
    for n in NUM_EXAMPLES
  ]
  compared = {
    prior: np.mean([found[n, prior].mean(axis=1) for n in (1, 2, 5)], axis=0)
    for prior in (default, *choosing.PRIORS)
  }
  chosen = choosing.best([*compared.items()])
  header = ('examples', 'examples alone', *(f'{p:g}' for p in priors[1:]))
  return (
    [*results_text.columns(header, lines), f'chosen: {chosen:g}'],
    chosen,
  )


def _with_deviation(values: np.ndarray) -> str:
  """Mean over all, deviation over draws of examples, and over runs."""
  over_draws = 100 * values.std(axis=1).mean()
  over_runs = 100 * values.mean(axis=1).std()
  return f'{100 * values.mean():.1f} ({over_draws:.1f}, {over_runs:.1f})'


def test_table(problem: Problem, prior: float) -> list[str]:
  """Accuracies on unseen classes at every number of examples.

  Args:
    problem: of unseen classes.
    prior: strength of the name.
  """
  pool = problem.pool()
  ways = {'with the name': prior, 'examples alone': _EXAMPLES_ALONE}
  for way, strength in ways.items():
    for n in NUM_EXAMPLES:
      if n or way == 'with the name':
        scores = problem.scores(n, strength)
        pool.add(f'{way} {n}', [[one] for one in scores])
  rows = {
    row.method: row
    for row in pool.figures.rows()
    if row.metric == accuracy.PER_CLASS
  }
  lines = []
  for way in ways:
    for n in NUM_EXAMPLES:
      row = rows.get(f'{way} {n}')
      if row is not None:
        lines.append(
          [
            str(n),
            way,
            f'{100 * row.value:.1f}',
            f'{100 * row.std:.1f}',
            f'{100 * row.low:.1f} - {100 * row.high:.1f}',
            f'{100 * row.class_low:.1f} - {100 * row.class_high:.1f}',
          ]
        )
  return results_text.columns(
    ('examples', 'prototype', '%', 'sd of draws', 'over videos', 'classes'),
    lines,
  )


def fairness_table(problem: Problem, prior: float, calibrated) -> list[str]:
  """What changes where classes with and without examples stand together.

  Args:
    problem: of unseen classes.
    prior: strength of the name.
    calibrated: a `confidence.Confidence`, or None.
  """
  halves, lines = problem.halves(), []
  for n in NUM_EXAMPLES:
    scores = problem.scores(np.where(halves, n, 0), prior)
    found = problem.accuracies(scores)
    answered = [
      has[scored.argmax(axis=1)].mean()
      for has, scored in zip(halves, scores, strict=True)
    ]
    figures = [
      found[halves].mean(),
      found[~halves].mean(),
      np.mean(answered),
      problem.accuracies(problem.scores(n, prior)).mean(),
    ]
    if calibrated is not None:
      best = [
        calibrated.probabilities(scored, np.zeros((len(scored), 0)))[0].max(1)
        for scored in problem.scores(n, prior)
      ]
      figures.append(np.concatenate(best).mean())
    lines.append([str(n), *(f'{100 * x:.1f}' for x in figures)])
  header = ['examples', 'half: with', 'half: without', 'answers with', 'all: %']
  if calibrated is not None:
    header.append('all: mean probability')
  return results_text.columns(header, lines)


def main(argv: list[str]) -> None:
  """Measures, and prints the tables."""
  values = cli.new_flags()
  text = lambda name, default, what, required=False: flags.DEFINE_string(
    name, default, what, flag_values=values, required=required
  )
  text('workdir', None, 'Of the model that is tested.', True)
  text('inner', '', 'Workdirs of inner draws, with commas.')
  text('data_dir', '', 'Of rendered data; by default as the configs say.')
  text('embeddings', '', 'Folder for embeddings; by default none are kept.')
  text('docs', '', 'Document to update.')
  cli.parse(values, argv, usage=__doc__)
  prior, tables = methods.TransferSettings().example_prior, {}
  if values.inner:
    problems = []
    for folder in values.inner.split(','):
      recognizer = saved_encoders.load(folder)
      protocol = evaluate_run.make_protocol(recognizer.config)
      embedded = _embed(recognizer, [protocol], values.embeddings)
      problems.append(Problem(embedded, recognizer.transfer_settings))
    tables['inner draws'], prior = inner_table(problems, prior)
  workdir = model_files.resolve(values.workdir)
  recognizer = saved_encoders.load(workdir)
  bank = prototype_bank.load_bank(
    os.path.join(workdir, prototype_bank.BANK_FILE)
  )
  if values.data_dir:
    recognizer.config.data.data_dir = values.data_dir
  problem = Problem(
    _embed(
      recognizer,
      evaluate_run.make_protocols(recognizer.config, recognizer.seen_classes),
      values.embeddings,
      bank,
    ),
    methods.TransferSettings(**bank.settings),
    example_videos.centre_of(recognizer, bank),
  )
  calibrated = None
  if bank.calibration:
    calibrated = confidence.Confidence(bank.calibration, False)
  tables['unseen classes'] = test_table(problem, prior)
  tables['together'] = fairness_table(problem, prior, calibrated)
  tables['machine'] = [documents.machine()]
  documents.publish(tables, values.docs)


if __name__ == '__main__':
  cli.run(main)
