import asyncio
import json

import pytest

from zsar_jax.web import guard
from zsar_jax.web import limits as limits_lib
from zsar_jax.web import uploads as uploads_lib

_LIMITS = limits_lib.Limits(megabytes=0.1, store_megabytes=0.15)


def call(folder, path, *, body=None, hosts=frozenset({'localhost'}), **headers):
  """Status and headers of an answer, and what came through to the toolkit."""
  through, sent = [], []
  host = headers.pop('host', 'localhost:7860')
  if body is not None:
    headers.setdefault('content_length', str(len(body)))
  scope = {
    'type': 'http',
    'method': 'GET' if body is None else 'POST',
    'path': path,
    'headers': [
      (k.replace('_', '-').encode(), v.encode())
      for k, v in {'host': host, **headers}.items()
    ],
  }

  async def app(scope, receive, send):
    part = await receive()
    through.append(part.get('body', b''))
    await send({'type': 'http.response.start', 'status': 200, 'headers': []})
    await send({'type': 'http.response.body', 'body': b'ok'})

  async def receive():
    return {'type': 'http.request', 'body': body or b'', 'more_body': False}

  async def send(part):
    sent.append(part)

  uploads = uploads_lib.Uploads(str(folder), _LIMITS)
  made = guard.Guard(app, uploads=uploads, limits=_LIMITS, hosts=hosts)
  asyncio.run(made(scope, receive, send))
  return sent[0]['status'], dict(sent[0]['headers']), through


@pytest.mark.parametrize(
  'path',
  [
    '/',
    '/config',
    '/assets/index.js',
    '/gradio_api/queue/data',
    '/gradio_api/heartbeat/abc1',
    '/gradio_api/stream/abc1',
    '/gradio_api/stream/abc1/close',
    '/gradio_api/file=/tmp/zsar_app_x/clip.mp4',
  ],
)
def test_what_the_page_needs_comes_through(path, tmp_path):
  status, headers, through = call(tmp_path, path)
  assert status == 200 and len(through) == 1
  assert b"default-src 'self'" in headers[b'content-security-policy']


@pytest.mark.parametrize(
  'path',
  [
    '/gradio_api/file=http://10.0.0.1/x',
    '/gradio_api/proxy=http://10.0.0.1/x',
    '/gradio_api/process_recording',
    '/gradio_api/vibe-edit/',
    '/gradio_api/call/recognise',
    '/gradio_api/run/recognise',
    '/gradio_api/custom_component/1/x/y/z',
    '/gradio_api/deep_link',
    '/gradio_api/openapi.json',
    '/gradio_api/dev/reload',
    '/monitoring',
    '/docs',
    '/nonsense\n/',
  ],
)
def test_all_else_is_not_found(path, tmp_path):
  for body in (None, b'{}'):
    status, _, through = call(tmp_path, path, body=body)
    assert status == 404 and not through


@pytest.mark.parametrize(
  'host', ['evil.example', '10.0.0.1:7860', '', 'localhost.evil.example', 'a:b']
)
def test_other_names_of_this_machine_are_refused(host, tmp_path):
  status, _, through = call(tmp_path, '/', host=host)
  assert status == 421 and not through
  assert call(tmp_path, '/', host=host, hosts=None)[0] == 200


@pytest.mark.parametrize(
  'host, name',
  [('LOCALHOST:1', 'localhost'), ('[::1]:7860', '::1'), ('[::1]', '::1')],
)
def test_names_of_hosts(host, name):
  assert guard.host_name(host) == name


def test_uploads_are_bounded(tmp_path):
  path = '/gradio_api/upload'
  assert call(tmp_path, path, body=bytes(100_000))[0] == 200
  status, _, through = call(tmp_path, path, body=bytes(120_000))
  assert status == 413 and not through
  (tmp_path / 'others').write_bytes(bytes(100_000))
  status, _, through = call(tmp_path, path, body=bytes(100_000))
  assert status == 503 and not through
  status, _, _ = call(tmp_path, path, body=b'x', content_length='many')
  assert status == 411


def test_events_come_through_as_they_are(tmp_path):
  body = json.dumps({'data': [{'path': '/tmp/x.mp4'}, 'a://b']}).encode()
  status, _, through = call(tmp_path, '/gradio_api/queue/join', body=body)
  assert status == 200 and through == [body]
  for no_json in (b'{', b'[' * 100_000):
    status, _, through = call(tmp_path, '/gradio_api/queue/join', body=no_json)
    assert through == [no_json]


@pytest.mark.parametrize('path', ['http://10.0.0.1/x', 'file:///etc/passwd'])
def test_events_bring_no_addresses(path, tmp_path):
  body = json.dumps({'data': [1, {'a': [{'path': path}]}]}).encode()
  for event in ('queue/join', 'run/predict'):
    status, _, through = call(tmp_path, f'/gradio_api/{event}', body=body)
    assert status == 400 and not through


def test_events_are_small(tmp_path):
  body = bytes((1 << 20) + 1)
  status, _, through = call(tmp_path, '/gradio_api/queue/join', body=body)
  assert status == 413 and not through
