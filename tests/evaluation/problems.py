"""Zero-shot tasks of random names and videos, for tests."""

import numpy as np

from zsar_jax.evaluation import task
from zsar_jax.zeroshot import prototypes


def unit(x):
  return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)


def problem(u=6, s=10, n=90, d=16, seed=0, spread=0.6):
  """Names and videos live in one space: transfer works, not always."""
  rng = np.random.default_rng(seed)
  seen_text = unit(rng.normal(size=(s, d)))
  text = unit(rng.dirichlet(np.full(s, 0.4), u) @ seen_text)
  labels = np.arange(n) % u
  z = unit(text[labels] + spread * rng.normal(size=(n, d)) / 2)
  train_labels = np.arange(8 * s) % s
  train = unit(seen_text[train_labels] + 0.1 * rng.normal(size=(8 * s, d)))
  sums = prototypes.PrototypeSums(s, d, with_gram=True)
  sums.add(train, train_labels)
  names = lambda kind, k: tuple(f'{kind}{i}' for i in range(k))
  seen = task.Seen(
    task.Classes(names('s', s), seen_text),
    sums.prototypes(),
    sums=sums,
  )
  videos = task.TestVideos(
    z[:, None],
    rng.normal(size=(n, u)).astype(np.float32),
    labels,
    tuple(f'g{i // 3}' for i in range(n)),
  )
  seen_videos = task.TestVideos(
    train[:40, None] + 0, None, train_labels[:40], tuple(map(str, range(40)))
  )
  unseen = task.Classes(names('u', u), text)
  return seen, unseen, videos, seen_videos


def values(table):
  return {(r.method, r.metric): r.value for r in table.rows}
