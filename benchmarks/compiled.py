"""Counts the bytes that a compiled program's collectives send.

A collective inside a loop counts as often as the loop runs. The bytes are those
that a device sends in a ring over the n devices of a group. B is the size of
the whole array, before scattering or after gathering:

  all-reduce          2 B (n - 1) / n
  all-gather          B (n - 1) / n
  reduce-scatter      B (n - 1) / n
  all-to-all          B (n - 1) / n
  collective-permute  B

An all-reduce whose fusion keeps only a slice (all-reduce-scatter on TPU) counts
as a reduce-scatter.
"""

import collections
import dataclasses
import math
import re

_BYTES = {
  'pred': 1,
  's8': 1,
  'u8': 1,
  'bf16': 2,
  'f16': 2,
  's16': 2,
  'u16': 2,
  's32': 4,
  'u32': 4,
  'f32': 4,
  's64': 8,
  'u64': 8,
  'f64': 8,
}
_KINDS = (
  'all-reduce',
  'all-gather',
  'reduce-scatter',
  'all-to-all',
  'collective-permute',
)
_COMPUTATION = re.compile(r'^(?:ENTRY )?%?([\w.\-]+) \(.*\{\s*$')
_COLLECTIVE = re.compile(r'= (.*?) (' + '|'.join(_KINDS) + r')(-start)?\(')
_ARRAY = re.compile(r'(\w+)\[([\d,]*)\]')
_WHILE = re.compile(r' while\(.*condition=%?([\w.\-]+), body=%?([\w.\-]+)')
_CALLED = re.compile(
  r'(?:calls|to_apply|async_execution_thread|true_computation|'
  r'false_computation)=%?([\w.\-]+)'
)
_TRIPS = re.compile(r'known_trip_count[^\d]*(\d+)')
_CONSTANT = re.compile(r'constant\((\d+)\)')


@dataclasses.dataclass(frozen=True)
class Collective:
  """One collective of a program.

  Attributes:
    kind: one of the five above.
    times: number of times that it runs.
    array_bytes: bytes of the whole array, each time.
    group: number of devices that take part.
    computation: name of its loop body or function.
  """

  kind: str
  times: int
  array_bytes: int
  group: int
  computation: str

  @property
  def sent_bytes(self) -> float:
    """Bytes that each device sends, over all times."""
    if self.kind == 'collective-permute':
      return float(self.times * self.array_bytes)
    factor = 2 if self.kind == 'all-reduce' else 1
    share = (self.group - 1) / self.group
    return self.times * factor * self.array_bytes * share


_OFTEN = Collective('', 2**62, 0, 2, '')


def _computations(text: str) -> dict[str, list[str]]:
  bodies, name = {}, ''
  for line in text.splitlines():
    found = _COMPUTATION.match(line)
    if found:
      name = found.group(1)
      bodies[name] = []
    elif name:
      bodies[name].append(line)
  return bodies


def _entry(text: str) -> str:
  return re.search(r'^ENTRY %?([\w.\-]+)', text, re.M).group(1)


def _sizes(shape: str) -> list[int]:
  return [
    _BYTES[kind] * math.prod(int(n) for n in dims.split(',') if n)
    for kind, dims in _ARRAY.findall(shape)
    if kind in _BYTES
  ]


def _group_size(line: str) -> int:
  """Returns the devices per group, in any of XLA's three notations."""
  iota = re.search(r'replica_groups=\[(\d+),(\d+)\]', line)
  if iota:
    return int(iota.group(2))
  listed = re.search(r'replica_groups=\{\{([\d,]*)\}', line)
  if listed:
    return len(listed.group(1).split(','))
  # mesh['x'=4,'y'=2], device_ids=(...) {'y'}: those along y; a part of an
  # axis is 'x':(2)4.
  mesh = re.search(r"replica_groups=mesh\[([^\]]*)\].*?\{(['][^}]*)\}", line)
  if mesh:
    sizes = dict(re.findall(r"'([^']+)'=(\d+)", mesh.group(1)))
    parts = re.findall(r"'([^']+)'(?::\(\d+\)(\d+))?", mesh.group(2))
    return math.prod(int(part or sizes[axis]) for axis, part in parts)
  raise ValueError(f'a collective of unknown groups: {line.strip()[:300]}')


def _trips(line: str, bodies: dict[str, list[str]], condition: str) -> int:
  known = _TRIPS.search(line)
  if known:
    return int(known.group(1))
  limits = [
    int(n) for row in bodies.get(condition, []) for n in _CONSTANT.findall(row)
  ]
  if not limits:
    raise ValueError(f'a loop of unknown length: {line.strip()[:200]}')
  return max(limits)


def _times(text: str, bodies: dict[str, list[str]]) -> dict[str, int]:
  """Returns how often each computation runs."""
  times = collections.Counter({_entry(text): 1})
  todo = [_entry(text)]
  while todo:
    name = todo.pop()
    for line in bodies.get(name, []):
      loop = _WHILE.search(line)
      if loop:
        called = {loop.group(2): _trips(line, bodies, loop.group(1))}
      else:
        called = dict.fromkeys(_CALLED.findall(line), 1)
      for other, trips in called.items():
        # Not the sum over callers: an asynchronous computation has callers at
        # its start, update and end, but runs once.
        if other in bodies and times[other] < times[name] * trips:
          times[other] = times[name] * trips
          todo.append(other)
  return times


def collectives(text: str) -> list[Collective]:
  """Returns the collectives of a compiled program.

  Args:
    text: text of the program, from `compiled.as_text()`.

  Returns:
    The collectives of more than one device.

  Raises:
    ValueError: the length of a loop is unknown.
  """
  bodies = _computations(text)
  times = _times(text, bodies)
  found, channels = [], {}
  for name, lines in bodies.items():
    scatters = 'all-reduce-scatter' in name
    for line in lines:
      match = _COLLECTIVE.search(line)
      if not match or not times[name]:
        continue
      shape, kind, start = match.groups()
      sizes = _sizes(shape)
      permutes = kind == 'collective-permute'
      group = 2 if permutes else _group_size(line)
      if kind == 'all-reduce':
        size = sum(sizes)
        kind = 'reduce-scatter' if scatters else kind
      elif kind == 'reduce-scatter':
        size = sum(sizes) * group
      elif start:
        # A tuple: input, output and perhaps counters.
        size = max(sizes)
      else:
        size = sum(sizes)
      if group == 1:
        continue
      collective = Collective(kind, times[name], size, group, name)
      channel = re.search(r'channel_id=(\d+)', line)
      if channel is None:
        found.append(collective)
      # TPU spreads one exchange over many fusions of its channel, some in
      # loops. It runs as often as it is started.
      elif collective.times < channels.get(channel[1], _OFTEN).times:
        channels[channel[1]] = collective
  return found + list(channels.values())


def sent_by_kind(found: list[Collective]) -> dict[str, float]:
  """Returns kind -> bytes that each device sends."""
  total = collections.Counter()
  for collective in found:
    total[collective.kind] += collective.sent_bytes
  return dict(total)
