"""Runs that start from a trained model."""

import types

import pytest

from tests import tiny
from zsar_jax import config_utils
from zsar_jax.inference import model_files, starts
from zsar_jax.pretrained import initialisation
from zsar_jax.training import train

NAME = 'stick_figures'


def test_network_pixels_and_vocabulary_come_along():
  config = tiny.config(init__model=NAME)
  _, meta = model_files.read(model_files.resolve(NAME))
  start = starts.start(config)
  own = meta['config']
  for section in ('model', 'preprocessing'):
    flat = dict(model_files.flatten(start.config[section].to_dict()))
    wanted = dict(model_files.flatten(own[section]))
    for key, value in wanted.items():
      value = tuple(value) if isinstance(value, list) else value
      assert flat[key] == value, key
  assert start.pieces == meta['vocabulary']
  assert start.config.init.seen_classes == tuple(meta['seen_classes'])
  assert 'class_centres' not in start.loaded
  assert {'video_encoder', 'text_encoder', 'cross_modal'} <= {*start.loaded}
  # The given config stays as it is.
  assert config.init.loaded == '' and config.preprocessing.size != 48
  # The rest of the run is its own.
  assert start.config.train == config.train


def test_without_a_model_public_weights_are_read():
  start = starts.start(tiny.config())
  assert start.config.init.loaded == '' and not start.loaded


@pytest.mark.parametrize(
  'changes, error, message',
  [
    ({'init__model': 'nowhere'}, FileNotFoundError, 'bank export --workdir'),
    (
      {'init__model': NAME, 'init__text': 'bert', 'vocabulary': 'v.txt'},
      ValueError,
      'leave out init.text, vocabulary',
    ),
  ],
)
def test_what_is_no_start_is_refused(changes, error, message):
  with pytest.raises(error, match=message):
    starts.start(tiny.config(**changes))


def test_classes_that_the_start_has_seen_are_not_unseen(tmp_path):
  config = starts.start(tiny.config(init__model=NAME)).config
  known = config.init.seen_classes[0]
  protocol = types.SimpleNamespace(name='p', unseen_classes=('juggling',))
  starts.check_unseen(config, protocol)
  protocol.unseen_classes = ('juggling', known)
  with pytest.raises(ValueError, match=f'not be zero-shot.*\n.*{known}'):
    starts.check_unseen(config, protocol)
  # Before anything is trained. The seen classes of this draw of drawings differ
  # from the model's.
  config = tiny.config(init__model=NAME)
  config.data.stick_figures.split_seed = 5
  with pytest.raises(ValueError, match='was trained on unseen classes'):
    train.train(config, str(tmp_path / 'run'))


def test_the_settings_of_a_tower_come_along():
  config = config_utils.default_config()
  tower = {'width': 8, 'frames': {'depth': 2}, 'size': [4, 4]}
  values = {'backbone': 'pe_video', 'tower': tower, 'unknown': 1}
  initialisation.take(config.model.video, values)
  video = config.model.video
  assert video.backbone == 'pe_video' and 'unknown' not in video
  assert video.tower.width == 8 and video.tower.frames.depth == 2
  # Keys that the values lack stay.
  assert video.depth == config_utils.default_config().model.video.depth
