"""Small copies of the public datasets' folders, with real video files."""

import json
import pathlib
import tempfile

from tests import videos
from zsar_jax.data import decode

_cache: dict[str, bytes] = {}


def video_bytes(suffix: str, seconds: int = 1) -> bytes:
  """A short video in the format that such files have."""
  key = suffix, seconds
  if key not in _cache:
    with tempfile.TemporaryDirectory() as folder:
      path = pathlib.Path(folder) / f'video{suffix}'
      codec = {'.avi': 'mpeg4', '.webm': 'libvpx-vp9'}.get(suffix, 'libx264')
      videos.write_video(
        path, videos.numbered_frames(6 * seconds), fps=6, codec=codec
      )
      _cache[key] = path.read_bytes()
  return _cache[key]


def put_video(path, *, damaged=False, seconds=1):
  """Writes a video; a damaged one is cut off after its first bytes."""
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  content = video_bytes(path.suffix, seconds)
  path.write_bytes(content[: 200 if damaged else None])
  return path


def is_readable(path) -> bool:
  """Whether a video can be decoded."""
  try:
    decode.check_video(str(path), 'video')
  except decode.VideoError:
    return False
  return True


def write_json(path, content):
  """Writes a JSON file as the official ones are: in one line."""
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(json.dumps(content, separators=(',', ':')))
  return path
