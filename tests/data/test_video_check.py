import pickle

import av
import numpy as np
import pytest

from tests import videos
from zsar_jax.data import decode

NUM_FRAMES = 40


def read(path):
  with open(path, 'rb') as f:
    return f.read()


def bad_files(folder):
  """Path -> words its error must hold."""
  frames = videos.numbered_frames(NUM_FRAMES)
  noise = np.random.default_rng(0).integers(
    0, 256, (NUM_FRAMES, 48, 64, 3), np.uint8
  )
  good = read(videos.write_video(folder / 'noise.mp4', noise))
  mkv = read(videos.write_video(folder / 'noise.mkv', noise))
  avi = read(videos.write_video(folder / 'noise.avi', noise, codec='mpeg4'))
  single = videos.write_video(folder / 'single.mp4', frames[:1])
  contents = {
    'empty.mp4': (b'', r'empty \(0 bytes\)'),
    'text.mp4': (b'hello, this is no video\n' * 50, 'not a video'),
    'zeros.mp4': (bytes(5000), 'not a video'),
    'index_cut_off.mp4': (good[: len(good) // 2], 'cut off'),
    'half.mkv': (mkv[: len(mkv) // 2], 'cut off|damaged'),
    'half.avi': (avi[: len(avi) // 2], 'cut off|damaged'),
    # The index lies at the end and stays whole; the frames do not.
    'middle_lost.mp4': (
      good[:2000] + bytes(len(good) - 6000) + good[-4000:],
      'damaged',
    ),
  }
  result = {single: 'has 1 frame; an action needs at least 2'}
  for name, (content, words) in contents.items():
    (folder / name).write_bytes(content)
    result[str(folder / name)] = words
  result[str(folder / 'nowhere.mp4')] = 'does not exist'
  result[str(folder)] = 'is not a file'
  result[write_audio(folder / 'sound.wav')] = 'no video stream'
  return result


def write_audio(path):
  with av.open(str(path), 'w') as container:
    stream = container.add_stream('pcm_s16le', rate=8000)
    frame = av.AudioFrame.from_ndarray(
      np.zeros((1, 8000), np.int16), format='s16', layout='mono'
    )
    frame.sample_rate = 8000
    container.mux(stream.encode(frame))
    container.mux(stream.encode())
  return str(path)


def test_bad_files_say_why(tmp_path, capfd):
  for path, words in bad_files(tmp_path).items():
    with pytest.raises(decode.VideoError, match=words) as error:
      decode.check_video(path, 'sub/clip.mp4')
    assert str(error.value).startswith('sub/clip.mp4: ')
  assert capfd.readouterr().err == ''  # FFmpeg keeps quiet.


def test_error_survives_pickling():
  error = pickle.loads(pickle.dumps(decode.VideoError('a.mp4', 'is empty')))
  assert (error.name, error.reason) == ('a.mp4', 'is empty')
  assert str(error) == 'a.mp4: is empty'
