import dataclasses
import json

import pytest

from zsar_jax.data import preprocessing

GOOD = preprocessing.Preprocessing(
  size=48,
  short_side=56,
  mean=(0.5, 0.4, 0.3),
  std=(0.25, 0.25, 0.2),
  num_frames=8,
  sampling='dense',
  frame_stride=2,
  sample_fps=12.0,
  inputs='rgb',
  token_length=32,
  vocabulary_hash='0123456789abcdef',
)


def test_json_round_trip_is_equal_and_hashable():
  back = preprocessing.Preprocessing.from_json(GOOD.to_json())
  assert back == GOOD
  assert hash(back) == hash(GOOD)  # tuples, not JSON's lists


def test_json_holds_every_field():
  changed = dataclasses.replace(GOOD, resize='bicubic', crop='centre')
  assert set(json.loads(changed.to_json())) == {
    field.name for field in dataclasses.fields(GOOD)
  }
  assert preprocessing.Preprocessing.from_json(changed.to_json()) == changed


def test_json_of_earlier_versions_is_as_it_was():
  values = json.loads(GOOD.to_json())
  assert not set(preprocessing.ADDED) & set(values)
  assert preprocessing.Preprocessing.from_dict(values).resize == 'area'


def test_unknown_or_missing_field_raises():
  values = json.loads(GOOD.to_json())
  with pytest.raises(TypeError, match='colour'):
    preprocessing.Preprocessing.from_dict({**values, 'colour': 1})
  del values['size']
  with pytest.raises(TypeError, match='size'):
    preprocessing.Preprocessing.from_dict(values)


@pytest.mark.parametrize(
  'changes, message',
  [
    (dict(sampling='random'), r"preprocessing.sampling='random'.*'dense'"),
    (dict(resize='nearest'), "preprocessing.resize='nearest'"),
    (dict(crop='left'), "preprocessing.crop='left'"),
    (dict(inputs='bgr'), "preprocessing.inputs='bgr'"),
    (dict(size=0, short_side=0), 'preprocessing.size must be positive'),
    (dict(num_frames=0), 'preprocessing.num_frames must be positive'),
    (dict(frame_stride=-1), 'preprocessing.frame_stride must be positive'),
    (dict(sample_fps=0.0), 'preprocessing.sample_fps must be positive'),
    (dict(short_side=47), 'short_side=47 is less than preprocessing.size=48'),
    (dict(mean=(0.5, 0.5)), 'need three numbers'),
    (dict(std=(0.5, 0.0, 0.5)), 'std positive'),
  ],
)
def test_values_that_cannot_work_raise_and_name_the_key(changes, message):
  with pytest.raises(ValueError, match=message):
    dataclasses.replace(GOOD, **changes)
