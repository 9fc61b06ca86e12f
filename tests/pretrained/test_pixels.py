import numpy as np
import pytest

from tests.pretrained import tiny_weights
from zsar_jax.data import preprocessing, video_transforms
from zsar_jax.models import pixel_ops
from zsar_jax.pretrained import directory, pixels

CROPPED = {'size': {'shortest_edge': 40}, 'crop_size': 32}
WHOLE = {'size': {'height': 32, 'width': 32}}
MEAN_STD = {
  'image_mean': [0.48, 0.46, 0.41],
  'image_std': [0.27, 0.26, 0.28],
}


def weights(kind='clip', **given):
  content = {k: v for k, v in {**MEAN_STD, **given}.items() if v is not None}
  return directory.Weights('here', {'model_type': kind}, content, {}, {})


@pytest.mark.parametrize('size', [40, {'shortest_edge': 40}])
@pytest.mark.parametrize('crop', [None, 32, {'height': 32, 'width': 32}])
def test_all_forms_of_sizes_are_understood(size, crop):
  assert pixels.read(weights(size=size, crop_size=crop), 32) == {
    'size': 32,
    'short_side': 40,
    'resize': 'bicubic',
    'crop': 'centre',
    'mean': (0.48, 0.46, 0.41),
    'std': (0.27, 0.26, 0.28),
  }


@pytest.mark.parametrize('size', [32, {'height': 32, 'width': 32}])
def test_without_a_crop_the_whole_frame_is_seen(size):
  found = pixels.read(weights('vit', size=size, resample=3), 32)
  assert (found['size'], found['short_side']) == (32, 32)
  assert (found['resize'], found['crop']) == ('bicubic', 'whole')


@pytest.mark.parametrize(
  'given, reason',
  [
    (dict(), "lacks 'size'"),
    ({**CROPPED, 'image_mean': None}, "missing or lacks 'image_mean'"),
    (dict(size={'longest_edge': 32}), "size={'longest_edge': 32} is not sup"),
    (dict(size=40, crop_size={'height': 32, 'width': 8}), 'crop_size=.* not s'),
    (dict(size=40, crop_size=24), 'crop_size 24 is not the image_size 32'),
    ({**WHOLE, 'size': 24, 'do_center_crop': False}, 'size 24 is not the im'),
    ({**CROPPED, 'resample': [2]}, r'resample=\[2\] is not one of \[2, 3\]'),
    (
      {**CROPPED, 'image_std': [0, 0, 0]},
      'image_std is .0, 0, 0., .* positive',
    ),
    ({**CROPPED, 'image_std': 0.5}, 'image_std is 0.5, expected a list of thr'),
    ({**CROPPED, 'image_mean': [0.5]}, r'image_mean is \[0.5\], expected a li'),
    ({**CROPPED, 'image_mean': [0, 'x', 0]}, 'image_mean is .* list of three'),
    ({**CROPPED, 'rescale_factor': 0}, 'rescale_factor is 0, expected a posi'),
    ({**CROPPED, 'do_resize': False}, 'do_resize is false'),
    ({**CROPPED, 'resample': 1}, r'resample=1 is not one of \[2, 3\]'),
    (dict(size={'height': 40, 'width': 40}), 'changing the aspect ratio'),
    (dict(size={'shortest_edge': 32}, do_center_crop=False), 'not be square'),
  ],
)
def test_what_does_not_fit_is_named(given, reason):
  with pytest.raises(ValueError, match=reason) as error:
    pixels.read(weights(**given), 32)
  assert 'here/preprocessor_config.json' in str(error.value)


def test_nothing_is_guessed():
  lone = directory.Weights('here', {'model_type': 'clip'}, {}, {}, {})
  with pytest.raises(FileNotFoundError, match='preprocessor_config.json is mi'):
    pixels.read(lone, 32)


def frame():
  """A photograph's kind of frame: smooth areas, edges and noise; wide."""
  rng = np.random.default_rng(0)
  y, x = np.mgrid[:91, :130]
  smooth = (
    120 + 80 * np.sin(x[..., None] / (9, 5, 7)) * np.cos(y / 11)[..., None]
  )
  smooth[30:60, 40:90] = (250, 10, 60)
  noisy = smooth + rng.normal(0, 12, smooth.shape)
  return noisy.clip(0, 255).astype(np.uint8)


def as_the_model_sees_it(image, found):
  """Our pixels float32 [h w 3] of a frame uint8."""
  prep = preprocessing.Preprocessing(
    **found,
    num_frames=1,
    sampling='uniform',
    frame_stride=1,
    sample_fps=30.0,
    inputs='rgb',
    token_length=8,
    vocabulary_hash='',
  )
  view = video_transforms.eval_views(video_transforms.shrink(image, prep), prep)
  return np.asarray(pixel_ops.to_inputs(view, prep.mean, prep.std))[0]


# Model type, processor, and its settings: those of public weights, but with
# small sizes.
PROCESSORS = [
  ('clip', 'CLIPImageProcessorPil', CROPPED),
  ('siglip', 'SiglipImageProcessorPil', WHOLE),
  ('siglip', 'SiglipImageProcessorPil', {**WHOLE, 'resample': 2}),
  ('timesformer', 'VideoMAEImageProcessorPil', CROPPED),
  ('videomae', 'VideoMAEImageProcessorPil', CROPPED),
  ('vit', 'ViTImageProcessorPil', WHOLE),
  ('vivit', 'VivitImageProcessor', CROPPED),
]


@pytest.mark.parametrize('kind, processor, given', PROCESSORS)
@pytest.mark.parametrize('upright', [False, True])
def test_pixels_are_those_of_the_models_own_processor(
  tmp_path, kind, processor, given, upright
):
  reason = 'parity with PyTorch needs the extra `parity`'
  transformers = pytest.importorskip('transformers', reason=reason)
  if not hasattr(transformers, processor):
    pytest.skip(f'this transformers has no {processor}')
  peer = getattr(transformers, processor)(**given)
  peer.save_pretrained(tmp_path)
  tiny_weights.write(tmp_path, {'model_type': kind}, {'x': np.ones(1)})
  found = pixels.read(directory.read_weights(str(tmp_path)), 32)
  image = frame().swapaxes(0, 1) if upright else frame()
  inputs = [[image]] if kind in ('videomae', 'timesformer', 'vivit') else image
  theirs = np.asarray(peer(inputs, return_tensors='np')['pixel_values'])
  theirs = theirs.reshape(3, 32, 32).transpose(1, 2, 0)
  ours = as_the_model_sees_it(image, found)
  levels = np.abs(ours - theirs) * 255 * np.asarray(found['std'])
  assert levels.max() < 1e-3
  # Averaging areas, as earlier versions did, is off by many levels.
  before = {**found, 'resize': 'area', 'crop': 'square'}
  levels = np.abs(as_the_model_sees_it(image, before) - theirs)
  assert (levels * 255 * np.asarray(found['std'])).max() > 10
