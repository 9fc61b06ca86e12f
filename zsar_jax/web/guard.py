"""Filters requests before they reach gradio.

Gradio answers many more addresses than this page uses. Some download from other
machines, some run programs on uploads. So only the addresses of a list are
allowed. All others are "not found".
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
  # Local files; an absolute path follows, never an address.
  rf'|{_API}/file=/.+'
)
_UPLOAD = f'{_API}/upload'
# Maximum bytes of an event: names, a threshold, the path of an upload.
_MOST_JSON = 1 << 20
# Maximum bytes of a multipart form, beyond its one file.
_FORM = 1 << 14
_HEADERS = {
  # The browser loads nothing from other machines, even if gradio refers to it.
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
      app: application to wrap.
      uploads: the uploads.
      limits: limits of the page.
      hosts: accepted host names, against DNS rebinding: another website cannot
        reach the page through a name of its own. None accepts every name.
    """
    self._app, self._uploads, self._limits = app, uploads, limits
    self._hosts = hosts

  async def __call__(self, scope, receive, send) -> None:
    """Passes a request on, or refuses it."""
    if scope['type'] == 'lifespan':
      await self._app(scope, receive, send)
      return
    if scope['type'] != 'http':
      return  # the page needs no websocket
    headers = {k.decode('latin1'): v for k, v in scope['headers']}
    host = host_name(headers.get('host', b'').decode('latin1'))
    if self._hosts is not None and host not in self._hosts:
      await _refuse(send, 421, 'this host name is not accepted')
    elif not _ALLOWED.fullmatch(scope['path']):
      await _refuse(send, 404, 'not found')
    elif scope['method'] == 'POST':
      await self._post(scope, receive, _with_headers(send), headers)
    else:
      await self._app(scope, receive, _with_headers(send))

  async def _post(self, scope, receive, send, headers) -> None:
    length = headers.get('content-length', b'')
    if not length.isdigit():
      await _refuse(send, 411, 'the header Content-Length is missing')
      return
    length = int(length)
    if scope['path'].rstrip('/') == _UPLOAD:
      await self._upload(scope, receive, send, length)
      return
    if length > _MOST_JSON:
      await _refuse(send, 413, 'the request is too large')
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
        send, 413, f'at most {limits.megabytes:g} MB can be uploaded'
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
  """Yields all values of a key `path` in JSON; nothing if it is no JSON."""
  try:
    left: list[Any] = [json.loads(body)]
  except (ValueError, RecursionError):  # gradio cannot parse it either
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
  """Reads the whole body; returns None if the visitor has left."""
  body, more = b'', True
  while more:
    part = await receive()
    if part['type'] == 'http.disconnect':
      return None
    body += part.get('body', b'')
    more = part.get('more_body', False)
  return body


def _again(body: bytes, receive):
  """Returns a `receive` that returns a body that was read before."""
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
        # Unread bytes of the request must not become the next request.
        (b'connection', b'close'),
      ],
    }
  )
  await send({'type': 'http.response.body', 'body': content})
