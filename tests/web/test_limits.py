import pytest

from zsar_jax.web import limits as limits_lib


def test_names_are_lines():
  text = '\n  Juggling \n\narm_wrestling\r\n打篮球\n'
  found = limits_lib.parse_names(text, 3)
  assert found == ['juggling', 'arm wrestling', '打篮球']


@pytest.mark.parametrize(
  'text, said',
  [
    ('', 'at least one name'),
    (None, 'at least one name'),
    (' \n\t\n', 'at least one name'),
    ('rowing\n---', "'---' is not a name"),
    ('rowing\nrowing', "'rowing' is there twice"),
    ('Arm Wrestling\narm_wrestling', "'Arm Wrestling' and 'arm_wrestling' are"),
    ('a\x1b[31mb', 'control characters'),
    ('\n'.join(f'name {i}' for i in range(10_000)), '10000 names are too many'),
    ('!' * 5000, 'is not a name'),
  ],
)
def test_bad_names_are_said_in_short(text, said):
  with pytest.raises(ValueError) as e:
    limits_lib.parse_names(text, 200)
  assert said in str(e.value) and len(str(e.value)) < 200


def test_as_many_names_as_are_allowed():
  names = [f'name {i}' for i in range(200)]
  assert limits_lib.parse_names('\n'.join(names), 200) == names


def test_size_and_duration():
  limits = limits_lib.Limits(megabytes=2, minutes=0.5)
  limits_lib.check_size(2_000_000, limits)
  limits_lib.check_duration(30.0, limits)
  with pytest.raises(ValueError, match='2.5 MB; at most 2 MB'):
    limits_lib.check_size(2_500_000, limits)
  with pytest.raises(ValueError, match='1.0 min; at most 0.5 min'):
    limits_lib.check_duration(60.0, limits)


@pytest.mark.parametrize(
  'changes, said',
  [
    ({'megabytes': 0}, 'megabytes=0'),
    ({'minutes': float('nan')}, 'minutes=nan'),
    ({'megabytes': 20, 'store_megabytes': 10}, 'is less than one upload'),
  ],
)
def test_limits_that_make_no_sense(changes, said):
  with pytest.raises(ValueError, match=said):
    limits_lib.Limits(**changes)
