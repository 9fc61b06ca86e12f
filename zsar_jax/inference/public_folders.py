"""Reads and writes a folder that names the public weights of a bank.

`encoders.json` holds the places and digests of both sides' weights. The weights
are not copied. So the folder is small, and does not redistribute them.
`descriptions.json` holds descriptions of classes, if there are any.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import json
import os
from typing import Any

from zsar_jax.data import class_descriptions
from zsar_jax.inference import public_encoders, public_sides
from zsar_jax.pretrained import hub, i3d
from zsar_jax.system import json_files

FILE, DESCRIPTIONS_FILE = 'encoders.json', 'descriptions.json'
DESCRIPTION_WEIGHT = 'description_weight'
# Folders of earlier versions lack it. Their digest of the text side says
# nothing of pooling.
_POOLING = 'text_pooling'
_KEYS = ('video', 'text', 'video_digest', 'text_digest', 'prompts')


def is_public(folder: str) -> bool:
  """Returns whether a folder names public weights."""
  return os.path.isfile(os.path.join(folder, FILE))


def has_descriptions(folder: str) -> bool:
  """Returns whether a public folder comes with descriptions of classes."""
  return DESCRIPTION_WEIGHT in _read(folder)


def open_sides(
  video: str,
  text: str,
  num_frames: int = 0,
  prompts: tuple[str, ...] = (),
  dtype: str = 'float32',
) -> public_encoders.PublicEncoders:
  """Reads both sides; see `public_sides`.

  Args:
    video: weights of the video side: a folder, an id of the Hub, or 'i3d'.
    text: weights of the text side: a folder or an id of the Hub.
    num_frames: frames per clip; 0 takes the weights' own.
    prompts: prompts for class names; () takes this project's.
    dtype: computation dtype of the video side. Names are embedded once, in
      float32.

  Returns:
    The encoders.

  Raises:
    FileNotFoundError, OSError: see `public_sides`.
    ValueError: see `public_sides`; or the sides have different joint spaces.
  """
  of_video = public_sides.open_video(video, num_frames, dtype)
  of_text = public_sides.open_text(text, prompts)
  spaces = of_video.space, of_text.space
  if all(spaces) and spaces[0] != spaces[1]:
    raise ValueError(
      f'{video} and {text} have different joint spaces: videos of one cannot '
      'be compared with names of the other. Give the same weights for both '
      'sides, or a text encoder without a video side, such as a MiniLM'
    )
  return public_encoders.PublicEncoders(of_video, of_text)


def open_dual(
  weights: str, dtype: str = 'float32'
) -> public_encoders.PublicEncoders:
  """Reads both sides of weights with a joint space.

  Args:
    weights: see `public_sides`.
    dtype: see `open_sides`.

  Returns:
    The encoders.

  Raises:
    FileNotFoundError: see `public_sides`.
    OSError: see `public_sides`.
    ValueError: see `public_sides`; or the weights have no text side.
  """
  video = public_sides.open_video(weights, dtype=dtype)
  if not video.space:
    raise ValueError(
      f'{weights} has no text side: build a bank with `zsar bank '
      f'build --video={weights} --text=TEXT_WEIGHTS --output=FOLDER`, and give '
      'it as --workdir'
    )
  return public_encoders.PublicEncoders(video, public_sides.open_text(weights))


def describe(
  encoders: public_encoders.PublicEncoders,
  descriptions: Mapping[str, Sequence[str]],
  weight: float = public_sides.DESCRIPTION_WEIGHT,
) -> public_encoders.PublicEncoders:
  """Gives encoders the descriptions that a bank is built with.

  Args:
    encoders: of both sides.
    descriptions: canonical class name -> sentences.
    weight: see `class_texts.ClassTexts`.

  Returns:
    The encoders, with a `weights_hash` of their own.
  """
  text = encoders.text.described(descriptions, weight)
  return public_encoders.PublicEncoders(encoders.video, text)


def write(folder: str, encoders: public_encoders.PublicEncoders) -> None:
  """Writes the places and digests of the weights.

  Args:
    folder: folder to write; made if missing.
    encoders: the encoders.
  """
  os.makedirs(folder, exist_ok=True)
  content = {
    'video': _absolute(encoders.video.source),
    'text': _absolute(encoders.text.source),
    'video_digest': encoders.video.digest,
    'text_digest': encoders.text.digest,
    'num_frames': encoders.prep.num_frames,
    'dtype': encoders.video.dtype,
    'prompts': list(encoders.texts.templates),
    _POOLING: encoders.text.pooling,
  }
  described = encoders.texts.descriptions
  if described:
    content[DESCRIPTION_WEIGHT] = encoders.texts.description_weight
    _write_json(os.path.join(folder, DESCRIPTIONS_FILE), described)
  _write_json(os.path.join(folder, FILE), content)


def _write_json(path: str, content: Mapping[str, Any]) -> None:
  with open(path, 'w', encoding='utf-8') as f:
    json.dump(content, f, indent=1, ensure_ascii=False)
    f.write('\n')


def local_weights(encoders: public_encoders.PublicEncoders) -> list[str]:
  """Returns the weights that are only on this machine, as flags."""
  return [
    f'--{name}={side.source}'
    for name, side in (('video', encoders.video), ('text', encoders.text))
    if is_local(side.source)
  ]


def is_local(source: str) -> bool:
  """Returns whether weights are a file or folder of this machine."""
  return source != i3d.NAME and os.path.exists(os.path.expanduser(source))


def check_shared(folder: str, source: str) -> None:
  """Refuses a folder of others that names weights by a path.

  Args:
    folder: that `is_public`.
    source: where it came from, for the message.

  Raises:
    ValueError: the weights are neither on the Hub nor come with a package.
  """
  content = _read(folder)
  for side in ('video', 'text'):
    given = str(content[side])
    if not hub.is_id(given) and given != i3d.NAME:
      raise ValueError(
        f'{source}: {FILE} names {side} weights at {given!r}, a path of '
        'another machine: only weights of the Hub (hf:org/name) are shared'
      )


def _read(folder: str) -> dict[str, Any]:
  path = os.path.join(folder, FILE)
  content = json_files.read(path)
  if not isinstance(content, dict):
    raise ValueError(f'{path} is damaged: expected a JSON object')
  missing = [key for key in _KEYS if key not in content]
  if missing:
    raise ValueError(f'{path} lacks {missing}')
  wrong = [
    key
    for key, kind in (
      *((key, str) for key in _KEYS if key != 'prompts'),
      ('prompts', list),
      ('num_frames', int),
      ('dtype', str),
      (DESCRIPTION_WEIGHT, int | float),
    )
    if key in content and not isinstance(content[key], kind)
  ]
  if not wrong and not all(isinstance(x, str) for x in content['prompts']):
    wrong = ['prompts']
  if wrong:
    raise ValueError(f'{path}: the values of {wrong} are damaged')
  # 0 and absence mean the weights' own number.
  frames = content.get('num_frames', 0)
  if isinstance(frames, bool) or frames < 0:
    raise ValueError(
      f'{path}: num_frames is {frames!r}, expected a positive whole number'
    )
  return content


def _absolute(source: str) -> str:
  """Returns the absolute path of a folder; returns other names unchanged."""
  if not is_local(source):
    return source
  return os.path.abspath(os.path.expanduser(source))


def read(folder: str) -> public_encoders.PublicEncoders:
  """Reads the encoders that a folder names.

  Args:
    folder: folder that `write` wrote.

  Returns:
    The encoders.

  Raises:
    FileNotFoundError: the weights, or this revision of them, are not in their
      place any more; or the descriptions are gone.
    OSError: see `pretrained.hub.resolve`.
    ValueError: the file is damaged, or the weights have changed since.
  """
  path, content = os.path.join(folder, FILE), _read(folder)
  try:
    encoders = open_sides(
      content['video'],
      content['text'],
      content.get('num_frames', 0),
      tuple(content['prompts']),
      content.get('dtype', 'float32'),
    )
  except FileNotFoundError as e:
    raise FileNotFoundError(
      f'{e}. If the weights have moved, write their new place into {path}; if '
      'they are gone, build the bank again from others with `zsar bank build`'
    ) from e
  text = encoders.text
  if _POOLING not in content and content['text_digest'] == text.tensors_digest:
    text = dataclasses.replace(text, digest=text.tensors_digest)
    encoders = public_encoders.PublicEncoders(encoders.video, text)
  for side, digest in (
    ('video', encoders.video.digest),
    ('text', encoders.text.digest),
  ):
    if digest != content[f'{side}_digest']:
      raise ValueError(
        f'the weights {content[side]} have changed: {path} expects the digest '
        f'{content[f"{side}_digest"]}, found {digest}; build the bank again '
        'with `zsar bank build`'
      )
  if DESCRIPTION_WEIGHT in content:
    described = class_descriptions.read(os.path.join(folder, DESCRIPTIONS_FILE))
    encoders = describe(encoders, described, float(content[DESCRIPTION_WEIGHT]))
  return encoders
