"""Users and passwords of the page, from a file or an environment variable."""

from collections.abc import Callable, Mapping
import hmac
import os
import stat

VARIABLE = 'ZSAR_APP_AUTH'
LOOPBACK = ('127.0.0.1', 'localhost', '::1')


def read(path: str | None, environment: Mapping[str, str]) -> dict[str, str]:
  """Reads the passwords.

  Args:
    path: path of a file with lines `user:password`; None reads these lines
      from the environment variable ZSAR_APP_AUTH.
    environment: the environment variables.

  Returns:
    User -> password; empty without file and variable.

  Raises:
    FileNotFoundError: no such file.
    ValueError: other users may read the file, or a line is not
      `user:password`. The message never repeats a line.
  """
  if path is None:
    text, where = environment.get(VARIABLE, ''), f'the variable {VARIABLE}'
    if not text:
      return {}
  else:
    if stat.S_IMODE(os.stat(path).st_mode) & 0o077:
      raise ValueError(
        f'--auth={path}: other users may read it; run chmod 600 {path}'
      )
    with open(path, encoding='utf-8') as f:
      text, where = f.read(), path
  found: dict[str, str] = {}
  for number, line in enumerate(text.splitlines(), 1):
    if not line.strip():
      continue
    user, colon, password = line.strip().partition(':')
    if not (user and colon and password):
      raise ValueError(f'{where}, line {number}: expected user:password')
    if user in found:
      raise ValueError(f'{where}, line {number}: this user is there twice')
    found[user] = password
  if not found:
    raise ValueError(f'{where} has no line user:password')
  return found


def checker(passwords: Mapping[str, str]) -> Callable[[str, str], bool]:
  """Returns a function (user, password) -> whether they are valid.

  Args:
    passwords: user -> password.
  """

  def check(user: str, password: str) -> bool:
    # An unknown user takes as long as a known one.
    known = passwords.get(user, '')
    same = hmac.compare_digest(known.encode(), password.encode())
    return same and user in passwords

  return check


def check_exposure(host: str, share: bool, has_passwords: bool) -> None:
  """Checks that only this machine can open a page without passwords.

  Args:
    host: address to listen on.
    share: whether to make a public link.
    has_passwords: whether visitors must log in.

  Raises:
    ValueError: there are no passwords, and other machines could open the page.
  """
  if has_passwords:
    return
  if share:
    raise ValueError(
      '--share makes a public link, so it needs passwords: --auth or '
      f'{VARIABLE}'
    )
  if host not in LOOPBACK:
    raise ValueError(
      f'--host={host} lets other machines in, so it needs passwords: --auth or '
      f'{VARIABLE}'
    )
