"""Inner draws: some seen classes play unseen, to choose settings on.

Settings must be chosen without the true unseen classes.
"""

from collections.abc import Sequence
import dataclasses
import hashlib

import numpy as np

from zsar_jax.data.protocols import class_split, video_sets


def inner_draw(
  protocol: class_split.Protocol, draw: int, share: float, seed: int = 0
) -> class_split.Protocol:
  """Makes a protocol that tests on some of another protocol's seen classes.

  A model has to be trained anew on the classes that stay seen.

  Args:
    protocol: its seen classes are divided.
    draw: number of the draw, from 0.
    share: share of each source's classes that play unseen, in (0, 1); at least
      one class stays seen.
    seed: of the draws.

  Returns:
    The protocol, without any part of the original test.

  Raises:
    ValueError: the share is outside (0, 1), or no class can play unseen.
  """
  unseen = _draw_classes(protocol, draw, share, seed)
  seen = tuple(n for n in protocol.seen_classes if n not in unseen)
  name = f'{protocol.name}#inner{draw}'
  text = f'{protocol.hash} {draw} {unseen}'
  digest = hashlib.sha256(text.encode()).hexdigest()[:12]
  part = lambda videos, names: _renumbered(videos, protocol.seen_classes, names)
  return dataclasses.replace(
    protocol,
    name=name,
    hash=digest,
    spec_id=name,
    spec_hash=digest,
    seen_classes=seen,
    unseen_classes=unseen,
    train=part(protocol.train, seen),
    validation=part(protocol.validation, seen),
    seen_test=protocol.seen_test and part(protocol.seen_test, seen),
    test=part(protocol.train, unseen),
    unreadable=(),
    num_missing=0,
    leaks=(),
  )


def _draw_classes(
  protocol: class_split.Protocol, draw: int, share: float, seed: int
) -> tuple[str, ...]:
  """Draws the seen classes that play unseen, sorted."""
  if not 0 < share < 1:
    raise ValueError(f'data.inner_share={share} is not in (0, 1)')
  rng = np.random.default_rng((seed, draw))
  of_source: dict[str, list[str]] = {}
  for name in protocol.seen_classes:
    of_source.setdefault(protocol.sources.get(name, ''), []).append(name)
  unseen = []
  for names in of_source.values():
    count = min(round(share * len(names)), len(names) - 1)
    unseen += rng.choice(names, count, replace=False).tolist()
  if not unseen:
    raise ValueError(
      f'{protocol.name}: no seen class can play unseen at '
      f'data.inner_share={share}'
    )
  return tuple(sorted(unseen))


def _renumbered(
  videos: video_sets.VideoSet, classes: Sequence[str], names: Sequence[str]
) -> video_sets.VideoSet:
  """Returns the videos of the classes `names`, labelled in that order."""
  place = np.array([names.index(c) if c in names else -1 for c in classes])
  kept = videos.subset(place[videos.labels] >= 0)
  return dataclasses.replace(
    kept, labels=place[kept.labels].astype(kept.labels.dtype)
  )
