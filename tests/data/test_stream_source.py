"""Frames of cameras, pipes and growing files, read in a child process."""

import functools
import http.server
import os
import sys
import threading
import time

import cv2
import numpy as np
import pytest

from tests import videos
from tests.data.test_windows import prep
from zsar_jax.data import decode, stream_reader, stream_source, video_transforms

PREP = prep(size=24, short_side=32)


def write(path, n=40, **kwargs):
  return videos.write_video(path, videos.numbered_frames(n), **kwargs)


def read(where, patience=0.3):
  """(times, views) of a source."""
  source = stream_source.Source(stream_source.find(where), patience)
  with source:
    source.open()
    times, views = zip(*source.frames(PREP), strict=True)
  return list(times), np.stack(views)


def expected(path):
  shown, info = decode.decode_all(path, path)
  views = [video_transforms.middle_view(frame, PREP) for frame in shown]
  return info.timestamps.tolist(), np.stack(views)


def assert_same(a, b):
  assert a[0] == b[0]
  np.testing.assert_array_equal(a[1], b[1])


@pytest.mark.parametrize('suffix', ['mp4', 'mkv', 'ts', 'webm', 'avi'])
def test_a_file_gives_the_frames_that_decoding_gives(tmp_path, suffix):
  codec = {'webm': 'libvpx', 'avi': 'mpeg4'}.get(suffix, 'libx264')
  path = write(tmp_path / f'v.{suffix}', codec=codec, b_frames=0)
  assert_same(read(path), expected(path))


@pytest.mark.parametrize(
  'name', ['decord_video_90.mov', 'torchcodec_h264_10bits.mp4']
)
def test_a_real_file_too(test_data, name):
  path = test_data / 'clips' / name
  if not path.exists():
    pytest.skip(f'{test_data} has no clips/{name}')
  assert_same(read(str(path)), expected(str(path)))


def test_times_and_rotation_are_those_of_the_file(tmp_path):
  times = np.cumsum(np.random.default_rng(0).integers(20, 300, 30)) / 1000
  path = write(tmp_path / 'v.mp4', 30, times=times, rotation=90)
  assert_same(read(path), expected(path))


@pytest.fixture
def stdin(monkeypatch):
  """Makes what a test writes the standard input."""
  reader, writer = os.pipe()
  before = os.dup(0)
  os.dup2(reader, 0)
  os.close(reader)
  monkeypatch.setattr(sys, 'stdin', open(0, closefd=False))
  yield open(writer, 'wb')
  os.dup2(before, 0)
  os.close(before)


def feed(pipe, content):
  def work():
    with pipe:
      pipe.write(content)

  threading.Thread(target=work, daemon=True).start()


def test_a_pipe(stdin, tmp_path):
  path = write(tmp_path / 'v.ts', 200, b_frames=2)
  with open(path, 'rb') as f:
    feed(stdin, f.read())
  # More frames than wait at a time: the pipe has to wait, and loses none.
  assert_same(read('-'), expected(path))


def test_a_named_pipe(tmp_path):
  path, fifo = write(tmp_path / 'v.mkv'), str(tmp_path / 'fifo')
  os.mkfifo(fifo)
  threading.Thread(
    target=lambda: open(fifo, 'wb').write(open(path, 'rb').read()), daemon=True
  ).start()
  assert_same(read(fifo), expected(path))


@pytest.mark.parametrize(
  'content, message',
  [
    (b'', r'standard input: is empty \(0 bytes\)'),
    (b'no video ' * 999, 'standard input: is not a video.* be rewound'),
  ],
)
def test_a_pipe_without_a_video(stdin, content, message):
  feed(stdin, content)
  with pytest.raises(decode.VideoError, match=message):
    read('-')


def test_an_mp4_with_its_index_at_the_end_in_a_pipe(stdin, tmp_path):
  # Long enough that FFmpeg cannot keep its beginning.
  noise = np.random.default_rng(0).integers(0, 255, (40, 96, 128, 3), np.uint8)
  path = videos.write_video(tmp_path / 'v.mp4', noise)
  with open(path, 'rb') as f:
    feed(stdin, f.read())
  with pytest.raises(decode.VideoError, match='is damaged .*be rewound'):
    read('-')


def test_an_address(tmp_path):
  path = write(tmp_path / 'v.ts', 150)
  serve = functools.partial(
    http.server.SimpleHTTPRequestHandler, directory=str(tmp_path)
  )
  with http.server.ThreadingHTTPServer(('127.0.0.1', 0), serve) as server:
    threading.Thread(target=server.serve_forever, daemon=True).start()
    where = f'http://127.0.0.1:{server.server_port}/v.ts'
    assert_same(read(where), expected(path))
    server.shutdown()


def test_a_file_that_grows(tmp_path):
  path, growing = write(tmp_path / 'v.mkv', 90), str(tmp_path / 'growing.mkv')
  content = open(path, 'rb').read()
  with open(growing, 'wb') as f:
    f.write(content[:100])

  def grow():
    with open(growing, 'ab') as f:
      for first in range(100, len(content), len(content) // 8):
        f.write(content[first : first + len(content) // 8])
        f.flush()
        time.sleep(0.1)

  thread = threading.Thread(target=grow)
  thread.start()
  assert_same(read(growing, patience=1.0), expected(path))
  thread.join()


def test_damage_in_the_middle_is_a_gap(tmp_path):
  path = write(tmp_path / 'v.ts', 90, b_frames=0)
  content = bytearray(open(path, 'rb').read())
  middle = len(content) // 2 // 188 * 188
  content[middle : middle + 188 * 8] = os.urandom(188 * 8)
  open(path, 'wb').write(content)
  times, _ = read(path)
  assert 60 < len(times) and times == sorted(times)


def test_a_frame_size_that_changes(tmp_path):
  path = str(tmp_path / 'v.ts')
  with open(path, 'wb') as f:
    for size in (48, 64):
      frames = videos.numbered_frames(20, size)
      part = videos.write_video(tmp_path / 'part.ts', frames)
      f.write(open(part, 'rb').read())
  with pytest.raises(decode.VideoError, match='from 64x48 to 64x64'):
    read(path)


def test_what_is_not_there_or_no_video(tmp_path, monkeypatch):
  text = tmp_path / 'text.mp4'
  text.write_text('no video ' * 99)
  cut = tmp_path / 'cut.mp4'
  noise = np.random.default_rng(0).integers(0, 255, (9, 48, 64, 3), np.uint8)
  whole = open(videos.write_video(tmp_path / 'v.mp4', noise), 'rb').read()
  cut.write_bytes(whole[:-2000])
  empty = tmp_path / 'empty.ts'
  empty.write_bytes(b'')
  for path, message in (
    (text, 'text.mp4: is not a video'),
    (cut, 'cut.mp4: is not a video.* when it is whole'),
    (empty, r'empty.ts: is empty \(0 bytes\)'),
  ):
    with pytest.raises(decode.VideoError, match=message):
      read(str(path))
  for where, error, message in (
    ('camera:97', FileNotFoundError, 'no camera camera:97: '),
    ('/dev/video97', FileNotFoundError, 'no camera /dev/video97: '),
    (str(tmp_path / 'none.mp4'), FileNotFoundError, 'expected camera:0'),
    (str(tmp_path), ValueError, 'is a folder'),
    ('file:///etc/passwd', ValueError, 'expected one of rtsp'),
  ):
    with pytest.raises(error, match=message):
      stream_source.find(where)
  monkeypatch.setattr(sys, 'stdin', None)
  with pytest.raises(ValueError, match='nothing is piped'):
    stream_source.find('-')
  with pytest.raises(decode.VideoError, match='cannot be opened .*refused'):
    read('tcp://127.0.0.1:9')
  found = stream_source.find('rtsp://user:secret@host/path')
  assert found.name == 'rtsp://host/path' and found.is_live
  assert not stream_source.find('http://host/v.ts').is_live


def test_a_request_to_stop_ends_a_silent_pipe(stdin):
  source = stream_source.Source(stream_source.find('-'))
  with source:
    threading.Timer(0.3, source.stop).start()
    source.open()
    assert list(source.frames(PREP)) == []
  stdin.close()


class Camera:
  """What OpenCV gives of a camera: frames, one that fails, then nothing."""

  def __init__(self, device):
    self.device, self.left = device, 5

  def isOpened(self):
    return self.device == 0

  def read(self):
    self.left -= 1
    if self.left in (3, -1) or self.left < -1:
      return False, None
    return True, np.full((30, 40, 3), (250, 0, self.left), np.uint8)


def test_a_camera(monkeypatch):
  monkeypatch.setattr(cv2, 'VideoCapture', Camera)
  monkeypatch.setattr(stream_reader, '_PAUSE', 0.0)
  frames = stream_reader._camera('0', 'camera:0')
  seen = [next(frames) for _ in range(4)]
  assert [t for t, _ in seen] == sorted(t for t, _ in seen)
  # RGB, not BGR.
  assert [tuple(rgb[0, 0]) for _, rgb in seen] == [
    (left, 0, 250) for left in (4, 2, 1, 0)
  ]
  with pytest.raises(decode.VideoError, match='camera:0: has stopped'):
    next(frames)
  with pytest.raises(decode.VideoError, match='does no other program use it'):
    next(stream_reader._camera('/dev/video1', 'v'))


def test_what_does_not_wait_is_forgotten():
  begin, frame = threading.Event(), np.zeros((32, 32, 3), np.uint8)

  def frames():
    yield 0.0, frame  # before the preprocessing is known
    begin.wait(10)
    yield from ((float(i), frame) for i in range(1, 500))

  reader = stream_reader._Reader(frames(), drops=True)
  reader.wait(10)
  assert reader.take(PREP, 0) == ([], False)
  begin.set()
  while not reader._ended:
    time.sleep(0.01)
  taken, _ = reader.take(PREP, 1)
  assert [t for t, _ in taken] == list(range(436, 500))
  assert reader.take(PREP, 1) == ([], True)


def test_a_camera_that_falls_silent(monkeypatch):
  found = stream_source.Found('camera', '0', 'camera:0')
  with stream_source.Source(found, patience=0.1) as source:
    answer = {'times': [], 'ended': False}, []
    monkeypatch.setattr(source._pool, 'run', lambda *a, **k: answer)
    with pytest.raises(decode.VideoError, match='has given no frame for 0.1 s'):
      list(source.frames(PREP))
