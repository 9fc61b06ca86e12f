"""Defines a protocol: its classes, its videos, and how results are averaged."""

from collections.abc import Iterable, Sequence
import dataclasses
import hashlib
import json
import re

UNSEEN_CANDIDATES = 'the unseen classes of the split'
ONE_SPLIT = 'one split'
MEAN_OVER_SPLITS = 'mean over splits, population standard deviation'
ALL_VIDEOS = 'all'


@dataclasses.dataclass(frozen=True)
class SplitSpec:
  """One split of a protocol: its classes and its videos.

  Attributes:
    name: such as 'seed3'.
    seen: canonical names, sorted; None allows any training classes that are not
      unseen.
    unseen: canonical names, sorted; the candidates.
    videos: which videos of the unseen classes count: 'all', 'list:NAME' for
      an official list, 'split:NAME' for a split of the prepared dataset.
    num_videos: number of these in the complete dataset; None if unknown.
    list_digest: `list_digest` of the official list; '' if unknown.
  """

  name: str
  seen: tuple[str, ...] | None
  unseen: tuple[str, ...]
  videos: str = ALL_VIDEOS
  num_videos: int | None = None
  list_digest: str = ''


@dataclasses.dataclass(frozen=True)
class ProtocolSpec:
  """A protocol, before it meets any data.

  Attributes:
    id: its name, '<dataset>/<rule>'.
    dataset: name of the prepared dataset that it tests on.
    splits: at least one.
    source: where the rule was published.
    notes: remarks for readers of its numbers.
    candidates: the classes that compete for a video, in words.
    averaging: how the splits become one number.
    part: which split of how many this is, where its file has more, such as
      'split 0 of 2'; else ''.
  """

  id: str
  dataset: str
  splits: tuple[SplitSpec, ...]
  source: str
  notes: str = ''
  candidates: str = UNSEEN_CANDIDATES
  averaging: str = ONE_SPLIT
  part: str = ''

  @property
  def hash(self) -> str:
    """12 hex digits over all that defines the measurement."""
    content = {
      'dataset': self.dataset,
      'candidates': self.candidates,
      'averaging': self.averaging,
      'splits': [
        [
          None if split.seen is None else _keys(split.seen),
          _keys(split.unseen),
          split.videos,
        ]
        for split in self.splits
      ],
    }
    text = json.dumps(content, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def list_digest(video_ids: Iterable[str]) -> str:
  """Hashes an official video list to 12 hex digits.

  Args:
    video_ids: in any order; folders, suffixes and case do not count.

  Returns:
    The start of the SHA-256 of the sorted file names.
  """
  stems = sorted(_stem(video_id) for video_id in video_ids)
  return hashlib.sha256('\n'.join(stems).encode()).hexdigest()[:12]


def _keys(names: Sequence[str]) -> list[str]:
  """Removes spaces and signs from class names, so that spelling is ignored."""
  return sorted(re.sub(r'[\W_]', '', name).lower() for name in names)


def _stem(video_id: str) -> str:
  stem = video_id.rpartition('/')[2]
  return re.sub(r'\.[A-Za-z0-9]{2,4}$', '', stem).casefold()
