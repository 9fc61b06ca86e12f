"""Example videos of a class, from files to directions.

No example is ever needed: a class is there by its name. See
`zeroshot.examples` for what a few of them change.
"""

from collections.abc import Iterable, Mapping, Sequence
import functools
import os

import numpy as np

from zsar_jax.data import class_names, decode, isolated, user_videos
from zsar_jax.inference import encoders, prototype_bank
from zsar_jax.system import terminal
from zsar_jax.zeroshot import examples


def read(
  recognizer: encoders.Recognizer, path: str
) -> user_videos.Views | Exception:
  """Returns the views that an encoder takes, or why a file gives none."""
  config = recognizer.config.zeroshot
  try:
    return user_videos.read_views(
      path, recognizer.prep, config.num_views, config.num_crops
    )
  except (decode.VideoError, OSError) as e:
    return e


def check(
  bank: prototype_bank.PrototypeBank | None,
  names: Sequence[str],
  videos: Mapping[str, Sequence[str | os.PathLike]],
) -> dict[str, list[str]]:
  """Refuses examples that cannot be, before any is read.

  Args:
    bank: of the classes; None without one.
    names: canonical names that may have examples.
    videos: name in any spelling -> paths.

  Returns:
    Canonical name -> paths, each once.

  Raises:
    ValueError: no mapping of lists of paths; no bank; a name that is none of
      the names, or a seen class; a class without a path.
  """
  if not isinstance(videos, Mapping):
    raise ValueError(
      f'videos: expected class name -> list of paths, got {videos!r}'
    )
  if not videos:
    return {}
  if bank is None:
    raise ValueError(
      'example videos need a prototype bank, and there is none: build one with '
      '`zsar bank build --video=WEIGHTS --text=WEIGHTS '
      '--dataset=DIR --output=FOLDER`'
    )
  canonical = class_names.canonical_names([*videos], 'videos')
  checked = {}
  for name, paths in zip(canonical, videos.values(), strict=True):
    if name in bank.seen_classes:
      raise ValueError(
        f'{name!r} is a seen class: its prototype is made of its training '
        'videos, and takes no examples'
      )
    if name not in names:
      raise ValueError(
        f'example videos of {name!r}, which is none of the names: '
        f'{", ".join(names)}'
      )
    if isinstance(paths, str | os.PathLike) or not isinstance(paths, Iterable):
      raise ValueError(
        f'the example videos of {name!r} must be in a list, got {paths!r}'
      )
    paths = [*paths]
    wrong = [p for p in paths if not isinstance(p, str | os.PathLike)]
    if wrong:
      raise ValueError(
        f'the example videos of {name!r} must be paths, got {wrong[0]!r}'
      )
    # A file counts once, however it is written.
    files = {os.path.realpath(path): os.fspath(path) for path in paths}
    checked[name] = [*files.values()]
    if not checked[name]:
      raise ValueError(f'{name!r} is given example videos, but no path')
  return checked


def directions(
  recognizer: encoders.Recognizer,
  bank: prototype_bank.PrototypeBank,
  videos: Mapping[str, Sequence[str]],
) -> dict[str, np.ndarray]:
  """Reads and encodes example videos.

  Args:
    recognizer: the encoders.
    bank: made by them.
    videos: canonical name -> paths, from `check`.

  Returns:
    Name -> float32 [n d]; see `examples.directions`.

  Raises:
    ValueError: a video cannot be used. The message names each of them, and
      nothing was encoded.
  """
  centre = centre_of(recognizer, bank)
  paths = [path for of_class in videos.values() for path in of_class]
  jobs = (functools.partial(read, recognizer, path) for path in paths)
  views = list(isolated.read_ahead(jobs, ahead=4))
  faults = [str(v) for v in views if isinstance(v, Exception)]
  if faults:
    raise ValueError(
      f'{len(faults)} of {len(paths)} example videos cannot be used, so none '
      'was taken:\n  ' + '\n  '.join(faults)
    )
  found, first = {}, 0
  for name, of_class in videos.items():
    # One shape for all batches: one program.
    embeddings = [
      recognizer.encode_videos(v.clips[None])[0]
      for v in views[first : first + len(of_class)]
    ]
    first += len(of_class)
    found[name] = examples.directions(np.concatenate(embeddings), centre)
    lost = [
      terminal.visible_name(path)
      for path, x in zip(of_class, found[name], strict=True)
      if not x.any()
    ]
    if lost:
      raise ValueError(
        f'nothing in {", ".join(lost)} tells it from other videos: its '
        'embedding is the mean of all classes'
      )
  return found


def centre_of(
  recognizer: encoders.Recognizer, bank: prototype_bank.PrototypeBank
) -> np.ndarray | None:
  """What is taken off example videos, as it was off a bank's prototypes.

  Videos of public encoders share a large part that says nothing of the class,
  and their prototypes lack it. Examples that had it would win every video. A
  classifier's columns do not say where it lies: most of it is in their span, so
  no projection takes it off.

  Args:
    recognizer: the encoders.
    bank: made by them.

  Returns:
    [d]; None where prototypes are means of videos as they are.

  Raises:
    ValueError: prototypes lack it, and the bank does not know it.
  """
  if bank.centre is None and recognizer.centred:
    raise ValueError(
      'the bank does not know the mean of all videos, which its prototypes '
      'lack, so it can take no example videos. Build it again with videos of '
      'any classes: `zsar bank build ... --dataset=DIR`, with '
      '--prototypes=classifier to keep its prototypes'
    )
  return bank.centre
