import pytest

from zsar_jax.web import passwords


def write(path, text, mode=0o600):
  path.write_text(text)
  path.chmod(mode)
  return str(path)


def test_users_of_a_file_or_a_variable(tmp_path):
  path = write(tmp_path / 'users', 'ann:a:b\n\nbob: c \n')
  assert passwords.read(path, {}) == {'ann': 'a:b', 'bob': ' c'}
  variable = {passwords.VARIABLE: 'eve:x'}
  assert passwords.read(None, variable) == {'eve': 'x'}
  assert passwords.read(path, variable).keys() == {'ann', 'bob'}
  assert passwords.read(None, {}) == {}


@pytest.mark.parametrize(
  'text, said',
  [
    ('ann:x\nsecret', 'line 2: expected user:password'),
    ('ann:', 'line 1: expected'),
    (':secret', 'line 1: expected'),
    ('ann:x\nann:secret', 'line 2: this user is there twice'),
    ('\n', 'has no line'),
  ],
)
def test_bad_lines_are_counted_and_never_shown(text, said, tmp_path):
  with pytest.raises(ValueError, match=said) as e:
    passwords.read(write(tmp_path / 'users', text), {})
  assert 'secret' not in str(e.value)


def test_a_file_that_others_may_read_is_refused(tmp_path):
  path = write(tmp_path / 'users', 'ann:x', 0o640)
  with pytest.raises(ValueError, match='chmod 600'):
    passwords.read(path, {})
  with pytest.raises(FileNotFoundError):
    passwords.read(str(tmp_path / 'none'), {})


def test_who_is_known():
  check = passwords.checker({'ann': 'ä'})
  assert check('ann', 'ä')
  assert not check('ann', '') and not check('bob', 'ä') and not check('bob', '')


def test_others_come_in_with_passwords_alone():
  for host in passwords.LOOPBACK:
    passwords.check_exposure(host, False, False)
  passwords.check_exposure('0.0.0.0', True, True)
  with pytest.raises(ValueError, match='--host=0.0.0.0 lets other machines in'):
    passwords.check_exposure('0.0.0.0', False, False)
  with pytest.raises(ValueError, match='--share .* needs passwords'):
    passwords.check_exposure('127.0.0.1', True, False)
