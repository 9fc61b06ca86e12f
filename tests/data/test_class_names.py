import re

import pytest

from zsar_jax.data import class_names
from zsar_jax.data.protocols import known_classes


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
    ('breakdance2Music', 'breakdance 2 music'),
    ('TaiChi', 'tai chi'),
    ('CleanAndJerk', 'clean and jerk'),
    ('TVShow', 'tv show'),
    ('MTBRiding', 'mtb riding'),
    ('3DPrinting', '3d printing'),
    ('Situp2', 'situp 2'),
    ('BMX', 'bmx'),
    ('hugging (not baby)', 'hugging (not baby)'),
  ],
)
def test_one_spelling(name, canonical):
  assert class_names.canonical_name(name) == canonical
  assert class_names.canonical_name(canonical) == canonical


@pytest.mark.parametrize('name', known_classes.list_names())
def test_published_lists_stay_distinct_and_canonical(name):
  canonical = known_classes.canonical(name)
  assert len(set(canonical)) == len(known_classes.read(name))
  for words in canonical:
    assert class_names.canonical_name(words) == words
    # Nothing of a name is lost but its spelling.
    assert re.fullmatch(r"[a-z0-9 '().,&]+", words), words


def test_names_keep_their_order():
  names = class_names.canonical_names(['Rowing', 'ArmWrestling', 'biking'])
  assert names == ['rowing', 'arm wrestling', 'biking']


def test_one_class_in_two_spellings_raises_and_shows_both():
  with pytest.raises(
    ValueError, match="candidates: .*'shake_hands' and 'ShakeHands'"
  ):
    class_names.canonical_names(['shake_hands', 'ShakeHands'], 'candidates')


@pytest.mark.parametrize('name', ['', '  ', '_-_'])
def test_empty_name_raises(name):
  with pytest.raises(ValueError, match='empty class name'):
    class_names.canonical_names(['rowing', name])


@pytest.mark.parametrize('name', ['!?', '🏊', '🏊 🤸'])
def test_name_without_letters_raises(name):
  with pytest.raises(ValueError, match=r'has no letters or digits') as error:
    class_names.canonical_names(['rowing', name], 'classes')
  assert f'classes: class name {name!r}' in str(error.value)
  assert class_names.canonical_names([f'{name} 7']) == [f'{name} 7']


def test_a_text_is_no_list_of_names():
  with pytest.raises(ValueError, match=r"got the text 'row': write \['row'\]"):
    class_names.canonical_names('row', 'classes')


@pytest.mark.parametrize('names', [None, 5])
def test_what_is_no_sequence_raises(names):
  with pytest.raises(
    ValueError, match=f'expected a list of names, got {names}'
  ):
    class_names.canonical_names(names)


@pytest.mark.parametrize('name', [None, 1, b'row'])
def test_what_is_no_text_is_no_name(name):
  with pytest.raises(ValueError, match='expected a name, got') as error:
    class_names.canonical_names(['rowing', name])
  assert repr(name) in str(error.value)


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
