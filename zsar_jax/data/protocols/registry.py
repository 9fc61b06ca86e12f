"""All published protocols that we know, each under one id.

"UCF101 accuracy" means at least four things. A `ProtocolSpec` says which one:
the dataset, the candidate classes, the videos that count, and how several
splits become one number. Its hash covers everything that defines the
measurement, but no spelling. Results of different hashes do not compare.

```python
spec = get('ucf101/half-class-seed0-9')
print(describe(spec))
problems = check(spec, records.read_metadata(dataset_dir))
```
"""

from collections.abc import Callable, Mapping
import difflib
import os
from typing import Any

from zsar_jax.data.protocols import published, split_file
from zsar_jax.data.protocols.specs import (
  MEAN_OVER_SPLITS,
  ONE_SPLIT,
  ProtocolSpec,
  SplitSpec,
  list_digest,
)

__all__ = [
  'ProtocolSpec',
  'SplitSpec',
  'check',
  'describe',
  'from_split_file',
  'get',
  'ids',
  'list_digest',
  'select_videos',
  'video_rule',
]


def ids() -> list[str]:
  """Returns the ids that `get` knows, sorted."""
  return sorted(published.specs())


def get(protocol_id: str) -> ProtocolSpec:
  """Returns the protocol of an id.

  Args:
    protocol_id: one of `ids()`.

  Returns:
    The protocol.

  Raises:
    ValueError: there is no such id; the message has the nearest.
  """
  specs = published.specs()
  if protocol_id in specs:
    return specs[protocol_id]
  if protocol_id.startswith('video_folder/'):
    raise ValueError(
      f'{protocol_id!r} is made of a class split file: give the file'
    )
  near = difflib.get_close_matches(protocol_id, specs, n=3, cutoff=0.5)
  raise ValueError(
    f'unknown protocol {protocol_id!r}; '
    + (f'nearest are {", ".join(near)}' if near else f'known are {ids()}')
  )


def from_split_file(
  path: str, index: int | None = None, dataset: str = 'video_folder'
) -> ProtocolSpec:
  """Makes the protocol of a class split file; see `split_file`.

  Args:
    path: a JSON file.
    index: which of its splits; None for all.
    dataset: the prepared dataset that the classes belong to.

  Returns:
    The protocol 'video_folder/<name of the file>[/<index>]'.

  Raises:
    FileNotFoundError: the file does not exist.
    ValueError: see `split_file.read_class_split`.
  """
  first = index or 0
  pairs = {first: split_file.read_class_split(path, first)}
  if index is None:
    for i in range(1, split_file.count_splits(path)):
      pairs[i] = split_file.read_class_split(path, i)
  stem = os.path.splitext(os.path.basename(path))[0]
  return ProtocolSpec(
    id=f'{dataset}/{stem}' + ('' if index is None else f'/{index}'),
    dataset=dataset,
    splits=tuple(
      SplitSpec(f'split{i}', tuple(seen), tuple(unseen))
      for i, (seen, unseen) in pairs.items()
    ),
    source=os.path.basename(path),
    averaging=MEAN_OVER_SPLITS if len(pairs) > 1 else ONE_SPLIT,
  )


def select_videos(
  split: SplitSpec, metadata: Mapping[str, Any]
) -> dict[str, list[int]]:
  """Selects the test videos of a split in a prepared dataset.

  Args:
    split: of a `ProtocolSpec`.
    metadata: of `records.read_metadata`.

  Returns:
    Prepared split -> record rows, ascending.

  Raises:
    ValueError: the dataset has no such list or split.
  """
  counts = video_rule(split, metadata)
  return {
    name: [
      row
      for row, (video_id, label) in enumerate(
        zip(columns['id'], columns['label'], strict=True)
      )
      if counts(name, video_id, label)
    ]
    for name, columns in metadata['videos'].items()
  }


def check(spec: ProtocolSpec, metadata: Mapping[str, Any]) -> list[str]:
  """Compares a prepared dataset with what a protocol expects.

  Args:
    spec: the protocol.
    metadata: of `records.read_metadata`.

  Returns:
    One line for each problem; [] if there is none.
  """
  problems = []
  dataset = metadata['dataset']
  if dataset != spec.dataset:
    problems.append(f'it is {dataset!r}, {spec.id} tests on {spec.dataset!r}')
  for split in spec.splits:
    problems += [
      f'{split.name}: {problem}' for problem in _check_split(split, metadata)
    ]
  return problems


def describe(spec: ProtocolSpec) -> str:
  """Writes a protocol as a text table."""
  rows = [
    ('id', spec.id),
    ('hash', spec.hash),
    ('dataset', spec.dataset),
    ('candidates', spec.candidates),
    ('averaging', spec.averaging),
    ('source', spec.source),
  ]
  if spec.notes:
    rows.append(('notes', spec.notes))
  lines = [f'{key:<12}{value}' for key, value in rows]
  lines += ['', f'{"split":<12}{"seen":>8}{"unseen":>8}{"videos":>8}  rule']
  for split in spec.splits:
    seen = 'any' if split.seen is None else len(split.seen)
    videos = '?' if split.num_videos is None else split.num_videos
    lines.append(
      f'{split.name:<12}{seen:>8}{len(split.unseen):>8}{videos:>8}  '
      f'{split.videos}'
    )
  return '\n'.join(lines)


def video_rule(
  split: SplitSpec, metadata: Mapping[str, Any]
) -> Callable[[str, str, str], bool]:
  """Makes the rule that says which videos of a dataset a split tests on.

  Args:
    split: of a `ProtocolSpec`.
    metadata: of `records.read_metadata`.

  Returns:
    (prepared split, id, label) -> whether the video counts.

  Raises:
    ValueError: the dataset has no such list or split.
  """
  kind, _, name = split.videos.partition(':')
  unseen = set(split.unseen)
  if kind == 'list':
    if name not in metadata['lists']:
      raise ValueError(
        f'the prepared dataset has no official list {name!r}, only '
        f'{sorted(metadata["lists"])}: prepare it with the lists beside it'
      )
    members = set(metadata['lists'][name])
    return lambda _, i, label: i in members and label in unseen
  if kind == 'split':
    if name not in metadata['videos']:
      raise ValueError(
        f'the prepared dataset has no split {name!r}, only '
        f'{sorted(metadata["videos"])}'
      )
    return lambda s, _, label: s == name and label in unseen
  return lambda _s, _i, label: label in unseen


def _check_split(split: SplitSpec, metadata: Mapping[str, Any]) -> list[str]:
  try:
    counts = video_rule(split, metadata)
  except ValueError as e:
    return [str(e)]
  problems = []
  rows = select_videos(split, metadata)
  videos = metadata['videos']
  present = {videos[s]['label'][row] for s in rows for row in rows[s]}
  absent = sorted(set(split.unseen) - present)
  if split.seen:
    trained = {label for c in videos.values() for label in c['label']}
    absent += sorted(set(split.seen) - trained)
  if absent:
    problems.append(
      f'{len(absent)} classes without a video: {", ".join(absent[:10])}'
      + (' ...' if len(absent) > 10 else '')
    )
  found = sum(map(len, rows.values()))
  if split.num_videos is not None and found != split.num_videos:
    lost = {
      what: sum(counts(v['split'], v['id'], v['label']) for v in metadata[what])
      for what in ('unreadable', 'missing')
    }
    problems.append(
      f'{found} videos, expected {split.num_videos} '
      f'({lost["unreadable"]} unreadable, {lost["missing"]} missing)'
    )
  if split.list_digest:
    name = split.videos.partition(':')[2]
    digest = list_digest(metadata['lists'][name])
    if digest != split.list_digest:
      problems.append(
        f'the list {name!r} has the digest {digest}, expected '
        f'{split.list_digest}: it is not the official one'
      )
  return problems
