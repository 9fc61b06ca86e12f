import pickle

import av
import numpy as np
import PIL.features
import PIL.Image
import pytest

from tests import videos
from zsar_jax.data import decode, video_check, video_file

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


def animate(path, format):
  """Writes ten flat frames as an animated picture."""
  frames = [PIL.Image.fromarray(x) for x in videos.numbered_frames(10)]
  frames[0].save(
    path, format, save_all=True, append_images=frames[1:], duration=100
  )
  return str(path)


def test_what_ffmpeg_cannot_read_is_not_called_damaged(tmp_path):
  path = animate(tmp_path / 'a.webp', 'WEBP')
  content = read(path)
  for video in (path, content, content[: len(content) // 2]):
    if 'webp_anim' in av.formats_available:
      pytest.skip('this FFmpeg reads animated WebP')
    with pytest.raises(decode.VideoError) as error:
      decode.check_video(video, 'a.webp')
    assert str(error.value) == (
      'a.webp: cannot be read by this FFmpeg (animated WebP); convert it, for '
      'example to MP4'
    )
    with pytest.raises(decode.VideoError, match='cannot be read by this FF'):
      decode.decode_frames(video, np.zeros(1, int), 'a.webp')


def test_damaged_pictures_are_called_damaged_still(tmp_path):
  still = tmp_path / 'still.webp'
  PIL.Image.fromarray(videos.numbered_frames(1)[0]).save(still)
  content = read(still)
  spoilt = content[:20] + bytes(len(content) - 20)
  with pytest.raises(decode.VideoError, match='damaged'):
    decode.check_video(spoilt, 'still.webp')
  # Another chunk of a picture that does not move.
  assert not video_file._is_animated_webp(content)


def test_a_format_without_a_decoder_is_named_so():
  # JPEG XL; PyAV comes without libjxl.
  if 'libjxl' in av.codecs_available:
    pytest.skip('this FFmpeg reads JPEG XL')
  picture = b'\0\0\0\x0cJXL \r\n\x87\n' + bytes(200)
  with pytest.raises(
    decode.VideoError, match=r'this FFmpeg \(no decoder for its video codec\)'
  ):
    decode.check_video(picture, 'a.jxl')


@pytest.mark.parametrize(
  'error', ['PatchWelcomeError', 'DecoderNotFoundError', 'DemuxerNotFoundError']
)
def test_what_ffmpeg_lacks_is_not_damage(tmp_path, monkeypatch, error):
  error = getattr(av.error, error)(1, 'Not yet implemented in FFmpeg')
  path = videos.write_video(tmp_path / 'a.mp4', videos.numbered_frames(3))

  def fail(*args, **kwargs):
    raise error

  words = r'this FFmpeg \(Not yet implemented in FFmpeg\)'
  with monkeypatch.context() as patch:
    patch.setattr(video_check, 'decode_on', fail)
    with pytest.raises(decode.VideoError, match=words):
      decode.check_video(path, 'a.mp4')
  monkeypatch.setattr(av, 'open', fail)
  with pytest.raises(decode.VideoError, match=words):
    decode.check_video(path, 'a.mp4')


def test_the_first_picture_of_an_animation_is_not_its_video(tmp_path):
  if not PIL.features.check('avif'):
    pytest.skip('Pillow writes no AVIF')
  path = animate(tmp_path / 'a.avif', 'AVIF')
  assert len(decode.check_video(path, path).timestamps) == 10
  frames = decode.decode_frames(path, np.arange(10), path)
  assert videos.frame_numbers(frames) == list(range(10))


def test_error_survives_pickling():
  error = pickle.loads(pickle.dumps(decode.VideoError('a.mp4', 'is empty')))
  assert (error.name, error.reason) == ('a.mp4', 'is empty')
  assert str(error) == 'a.mp4: is empty'
