"""Stands before the page's toolkit and lets through what the page needs.

The toolkit answers many more addresses than this page uses: some fetch from
other machines, some run programs on what was uploaded. So the addresses are a
list of what is allowed. All else is "not found".
"""

from collections.abc import Iterator
import json
import re
from typing import Any

from zsar_jax.web import limits as limits_lib
from zsar_jax.web import uploads as uploads_lib

_API = '/gradio_api'
_ALLOWED = re.compile(
  r'/|/(config|theme\.css|favicon\.ico|manifest\.json|robots\.txt)/?'
  r'|/(login|logout)/?'
  r'|/(assets|static|svelte)/.+'
  rf'|{_API}/(upload|upload_progress|queue/join|queue/data|run/predict|cancel|reset|info'
  r'|startup-events|theme\.css|user|login_check|token|app_id)/?'
  rf'|{_API}/heartbeat/\w+'
  # Pictures of a camera.
  rf'|{_API}/stream/\w+(/close)?'
  # A file, but no address of another machine.
  rf'|{_API}/file=/.+'
)
_UPLOAD = f'{_API}/upload'
# What an event may bring along: names, a threshold, the place of a file.
_MOST_JSON = 1 << 20
# Of a multipart form around its one file.
_FORM = 1 << 14
_HEADERS = {
  # Nothing is loaded from elsewhere, whatever the toolkit would like.
  'content-security-policy': (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:;"
    " style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; media-src "
    "'self' data: blob:; font-src 'self' data:; connect-src 'self' data: blob:;"
    " worker-src 'self' blob:; object-src 'none'; base-uri 'self'; form-action "
    "'self'; frame-ancestors 'none'"
  ),
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
}


class Guard:
  """ASGI middleware; see the module docstring."""

  def __init__(
    self,
    app,
    *,
    uploads: uploads_lib.Uploads,
    limits: limits_lib.Limits,
    hosts: frozenset[str] | None,
  ):
    """Wraps an ASGI application.

    Args:
      app: to wrap.
      uploads: the folder of uploads.
      limits: of the page.
      hosts: names that this machine may be called by, so that no other page
        reaches it through a name of its own; None allows every name.
    """
    self._app, self._uploads, self._limits = app, uploads, limits
    self._hosts = hosts

  async def __call__(self, scope, receive, send) -> None:
    """Answers a request, or passes it on."""
    if scope['type'] == 'lifespan':
      await self._app(scope, receive, send)
      return
    if scope['type'] != 'http':
      return  # no websocket is needed
    headers = {k.decode('latin1'): v for k, v in scope['headers']}
    host = host_name(headers.get('host', b'').decode('latin1'))
    if self._hosts is not None and host not in self._hosts:
      await _refuse(send, 421, 'this page is not known by that name')
    elif not _ALLOWED.fullmatch(scope['path']):
      await _refuse(send, 404, 'not found')
    elif scope['method'] == 'POST':
      await self._post(scope, receive, _with_headers(send), headers)
    else:
      await self._app(scope, receive, _with_headers(send))

  async def _post(self, scope, receive, send, headers) -> None:
    length = headers.get('content-length', b'')
    if not length.isdigit():
      await _refuse(send, 411, 'the length of the content is missing')
      return
    length = int(length)
    if scope['path'].rstrip('/') == _UPLOAD:
      await self._upload(scope, receive, send, length)
      return
    if length > _MOST_JSON:
      await _refuse(send, 413, 'that is too much text')
      return
    body = await _read(receive)
    if body is None:
      return
    if any('://' in path for path in _paths(body)):
      await _refuse(send, 400, 'only uploaded files can be used')
      return
    await self._app(scope, _again(body, receive), send)

  async def _upload(self, scope, receive, send, length) -> None:
    limits = self._limits
    if length > limits.upload_bytes + _FORM:
      await _refuse(
        send, 413, f'at most {limits.megabytes:g} MB may be uploaded'
      )
      return
    with self._uploads.room_for(length) as fits:
      if fits:
        await self._app(scope, receive, send)
      else:
        await _refuse(send, 503, 'too many uploads at the moment; try later')


def host_name(host: str) -> str:
  """Returns a Host header without its port, in lower case.

  Args:
    host: such as 'localhost:7860' or '[::1]:7860'.
  """
  match = re.fullmatch(r'\[(.*)\](:\d+)?|([^:]*)(:\d+)?', host)
  return (match[1] or match[3] or '').lower() if match else ''


def _paths(body: bytes) -> Iterator[str]:
  """All values of a key `path` in JSON; none in what is no JSON."""
  try:
    left: list[Any] = [json.loads(body)]
  except (ValueError, RecursionError):  # the toolkit cannot read it either
    return
  while left:
    node = left.pop()
    if isinstance(node, dict):
      if isinstance(node.get('path'), str):
        yield node['path']
      left += node.values()
    elif isinstance(node, list):
      left += node


async def _read(receive) -> bytes | None:
  """The whole body; None where the visitor left."""
  body, more = b'', True
  while more:
    part = await receive()
    if part['type'] == 'http.disconnect':
      return None
    body += part.get('body', b'')
    more = part.get('more_body', False)
  return body


def _again(body: bytes, receive):
  """A `receive` that gives a body that was read before."""
  parts = [{'type': 'http.request', 'body': body, 'more_body': False}]

  async def replay():
    return parts.pop() if parts else await receive()

  return replay


def _with_headers(send):
  async def wrapped(part):
    if part['type'] == 'http.response.start':
      extra = [(k.encode(), v.encode()) for k, v in _HEADERS.items()]
      part = {**part, 'headers': [*part.get('headers', ()), *extra]}
    await send(part)

  return wrapped


async def _refuse(send, status: int, words: str) -> None:
  content = words.encode()
  await send(
    {
      'type': 'http.response.start',
      'status': status,
      'headers': [
        (b'content-type', b'text/plain; charset=utf-8'),
        (b'content-length', str(len(content)).encode()),
        # What was not read of the request must not be taken for the next.
        (b'connection', b'close'),
      ],
    }
  )
  await send({'type': 'http.response.body', 'body': content})
