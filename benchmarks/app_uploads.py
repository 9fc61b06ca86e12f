"""Tests the web page with many visitors who upload at once.

```
python -m benchmarks.app_uploads --visitors=20
```

It starts `zsar app` on a free port, in its own process. Then many visitors come
at the same moment. Each uploads its own video (a shipped example with some
bytes added) and requests a ranking, like a browser. All stay until the last has
an answer, then all leave. In a second round the queue is long enough for all.
In a third round they leave during the work.

For each round it prints the numbers of answers and refusals, with the messages;
the seconds until the last answer; the server's memory (VmRSS before, VmHWM
after); and the bytes of uploads, while the visitors are there and after they
have left. At the end it prints what the server leaves in that folder. It exits
with 1 if a visitor gets neither answer nor refusal, or if any file stays.

Predicted: with a queue of 8, at least 8 of 20 get an answer and the others read
"Queue is full"; memory grows by less than 200 MiB, since one video is decoded
and encoded at a time; no byte stays. Measured on 2026-11-27 on two cores of an
AMD EPYC:

                         answered  refused  seconds  memory (MiB)
one, which compiles             1        0      0.9    356 to 444
20, a queue of 8                9       11      0.4    444 to 448
20, a queue of 20              20        0      1.4    357 to 449

The 11 read "Queue is full". 0.1 s after all had left, no upload was there any
more, also if they left during the work. After the server had ended, the folder
was gone.
"""

import argparse
import collections
from collections.abc import Mapping, Sequence
import concurrent.futures
import contextlib
import dataclasses
import glob
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid

from zsar_jax.inference import model_files

_NAMES = 'waving the right arm slowly\nwalking to the right slowly'
_PATIENCE = 300.0


@dataclasses.dataclass
class Server:
  """A running page.

  Attributes:
    process: the server's process.
    port: port that it listens on.
    folder: folder of its temporary files.
  """

  process: subprocess.Popen
  port: int
  folder: str

  def memory(self, key: str) -> float:
    """Returns VmRSS or VmHWM in MiB."""
    with open(f'/proc/{self.process.pid}/status') as f:
      (kib,) = re.findall(rf'{key}:\s+(\d+) kB', f.read())
    return int(kib) / 1024

  def uploaded(self) -> int:
    """Returns the size of all uploads in bytes."""
    paths = glob.glob(f'{self.folder}/zsar_app_*/**', recursive=True)
    return sum(os.path.getsize(p) for p in paths if os.path.isfile(p))

  def connect(self) -> http.client.HTTPConnection:
    """Opens a connection."""
    return http.client.HTTPConnection('127.0.0.1', self.port, timeout=_PATIENCE)

  def post(self, path: str, body: bytes, kind: str) -> tuple[int, str]:
    """Sends a request; returns status and text of the response."""
    connection = self.connect()
    try:
      headers = {'Content-Type': kind}
      connection.request('POST', f'/gradio_api/{path}', body, headers)
      answer = connection.getresponse()
      return answer.status, answer.read().decode()
    finally:
      connection.close()


@contextlib.contextmanager
def serving(waiting: int):
  """Starts a page with a queue of this length; stops it by a signal."""
  with socket.socket() as s:
    s.bind(('127.0.0.1', 0))
    port = s.getsockname()[1]
  with tempfile.TemporaryDirectory() as folder:
    process = subprocess.Popen(
      [
        *(sys.executable, '-m', 'zsar_jax.app', '--workdir=stick_figures'),
        *(f'--port={port}', f'--max_waiting={waiting}'),
      ],
      stdout=subprocess.PIPE,
      text=True,
      env={**os.environ, 'TMPDIR': folder},
    )
    try:
      line = process.stdout.readline()
      if 'the page is at' not in line:
        raise RuntimeError(f'the page did not start: {line}')
      yield Server(process, port, folder)
    finally:
      process.send_signal(signal.SIGTERM)
      process.wait(60)
    left = glob.glob(f'{folder}/zsar_app_*')
    print(f'left of the folder when the server has ended: {left or "nothing"}')
    if left:
      raise RuntimeError('files are left')


class Visitor:
  """A visitor with a video; the page is open during the `with` block."""

  def __init__(self, server: Server, number: int):
    """Opens the page.

    Args:
      server: the running page.
      number: makes this visitor's video differ from the others.
    """
    self._server, self._number = server, number
    self._session = uuid.uuid4().hex[:12]
    self._open = server.connect()
    self._open.request('GET', f'/gradio_api/heartbeat/{self._session}')
    self._heartbeat = self._open.getresponse()

  def leave(self) -> None:
    """Closes the page."""
    self._heartbeat.close()
    self._open.close()

  def upload(self) -> str:
    """Uploads the video; returns its path on the server, or the error."""
    mark = uuid.uuid4().hex
    with open(model_files.examples()[0], 'rb') as f:
      content = f.read() + self._number.to_bytes(8, 'big')
    form = (
      f'--{mark}\r\nContent-Disposition: form-data; name="files"; '
      f'filename="clip.mp4"\r\nContent-Type: video/mp4\r\n\r\n'
    )
    body = form.encode() + content + f'\r\n--{mark}--\r\n'.encode()
    kind = f'multipart/form-data; boundary={mark}'
    status, text = self._server.post('upload', body, kind)
    if status != 200:
      raise ConnectionRefusedError(text)
    return json.loads(text)[0]

  def ask(self, events: Mapping[str, int]) -> None:
    """Uploads a video and joins the queue.

    Args:
      events: number of each event of the page.

    Raises:
      ConnectionRefusedError: the server refuses; the message is the server's.
    """
    video = {'path': self.upload(), 'meta': {'_type': 'gradio.FileData'}}
    self._event('run/predict', [video], events['take'])
    self._event('queue/join', [video, _NAMES, 0.5], events['recognise'])

  def _event(self, path: str, data: list, number: int) -> None:
    body = {'data': data, 'fn_index': number, 'session_hash': self._session}
    status, text = self._server.post(
      path, json.dumps(body).encode(), 'application/json'
    )
    if status != 200:
      raise ConnectionRefusedError(json.loads(text)['detail'])

  def answer(self) -> str:
    """Waits for the ranking; returns '' or the error."""
    connection = self._server.connect()
    with contextlib.closing(connection):
      connection.request(
        'GET', f'/gradio_api/queue/data?session_hash={self._session}'
      )
      for line in connection.getresponse():
        if b'process_completed' in line:
          drawn = line.decode()
          return '' if 'zsar-answer' in drawn else f'no answer: {drawn[:200]}'
    return 'the server said nothing'

  def visit(self, events: Mapping[str, int], start: threading.Barrier) -> str:
    """Uploads, asks and waits, at the same moment as the others."""
    start.wait()
    try:
      self.ask(events)
    except ConnectionRefusedError as e:
      return f'refused: {e}'
    return self.answer()


def events_of(server: Server) -> dict[str, int]:
  """Returns name -> number of the page's events."""
  connection = server.connect()
  with contextlib.closing(connection):
    connection.request('GET', '/config')
    events = json.loads(connection.getresponse().read())['dependencies']
  return {e['api_name']: e['id'] for e in events}


def all_left(server: Server, seconds: float = 60.0) -> float:
  """Returns the seconds until all uploads are deleted; raises if one stays."""
  begin = time.monotonic()
  while server.uploaded():
    if time.monotonic() - begin > seconds:
      raise RuntimeError(f'{server.uploaded()} bytes of uploads are left')
    time.sleep(0.1)
  return time.monotonic() - begin


def measure(server: Server, visitors: int, title: str) -> None:
  """Runs one round; see the module docstring."""
  before, events = server.memory('VmRSS'), events_of(server)
  people = [Visitor(server, i) for i in range(visitors)]
  start, begin = threading.Barrier(visitors), time.monotonic()
  with concurrent.futures.ThreadPoolExecutor(visitors) as pool:
    said = list(pool.map(lambda v: v.visit(events, start), people))
  seconds, stored = time.monotonic() - begin, server.uploaded()
  for person in people:
    person.leave()
  cleaned = all_left(server)
  counts = collections.Counter(said)
  answered = counts.pop('', 0)
  print(f'{title}: {visitors} visitors, {answered} answered in {seconds:.1f} s')
  for words, count in counts.items():
    print(f'  {count} {words}')
  print(
    f'  memory {before:.0f} MiB before, {server.memory("VmHWM"):.0f} MiB at '
    f'most; {stored / 1e3:.0f} kB of uploads, none {cleaned:.1f} s after all '
    'left'
  )
  if any(not words.startswith('refused') for words in counts):
    raise RuntimeError('neither answered nor refused')


def leave_early(server: Server, visitors: int) -> None:
  """Runs a round in which all leave while the first one is served."""
  events = events_of(server)
  people = [Visitor(server, i) for i in range(visitors)]
  for person in people:
    with contextlib.suppress(ConnectionRefusedError):
      person.ask(events)
  for person in people:
    person.leave()
  print(f'closed mid-way: no upload is left {all_left(server):.1f} s later')


def main(argv: Sequence[str] | None = None) -> None:
  """Runs all rounds."""
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--visitors', type=int, default=20)
  args = parser.parse_args(argv)
  with serving(waiting=8) as server:
    measure(server, 1, 'the first, which compiles')
    measure(server, args.visitors, 'a queue of 8')
    leave_early(server, args.visitors)
  with serving(waiting=args.visitors) as server:
    measure(server, args.visitors, f'a queue of {args.visitors}')


if __name__ == '__main__':
  main()
