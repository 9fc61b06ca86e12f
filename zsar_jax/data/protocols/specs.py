"""What a protocol is: which classes, which videos, how they are averaged."""

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
  """One split of a protocol: who is asked about what.

  Attributes:
    name: such as 'seed3'.
    seen: canonical names, sorted; None for whatever the model was trained
      on, so long as none of it is unseen.
    unseen: canonical names, sorted; the candidates.
    videos: which videos of the unseen classes count: 'all', 'list:NAME' for
      an official list, 'split:NAME' for a split of the prepared dataset.
    num_videos: how many there are in the complete dataset; None if unknown.
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
    notes: what a reader of its numbers should know.
    candidates: what a video may be recognised as.
    averaging: how the splits become one number.
  """

  id: str
  dataset: str
  splits: tuple[SplitSpec, ...]
  source: str
  notes: str = ''
  candidates: str = UNSEEN_CANDIDATES
  averaging: str = ONE_SPLIT

  @property
  def hash(self) -> str:
    """12 hex digits over all that defines what is measured."""
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
  """Names an official video list: 12 hex digits.

  Args:
    video_ids: in any order; folders, suffixes and case do not count.

  Returns:
    The start of the SHA-256 of the sorted file names.
  """
  stems = sorted(_stem(video_id) for video_id in video_ids)
  return hashlib.sha256('\n'.join(stems).encode()).hexdigest()[:12]


def _keys(names: Sequence[str]) -> list[str]:
  """Class names without spaces and signs, so that no spelling counts."""
  return sorted(re.sub(r'[\W_]', '', name).lower() for name in names)


def _stem(video_id: str) -> str:
  stem = video_id.rpartition('/')[2]
  return re.sub(r'\.[A-Za-z0-9]{2,4}$', '', stem).casefold()
