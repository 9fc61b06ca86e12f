"""Finds leaks: parts of the test that a model has seen under another name.

| kind | found by | strict |
|---|---|---|
| name | equal canonical names | yes |
| words | equal bags of normalised words (`word_overlap`) | yes |
| video | a training video that is a test video, byte for byte | yes |
| recording | a training and a test video cut from one recording | yes |
| containment | all words of one name within the other | no |
| similarity | near class embeddings, where they are given | no |

With a strict leak a result is not zero-shot. The others are for a human to
judge: 'waving slowly' contains 'waving', but is another class.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
import dataclasses
import re

import numpy as np

from zsar_jax.data.protocols import video_sets, word_overlap

_SHOWN = 10
_YOUTUBE_ID = re.compile(r'[\w-]{11}$', re.ASCII)


@dataclasses.dataclass(frozen=True)
class Leak:
  """A pair of classes, or of their videos, that should have nothing in common.

  Attributes:
    kind: see the module docstring.
    seen: name of the seen class.
    unseen: name of the unseen class.
    detail: the video or the similarity that was found.
    strict: whether a result with it is not zero-shot.
  """

  kind: str
  seen: str
  unseen: str
  detail: str = ''
  strict: bool = True

  def __str__(self) -> str:
    detail = f' ({self.detail})' if self.detail else ''
    return f'{self.kind}: seen {self.seen!r}, unseen {self.unseen!r}{detail}'


def audit_names(
  seen: Sequence[str],
  unseen: Sequence[str],
  embeddings: Mapping[str, np.ndarray] | None = None,
  min_similarity: float = 0.9,
) -> list[Leak]:
  """Looks for leaks between class names.

  Args:
    seen: canonical names.
    unseen: canonical names.
    embeddings: unit vector of each name; None compares only words.
    min_similarity: smallest cosine of two embeddings that is reported.

  Returns:
    The leaks, strict ones first; a pair is listed once, under its first kind.
  """
  both = set(seen) & set(unseen)
  leaks = [Leak('name', name, name) for name in seen if name in both]
  leaks += [
    Leak('words', *pair) for pair in word_overlap.equal_bags(seen, unseen)
  ]
  leaks += [
    Leak('containment', *pair, strict=False)
    for pair in _contained(seen, unseen)
  ]
  if embeddings is not None:
    cosines = (
      np.stack([embeddings[name] for name in seen])
      @ np.stack([embeddings[name] for name in unseen]).T
    )
    leaks += [
      Leak(
        'similarity', seen[s], unseen[u], f'cosine {cosines[s, u]:.3f}', False
      )
      for s, u in np.argwhere(cosines >= min_similarity)
    ]
  first = {}
  for leak in leaks:
    first.setdefault((leak.seen, leak.unseen), leak)
  return list(first.values())


def _contained(
  seen: Sequence[str], unseen: Sequence[str]
) -> list[tuple[str, str]]:
  words = {
    name: frozenset(word_overlap.normalised_words(name))
    for name in (*seen, *unseen)
  }
  return [
    (s, u)
    for s in seen
    for u in unseen
    if words[s] and words[u] and (words[s] <= words[u] or words[u] <= words[s])
  ]


def audit_videos(
  train: video_sets.VideoSet,
  test: video_sets.VideoSet,
  seen: Sequence[str],
  unseen: Sequence[str],
) -> list[Leak]:
  """Looks for videos in both training and test.

  Args:
    train: videos of the seen classes.
    test: videos of the unseen classes.
    seen: names in the order of the labels of `train`.
    unseen: names in the order of the labels of `test`.

  Returns:
    A leak for every training video that is in the test too. That is: the same
    bytes, or, between two datasets, a cut from the same YouTube video. Within
    one dataset a recording may show many actions.
  """
  leaks = []
  for kind, tested, trained in _shared(train, test):
    leaks += [
      Leak(
        kind,
        seen[train.labels[i]],
        unseen[test.labels[tested[key]]],
        f'{train.ids[i]} is {test.ids[tested[key]]}',
      )
      for i, key in enumerate(trained)
      if key in tested
    ]
  return leaks


def without_videos(
  train: video_sets.VideoSet, test: video_sets.VideoSet
) -> video_sets.VideoSet:
  """Returns the training videos that `audit_videos` does not report."""
  keep = np.ones(len(train), bool)
  for _, tested, trained in _shared(train, test):
    keep &= [key not in tested for key in trained]
  return train.subset(keep)


def _shared(
  train: video_sets.VideoSet, test: video_sets.VideoSet
) -> Iterator[tuple[str, dict[str, int], tuple[str, ...]]]:
  """Yields ways to identify videos: kind, key -> test row, training keys."""
  yield 'video', _first_rows(test.digests), train.digests
  if train.dataset_dir != test.dataset_dir:
    # A group such as 'g01' is a number within its dataset.
    recordings = _first_rows(test.groups)
    yield (
      'recording',
      {key: i for key, i in recordings.items() if _YOUTUBE_ID.match(key)},
      train.groups,
    )


def _first_rows(keys: Sequence[str]) -> dict[str, int]:
  rows: dict[str, int] = {}
  for i, key in enumerate(keys):
    rows.setdefault(key, i)
  return rows


def strict(leaks: Iterable[Leak]) -> tuple[Leak, ...]:
  """Returns the leaks with which a result is no longer zero-shot."""
  return tuple(leak for leak in leaks if leak.strict)


def leaking_classes(leaks: Iterable[Leak]) -> tuple[str, ...]:
  """Returns the unseen classes of strict leaks, sorted."""
  return tuple(sorted({leak.unseen for leak in leaks if leak.strict}))


def format_leaks(leaks: Sequence[Leak], shown: int = _SHOWN) -> str:
  """Writes leaks as lines of text, at most `shown` of them."""
  lines = [f'  {leak}' for leak in leaks[:shown]]
  if len(leaks) > shown:
    lines.append(f'  and {len(leaks) - shown} more')
  return '\n'.join(lines)


def refuse(leaks: Sequence[Leak], what: str) -> None:
  """Refuses strict leaks.

  Args:
    leaks: of an audit.
    what: name of what was audited, for the error.

  Raises:
    ValueError: there are strict leaks. The message names them, and the keys
      that allow them.
  """
  found = strict(leaks)
  if found:
    raise ValueError(
      f'{what}: {len(found)} leaks from training into the test; a model '
      'trained on a class is not zero-shot on it:\n'
      f'{format_leaks(found)}\n'
      'data.drop_leaking=True leaves these seen classes out of training, '
      'data.allow_leaks=True continues and says so in every result'
    )
