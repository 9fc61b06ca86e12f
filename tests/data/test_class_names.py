import pytest

from zsar_jax.data import class_names


@pytest.mark.parametrize(
  'name, canonical',
  [
    ('ApplyEyeMakeup', 'apply eye makeup'),
    ('HandstandPushups', 'handstand pushups'),
    ('YoYo', 'yo yo'),
    ('shake_hands', 'shake hands'),
    ('Arm wrestling', 'arm wrestling'),
    ('  push-up  bar ', 'push up bar'),
    ('tai chi', 'tai chi'),
    ('playing PlayStation', 'playing playstation'),  # not split: has a space
    ('Jōdō', 'jōdō'),
    ('ｊｕｄｏ', 'judo'),
    ("rock'n'roll (dance)", "rock'n'roll (dance)"),
    ('breakdance2Music', 'breakdance2 music'),
  ],
)
def test_one_spelling(name, canonical):
  assert class_names.canonical_name(name) == canonical
  assert class_names.canonical_name(canonical) == canonical


def test_names_keep_their_order():
  names = class_names.canonical_names(['Rowing', 'ArmWrestling', 'biking'])
  assert names == ['rowing', 'arm wrestling', 'biking']


def test_one_class_in_two_spellings_raises_and_shows_both():
  with pytest.raises(
    ValueError, match="candidates: .*'shake_hands' and 'ShakeHands'"
  ):
    class_names.canonical_names(['shake_hands', 'ShakeHands'], 'candidates')


@pytest.mark.parametrize('name', ['', '  ', '_-_', '!?'])
def test_empty_name_raises(name):
  with pytest.raises(ValueError, match='empty class name'):
    class_names.canonical_names(['rowing', name])


def test_no_names_raise():
  with pytest.raises(ValueError, match='no class names given'):
    class_names.canonical_names(iter(()))


@pytest.mark.parametrize(
  'name, sided',
  [
    ('waving the left arm', True),
    ('TurnRight', True),
    ('spinning-clockwise', True),
    ('swipe (right)', True),
    ('bright light', False),
    ('leftover cooking', False),
    ('waving both arms', False),
  ],
)
def test_names_with_a_side(name, sided):
  assert class_names.has_side(name) == sided
  assert class_names.sided_classes([name, 'rowing']) == [name] * sided
