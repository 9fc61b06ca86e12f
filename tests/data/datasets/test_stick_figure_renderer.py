import io

import av
import numpy as np
import pytest

from zsar_jax.data.datasets import records
from zsar_jax.data.datasets import stick_figure_nuisance as nuisances
from zsar_jax.data.datasets import stick_figure_renderer as renderer

SIZE = 64
CANONICAL = nuisances.draw_nuisance(0, 0.0)


def _action(verb, place, manner='quickly'):
  return {'verb': verb, 'place': place, 'manner': manner}


def _decode(video):
  with av.open(io.BytesIO(video)) as container:
    frames = [f.to_ndarray(format='rgb24') for f in container.decode(video=0)]
    stream = container.streams.video[0]
    # Read while the container is open: later PyAV may refuse.
    facts = {
      'codec': stream.codec_context.name,
      'rate': stream.average_rate,
      'comment': container.metadata['comment'],
    }
    return np.stack(frames), facts


def _figure_mask(frames):
  """Pixels of the (bright) canonical figure, [f h w]."""
  return frames.mean(axis=-1) > 255 * 0.5


@pytest.mark.parametrize('verb', ['waving', 'raising', 'lowering', 'swinging'])
def test_the_left_arm_is_on_the_images_right(verb):
  for place, half in (('the left arm', 1), ('the right arm', 0)):
    frames = renderer.draw_frames(_action(verb, place), CANONICAL, SIZE)
    change = np.ptp(frames.astype(np.float32), axis=0).mean(axis=-1)
    halves = change[:, : SIZE // 2].sum(), change[:, SIZE // 2 :].sum()
    assert halves[half] > 4 * halves[1 - half]


@pytest.mark.parametrize('verb', ['walking', 'hopping'])
def test_to_the_left_is_towards_the_images_right(verb):
  for place, sign in (('to the left', 1), ('to the right', -1)):
    frames = renderer.draw_frames(_action(verb, place), CANONICAL, SIZE)
    columns = _figure_mask(frames).sum(axis=1)
    x = columns @ np.arange(SIZE) / columns.sum(axis=1)
    assert sign * (x[-1] - x[0]) > 0.3 * SIZE


def test_face_is_drawn_on_the_head():
  frame = renderer.draw_frames(_action('waving', 'both arms'), CANONICAL, SIZE)[
    0
  ]
  column = frame[:, SIZE // 2 - 1].mean(axis=-1)
  head = column[np.argmax(column > 128) :][:8]
  assert head.min() < 140 < 180 < head.max()


def test_drift_moves_background_and_figure_together():
  nuisance = max(
    (nuisances.draw_nuisance(seed) for seed in range(50)),
    key=lambda n: abs(n.drift_x),
  )
  frames = renderer.draw_frames(
    _action('raising', 'the left arm'), nuisance, SIZE
  ).astype(np.float32)
  # The arm aside, the last frame is the first one moved by whole pixels.
  seconds = nuisance.times()[-1]
  dx = round(nuisance.drift_x * seconds * SIZE)
  dy = round(nuisance.drift_y * seconds * SIZE)
  assert abs(dx) >= 2
  moved = np.roll(frames[0], (dy, dx), axis=(0, 1))
  inner = (slice(6, -6), slice(6, -6))
  assert np.median(np.abs(frames[-1] - moved)[inner]) < 3
  still = np.abs(frames[-1] - frames[0])[inner].mean()
  assert np.abs(frames[-1] - moved)[inner].mean() < still


def test_video_decodes_to_what_was_drawn():
  nuisance = nuisances.draw_nuisance(3)
  action = _action('walking', 'in place')
  drawn = renderer.draw_frames(action, nuisance, SIZE)
  video = renderer.render_clip(action, nuisance, SIZE)
  decoded, facts = _decode(video)
  assert decoded.shape == drawn.shape == (nuisance.num_frames, SIZE, SIZE, 3)
  assert np.abs(decoded.astype(int) - drawn).mean() < 6
  assert facts == {
    'codec': 'h264',
    'rate': nuisance.fps,
    'comment': records.RENDERED_TAG,
  }


def test_keyframes_are_close_together():
  video = renderer.render_clip(_action('waving', 'both arms'), CANONICAL, SIZE)
  with av.open(io.BytesIO(video)) as container:
    keys = [i for i, f in enumerate(container.decode(video=0)) if f.key_frame]
  assert keys[0] == 0
  assert np.diff(keys).max() <= 12


def test_rendering_twice_gives_the_same_bytes():
  nuisance = nuisances.draw_nuisance(11)
  action = _action('hopping', 'to the right', 'slowly')
  first, second = (
    renderer.render_clip(action, nuisance, SIZE) for _ in range(2)
  )
  assert first == second
