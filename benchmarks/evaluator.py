"""Times the evaluation of embedded videos: 50 half-class splits of UCF101.

python -m benchmarks.evaluator [--streamed_videos=1000000]

The data are random unit vectors of UCF101's size: 13,320 videos of 101 classes
in 25 groups each, 768 dimensions, 400 seen classes, match logits for all names,
and 50 splits of 50 classes. Two programs run in turns:

* ours: `evaluator.evaluate` with all methods: top-1, top-5 and per-class
  accuracy, intervals over videos and over classes, paired differences, but no
  diagnostics.
* NumPy: one BLAS product for every split and method, the same figures with
  vectorised NumPy, and the same bootstraps by one product of a matrix of
  resampling weights [10,000 x groups] with the gains of all methods.

Then it scores a stream of videos against 10,000 classes, with the top 5 of
each, and prints the peak memory of the process. Last, it adds one class to a
bank of 400.

Predicted: ours under 1 s and about twice as fast as NumPy.

2026-11-24, two cores of an AMD EPYC:

1000000 videos x 10000 classes streamed, top 5: 63 s, largest memory 0.62 GiB
largest difference of a per-class accuracy: 1.7e-14
first call, compilation included: 1.56 s
ours 0.71 s, NumPy 4.47 s, ratio 6.32 (5.81 - 6.80), 7 rounds
with all diagnostics: 2.85 s
adding one class to 400, softmax: 0.82 ms
adding one class to 400, ridge: 3.42 ms
adding one class to 400, simplex: 4.65 ms

The ratio is larger than predicted: the ranks of all splits come from one
product with the candidate sets, and no scores are computed twice.

2026-11-27, a slower machine of the same kind, with other work: 1.12 s, NumPy
7.01 s, ratio 6.28 (5.54 - 7.65). The code before took 1.62 s there, ratio 4.78
(4.20 - 5.22): its bootstraps started threads of BLAS within a pool of threads.
The goal was 10. 200,000 videos against 10,000 classes took 30 s, of which the
products alone take NumPy 16 s: with 10,000 classes the products decide. The
best of blocks of classes first, in place of a whole top-k, gained nothing.
"""

import argparse
import resource
import time

import numpy as np

from zsar_jax.evaluation import evaluator, task
from zsar_jax.evaluation import methods as methods_lib
from zsar_jax.zeroshot import baselines, prototypes, scoring

VIDEOS, CLASSES, DIMENSIONS, SEEN, SPLITS = 13_320, 101, 768, 400, 50
GROUPS, RESAMPLES = 25, 10_000


def unit(x: np.ndarray) -> np.ndarray:
  """Normalises rows to unit length, float32."""
  return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)


def make_problem(rng: np.random.Generator):
  """Makes random seen classes, candidates and videos, not too easy."""
  noise = lambda *shape: rng.normal(size=shape) / np.sqrt(DIMENSIONS)
  text = unit(noise(CLASSES, DIMENSIONS))
  mixtures = rng.dirichlet(np.full(CLASSES, 0.05), SEEN)
  seen_text = unit(mixtures @ text + 0.5 * noise(SEEN, DIMENSIONS))
  centres = unit(seen_text + noise(SEEN, DIMENSIONS))
  labels = np.sort(rng.integers(CLASSES, size=VIDEOS))
  z = unit(text[labels] + 6 * noise(VIDEOS, DIMENSIONS))
  train = unit(centres[rng.integers(SEEN, size=20_000)])
  sums = prototypes.PrototypeSums(SEEN, DIMENSIONS, with_gram=True)
  sums.add(train, (train @ centres.T).argmax(1))
  candidates = np.zeros((CLASSES, SPLITS), bool)
  for split in candidates.T:
    split[rng.choice(CLASSES, 50, replace=False)] = True
  group = rng.integers(GROUPS, size=VIDEOS)
  names = lambda kind, n: tuple(f'{kind}{i}' for i in range(n))
  seen = task.Seen(
    task.Classes(names('seen', SEEN), seen_text), centres, sums=sums
  )
  videos = task.TestVideos(
    z[:, None],
    rng.normal(size=(VIDEOS, CLASSES)).astype(np.float32),
    labels,
    tuple(f'{c} {g}' for c, g in zip(labels, group, strict=True)),
    candidates=candidates,
    tested=candidates[labels],
  )
  return seen, task.Classes(names('unseen', CLASSES), text), videos


def numpy_scores(seen, unseen, z, match, settings):
  """Returns method -> function from columns to scores, one product each."""
  rows = methods_lib.all_composites(seen, unseen, settings)
  rows['nearest_name'] = unseen.text
  sums = seen.sums
  regression = baselines.ridge_to_text(
    sums.gram, sums.sums, sums.counts, seen.classes.text, settings.text_ridge
  )
  rows['ridge_to_text'] = baselines.regression_rows(regression, unseen.text)
  by_product = lambda r: lambda columns: z @ r[columns].T
  scores = {name: by_product(r) for name, r in rows.items()}
  # The seen classes' probabilities do not depend on the split.
  logits = seen.scale * (z @ seen.prototypes.T)
  p = np.exp(logits - logits.max(1, keepdims=True))
  p /= p.sum(1, keepdims=True)
  least = np.partition(p, -settings.conse_top, axis=1)[:, -settings.conse_top]
  names = np.where(p >= least[:, None], p, 0) @ seen.classes.text
  names /= np.linalg.norm(names, axis=1, keepdims=True)
  scores['conse'] = lambda columns: names @ unseen.text[columns].T
  scores['fusion'] = lambda columns: match[:, columns]
  scores['ensemble'] = lambda columns: baselines.ensemble_scores(
    scores['transfer'](columns),
    match[:, columns],
    beta=settings.ensemble_beta,
    transfer_temperature=settings.ensemble_transfer_temperature,
    match_temperature=settings.ensemble_match_temperature,
  )
  return scores


def evaluate_numpy(seen, unseen, videos, settings):
  """Does the work of `evaluator.evaluate` split by split, with NumPy.

  Returns the per-class accuracies of all methods [m].
  """
  z, labels = videos.embeddings[:, 0], videos.labels
  scores = numpy_scores(seen, unseen, z, videos.match, settings)
  counts = np.bincount(labels, minlength=CLASSES)
  gains = np.zeros((VIDEOS, 3 * len(scores)))
  for split in videos.candidates.T:
    columns = np.flatnonzero(split)
    rows = np.flatnonzero(split[labels])
    own = np.searchsorted(columns, labels[rows])
    per_class = 1 / (SPLITS * len(columns) * counts[labels[rows]])
    for m, of_method in enumerate(scores.values()):
      s = of_method(columns)[rows]
      truth = s[np.arange(len(rows)), own][:, None]
      rank = (s > truth).sum(axis=1)
      gains[rows, 3 * m] += (rank < 1) * per_class
      gains[rows, 3 * m + 1] += (rank < 1) / (SPLITS * len(rows))
      gains[rows, 3 * m + 2] += (rank < 5) / (SPLITS * len(rows))
  # Weight matrix: how often each group is drawn within its class, divided by
  # the class's share of drawn videos.
  _, group = np.unique(np.array(videos.groups), return_inverse=True)
  n = group.max() + 1
  of_group = np.zeros((n, gains.shape[1]))
  np.add.at(of_group, group, gains)
  class_of = np.zeros(n, int)
  class_of[group] = labels
  sizes = np.bincount(group, minlength=n)
  rng = np.random.default_rng(0)
  weights = np.zeros((RESAMPLES, n))
  class_weights = np.zeros((RESAMPLES, n))
  times = rng.multinomial(CLASSES, np.full(CLASSES, 1 / CLASSES), RESAMPLES)
  for c in range(CLASSES):
    at = np.flatnonzero(class_of == c)
    drawn = rng.multinomial(len(at), np.full(len(at), 1 / len(at)), RESAMPLES)
    share = drawn @ sizes[at]
    weights[:, at] = drawn * (counts[c] / share)[:, None]
    class_weights[:, at] = weights[:, at] * times[:, [c]]
  intervals = [
    np.quantile(w @ of_group, [0.025, 0.975], axis=0)
    for w in (weights, class_weights)
  ]
  return gains.sum(axis=0)[::3], intervals


def timed(function):
  """Calls a function; returns the seconds and its result."""
  began = time.perf_counter()
  out = function()
  return time.perf_counter() - began, out


def compare(rounds: int) -> None:
  """Times ours and NumPy, in turns."""
  seen, unseen, videos = make_problem(np.random.default_rng(0))
  settings = methods_lib.TransferSettings()
  ours = lambda: evaluator.evaluate(
    seen, unseen, videos, settings, diagnose=False
  )
  theirs = lambda: evaluate_numpy(seen, unseen, videos, settings)
  first, table = timed(ours)
  _, (values, _) = timed(theirs)
  rows = [r.value for r in table.rows if r.metric == 'per_class'][: len(values)]
  methods = methods_lib.METHODS
  order = [*methods_lib.all_composites(seen, unseen, settings)]
  order += ['nearest_name', 'ridge_to_text', 'conse', 'fusion', 'ensemble']
  of_numpy = dict(zip(order, values, strict=True))
  worst = max(abs(of_numpy[m] - rows[i]) for i, m in enumerate(methods))
  print(f'largest difference of a per-class accuracy: {worst:.1e}')
  print(f'first call, compilation included: {first:.2f} s')
  times = [(timed(ours)[0], timed(theirs)[0]) for _ in range(rounds)]
  a, b = np.median(times, axis=0)
  ratios = np.sort([y / x for x, y in times])
  print(
    f'ours {a:.2f} s, NumPy {b:.2f} s, ratio {np.median(ratios):.2f} '
    f'({ratios[0]:.2f} - {ratios[-1]:.2f}), {rounds} rounds'
  )
  full = timed(lambda: evaluator.evaluate(seen, unseen, videos, settings))[0]
  full = timed(lambda: evaluator.evaluate(seen, unseen, videos, settings))[0]
  print(f'with all diagnostics: {full:.2f} s')


def stream(num_videos: int, num_classes: int = 10_000) -> None:
  """Ranks the top 5 classes of very many videos."""
  rng = np.random.default_rng(0)
  rows = unit(rng.normal(size=(num_classes, DIMENSIONS)))

  def chunks():
    for first in range(0, num_videos, 16_384):
      n = min(16_384, num_videos - first)
      yield unit(rng.standard_normal((n, DIMENSIONS), np.float32))

  began, done = time.perf_counter(), 0
  for values, _ in scoring.stream_top_k(chunks(), rows, 5):
    done += len(values)
  took = time.perf_counter() - began
  most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
  print(
    f'{done} videos x {num_classes} classes streamed, top 5: {took:.0f} s, '
    f'largest memory {most:.2f} GiB'
  )
  tile = next(chunks())[: scoring.TILE]
  parts = {
    'made': lambda: unit(
      rng.standard_normal((len(tile), DIMENSIONS), np.float32)
    ),
    'multiplied by NumPy': lambda: tile @ rows.T,
    'multiplied and ranked by ours': lambda: list(
      scoring.stream_top_k([tile], rows, 5)
    ),
  }
  for name, part in parts.items():
    part()
    seconds = min(timed(part)[0] for _ in range(10)) * num_videos / len(tile)
    print(f'  as many videos {name}, from tiles: {seconds:.0f} s')


def add_a_class(rounds: int = 30) -> None:
  """Times compositing the prototype of a new class."""
  seen, unseen, _ = make_problem(np.random.default_rng(0))
  for weighting in ('softmax', 'ridge', 'simplex'):
    chosen = methods_lib.TransferSettings(weighting=weighting)
    add = lambda chosen=chosen: methods_lib.unseen_prototypes(
      seen.classes, seen.prototypes, unseen.text[:1], chosen
    )
    add()
    took = np.median([timed(add)[0] for _ in range(rounds)])
    print(f'adding one class to {SEEN}, {weighting}: {1000 * took:.2f} ms')


def main() -> None:
  """Runs all three parts."""
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  parser.add_argument('--rounds', type=int, default=7)
  parser.add_argument('--streamed_videos', type=int, default=1_000_000)
  args = parser.parse_args()
  # The stream comes first, so that the peak memory is its own.
  if args.streamed_videos:
    stream(args.streamed_videos)
  compare(args.rounds)
  add_a_class()


if __name__ == '__main__':
  main()
