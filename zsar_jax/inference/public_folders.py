"""A folder that names the public weights of a bank.

`encoders.json` holds where the two sides' weights are, and their digests. The
weights stay where they are: a folder of a bank is small, and no licence is
passed on by it.
"""

import json
import os
from typing import Any

from zsar_jax.inference import public_encoders, public_sides
from zsar_jax.system import json_files

_FILE = 'encoders.json'
_KEYS = ('video', 'text', 'video_digest', 'text_digest', 'prompts')


def is_public(folder: str) -> bool:
  """Returns whether a folder names public weights."""
  return os.path.isfile(os.path.join(folder, _FILE))


def open_sides(
  video: str, text: str, num_frames: int = 0, prompts: tuple[str, ...] = ()
) -> public_encoders.PublicEncoders:
  """Reads both sides; see `public_sides`.

  Args:
    video: weights of the video side.
    text: weights of the text side.
    num_frames: frames of a clip; 0 for the weights' own.
    prompts: for class names; () for ours.

  Returns:
    The encoders.

  Raises:
    FileNotFoundError, ValueError: see `public_sides`.
  """
  return public_encoders.PublicEncoders(
    public_sides.open_video(video, num_frames),
    public_sides.open_text(text, prompts),
  )


def write(folder: str, encoders: public_encoders.PublicEncoders) -> None:
  """Writes where the weights are.

  Args:
    folder: made if missing.
    encoders: with both sides.
  """
  os.makedirs(folder, exist_ok=True)
  content = {
    'video': _absolute(encoders.video.source),
    'text': _absolute(encoders.text.source),
    'video_digest': encoders.video.digest,
    'text_digest': encoders.text.digest,
    'num_frames': encoders.prep.num_frames,
    'prompts': list(encoders.texts.templates),
  }
  with open(os.path.join(folder, _FILE), 'w') as f:
    json.dump(content, f, indent=1)
    f.write('\n')


def _absolute(source: str) -> str:
  """A folder's absolute path; a name that is no folder as it is."""
  path = os.path.expanduser(source)
  return os.path.abspath(path) if os.path.exists(path) else source


def read(folder: str) -> public_encoders.PublicEncoders:
  """Reads the encoders that a folder names.

  Args:
    folder: that `is_public`.

  Returns:
    The encoders.

  Raises:
    FileNotFoundError: the weights are not where they were.
    ValueError: a damaged file, or weights that have changed since.
  """
  path = os.path.join(folder, _FILE)
  content: dict[str, Any] = json_files.read(path)
  missing = [key for key in _KEYS if key not in content]
  if missing:
    raise ValueError(f'{path} lacks {missing}')
  encoders = open_sides(
    content['video'],
    content['text'],
    int(content.get('num_frames', 0)),
    tuple(content['prompts']),
  )
  for side, digest in (
    ('video', encoders.video.digest),
    ('text', encoders.text.digest),
  ):
    if digest != content[f'{side}_digest']:
      raise ValueError(
        f'the weights of {content[side]} have changed: {path} was made with '
        f'{content[f"{side}_digest"]}, there are {digest} now; build the bank '
        'again with `python -m zsar_jax.bank build`'
      )
  return encoders
