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

from collections.abc import Sequence
import dataclasses
import os

from absl import flags
import numpy as np

from experiments import documents, pooled
from zsar_jax import cli
from zsar_jax.data.protocols import class_split
from zsar_jax.evaluation import (
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
  encoders,
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
    composites: prototypes by name alone [c d].
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
    self.composites, _ = methods.unseen_prototypes(
      evaluation.seen.classes,
      evaluation.seen.prototypes,
      evaluation.unseen,
      settings,
    )
    self._directions = examples.directions(videos.embeddings, centre)

  def scores(self, counts, prior: float) -> list[np.ndarray]:
    """Scores of the tested videos of each draw; `counts` [draws c] or one."""
    counts = np.broadcast_to(counts, (NUM_DRAWS, len(self.composites)))
    return [
      example_draws.scores(
        drawn,
        self.evaluation.videos.embeddings,
        self._directions,
        self.composites,
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
    rng, c = np.random.default_rng(1), len(self.composites)
    return np.stack([rng.permutation(c) % 2 == 0 for _ in range(NUM_DRAWS)])

  def splits(self) -> list:
    """The tested videos of each draw, as the evaluation of a split."""
    videos = self.evaluation.videos
    return [
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


def embed(
  recognizer: encoders.Recognizer,
  protocols: Sequence[class_split.Protocol],
  folder: str,
  bank: prototype_bank.PrototypeBank | None = None,
) -> protocol_evaluation.Evaluation:
  """Embeds the videos of protocols, without those of the controls.

  Args:
    recognizer: the encoders.
    protocols: the splits of one protocol.
    folder: parent of the embedding caches; '' for none.
    bank: of the seen classes; None makes prototypes of the training videos.
  """
  with recognizer.config.zeroshot.unlocked():  # older models lack the key
    recognizer.config.zeroshot.motion_controls = False
  embedder = embedders.make_embedder(
    recognizer,
    evaluate_run.video_cache(recognizer.config),
    folder,
    say=terminal.say,
  )
  seen = None
  if bank is not None:
    seen = bank_building.seen_of(bank, recognizer.joint)
  return protocol_evaluation.embed_protocols(protocols, embedder, seen=seen)


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


def test_table(
  problems: Sequence[Problem], priors: Sequence[float]
) -> list[str]:
  """Accuracies on unseen classes at every number of examples.

  Args:
    problems: of unseen classes, one for each split.
    priors: strength of the name in each.
  """
  pool = pooled.Pool([split for p in problems for split in p.splits()])
  for way, n, strengths in _ways(priors):
    scores = [
      one
      for problem, prior in zip(problems, strengths, strict=True)
      for one in problem.scores(n, prior)
    ]
    pool.add(f'{way} {n}', [[one] for one in scores])
  rows = {(row.method, row.metric): row for row in pool.figures.rows()}
  metrics = [m for m in pooled.METRICS if any(m == key[1] for key in rows)]
  lines = []
  for way, n, _ in _ways(priors):
    line = [str(n), way]
    for metric in metrics:
      row = rows[f'{way} {n}', metric]
      of_draws = pool.spread[f'{way} {n}', metric].reshape(len(problems), -1)
      line += [
        f'{100 * row.value:.1f}',
        f'{100 * of_draws.mean(axis=0).std():.1f}',
        f'{100 * row.low:.1f} - {100 * row.high:.1f}',
        f'{100 * row.class_low:.1f} - {100 * row.class_high:.1f}',
      ]
    lines.append(line)
  names = ['%'] if len(metrics) == 1 else ['same source %', 'all %']
  header = ['examples', 'prototype']
  for name in names:
    header += [name, 'sd of draws', 'over videos', 'classes']
  return results_text.columns(header, lines)


def _ways(priors: Sequence[float]):
  """Yields the table's rows: prototype, number of examples, strengths."""
  for n in NUM_EXAMPLES:
    yield 'with the name', n, priors
  for n in NUM_EXAMPLES[1:]:
    yield 'examples alone', n, [_EXAMPLES_ALONE] * len(priors)


def fairness_table(
  problems: Sequence[Problem],
  priors: Sequence[float],
  calibrated: Sequence[confidence.Confidence],
) -> list[str]:
  """What changes where classes with and without examples stand together.

  Args:
    problems: of unseen classes, one for each split.
    priors: strength of the name in each.
    calibrated: what makes probabilities in each; () leaves them out.
  """
  lines = []
  for n in NUM_EXAMPLES:
    figures = np.mean(
      [
        _fairness(p, n, prior)
        for p, prior in zip(problems, priors, strict=True)
      ],
      axis=0,
    ).tolist()
    if calibrated:
      figures.append(
        np.mean(
          [
            _mean_probability(p.scores(n, prior), sure)
            for p, prior, sure in zip(problems, priors, calibrated, strict=True)
          ]
        )
      )
    lines.append([str(n), *(f'{100 * x:.1f}' for x in figures)])
  header = ['examples', 'half: with', 'half: without', 'answers with', 'all: %']
  if calibrated:
    header.append('all: mean probability')
  return results_text.columns(header, lines)


def _fairness(problem: Problem, n: int, prior: float) -> list[float]:
  """The first figures of a row of `fairness_table`."""
  halves = problem.halves()
  scores = problem.scores(np.where(halves, n, 0), prior)
  found = problem.accuracies(scores)
  answered = [
    has[scored.argmax(axis=1)].mean()
    for has, scored in zip(halves, scores, strict=True)
  ]
  return [
    found[halves].mean(),
    found[~halves].mean(),
    np.mean(answered),
    problem.accuracies(problem.scores(n, prior)).mean(),
  ]


def _mean_probability(
  scores: Sequence[np.ndarray], sure: confidence.Confidence
) -> float:
  """The mean probability of the answers."""
  best = [
    sure.probabilities(scored, np.zeros((len(scored), 0)))[0].max(axis=1)
    for scored in scores
  ]
  return float(np.concatenate(best).mean())


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
  documents.define_docs(values)
  cli.parse(values, argv, usage=__doc__)
  prior, tables = methods.TransferSettings().example_prior, {}
  if values.inner:
    problems = []
    for folder in values.inner.split(','):
      recognizer = saved_encoders.load(folder)
      protocol = evaluate_run.make_protocol(recognizer.config)
      embedded = embed(recognizer, [protocol], values.embeddings)
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
    embed(
      recognizer,
      evaluate_run.make_protocols(recognizer.config, recognizer.seen_classes),
      values.embeddings,
      bank,
    ),
    methods.TransferSettings(**bank.settings),
    example_videos.centre_of(recognizer, bank),
  )
  calibrated = []
  if bank.calibration:
    calibrated = [confidence.Confidence(bank.calibration, False)]
  tables['unseen classes'] = test_table([problem], [prior])
  tables['together'] = fairness_table([problem], [prior], calibrated)
  tables['machine'] = [documents.machine()]
  documents.publish(tables, values.docs)


if __name__ == '__main__':
  cli.run(main)
