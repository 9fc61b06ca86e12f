"""A small Hugging Face Hub on loopback, for downloads and uploads."""

import base64
from collections.abc import Iterator
import contextlib
import dataclasses
import hashlib
import http.server
import json
import os
import re
import threading
import urllib.parse

_RESOLVE = re.compile('/([^/]+/[^/]+)/resolve/([^/]+)/(.+)')
_WRITE = re.compile('/api/models/([^/]+/[^/]+)/(preupload|commit)/([^/]+)')
_LARGE = re.compile('/([^/]+/[^/]+)\\.git/info/lfs/objects/batch')
_TREE = re.compile('/api/models/([^/]+/[^/]+)/(tree|revision)/([^/]+)')


@dataclasses.dataclass
class Repository:
  """A model.

  Attributes:
    files: name -> content.
    commit: where `main` is. The files are those of every commit.
    commits: all that there are.
    token: who has it may read; '' is for all.
    refusal: status and error code for others.
    get_status: what downloads of files answer.
  """

  files: dict[str, bytes]
  commit: str = 'a' * 40
  commits: set[str] = dataclasses.field(default_factory=lambda: {'a' * 40})
  token: str = ''
  refusal: tuple[int, str] = (401, 'GatedRepo')
  get_status: int = 200

  def move(self, commit: str, **files: bytes) -> None:
    """A new commit of `main`."""
    self.commit = commit
    self.commits.add(commit)
    self.files.update(files)

  def find(self, revision: str) -> str | None:
    """The commit of a revision; None if there is none."""
    if revision in ('main', 'refs/pr/1'):
      return self.commit
    return revision if revision in self.commits else None


@dataclasses.dataclass
class Hub:
  """The content of the server, and a record of the requests.

  Attributes:
    repositories: id -> model.
    asked: (method, path) of every request.
    missing: status and error code for a model that does not exist.
    large: files with this ending are uploaded apart from the commit (LFS).
    write_token: who has it may write.
    stored: SHA-256 -> content of the large files.
    cards: model cards that were given to be checked.
    endpoint: its address.
  """

  repositories: dict[str, Repository] = dataclasses.field(default_factory=dict)
  asked: list[tuple[str, str]] = dataclasses.field(default_factory=list)
  missing: tuple[int, str] = (404, 'RepoNotFound')
  large: str = '.safetensors'
  stored: dict[str, bytes] = dataclasses.field(default_factory=dict)
  write_token: str = 'writer'
  cards: list[str] = dataclasses.field(default_factory=list)
  endpoint: str = ''

  def names(self, *methods: str) -> list[str]:
    """Returns the names of the files requested since the last call."""
    asked, self.asked[:] = list(self.asked), []
    return [
      urllib.parse.unquote(_RESOLVE.fullmatch(path)[3])
      for method, path in asked
      if method in methods and _RESOLVE.fullmatch(path)
    ]


def repository_of(folder, **more: bytes) -> Repository:
  """Makes a model from the files of a folder, and more files."""
  files = {}
  for name in os.listdir(folder):
    with open(os.path.join(folder, name), 'rb') as f:
      files[name] = f.read()
  return Repository({**files, **more})


class _Handler(http.server.BaseHTTPRequestHandler):
  protocol_version = 'HTTP/1.1'
  hub: Hub

  def log_message(self, *args):
    pass

  def do_HEAD(self):
    self._answer()

  def do_GET(self):
    self._answer()

  def do_POST(self):
    path = self.path.partition('?')[0]
    self.hub.asked.append((self.command, path))
    body = self.rfile.read(int(self.headers.get('Content-Length', 0)))
    if path == '/api/validate-yaml':
      self.hub.cards.append(json.loads(body)['content'])
      return self._send_json({'errors': [], 'warnings': []})
    given = self.headers.get('Authorization', '')
    if given != f'Bearer {self.hub.write_token}':
      return self._send(403 if given else 401)
    if path == '/api/repos/create':
      return self._create(json.loads(body))
    if _LARGE.fullmatch(path):
      return self._send_places(json.loads(body))
    of_write = _WRITE.fullmatch(path)
    if not of_write:
      return self._send(404)
    name, kind = of_write.group(1, 2)
    repository = self.hub.repositories.get(name)
    if repository is None:
      return self._send(404, code='RepoNotFound')
    if kind == 'preupload':
      files = [
        {
          'path': f['path'],
          'uploadMode': (
            'lfs' if f['path'].endswith(self.hub.large) else 'regular'
          ),
          'shouldIgnore': False,
        }
        for f in json.loads(body)['files']
      ]
      return self._send_json({'files': files})
    return self._commit(name, repository, body)

  def do_PUT(self):
    name = self.path.rpartition('/')[2]
    content = self.rfile.read(int(self.headers['Content-Length']))
    assert hashlib.sha256(content).hexdigest() == name
    self.hub.stored[name] = content
    self._send(200)

  def _send_places(self, wanted):
    objects = [
      {
        **of,
        'actions': {'upload': {'href': f'{self.hub.endpoint}/put/{of["oid"]}'}},
      }
      for of in wanted['objects']
    ]
    self._send_json({'transfer': 'basic', 'objects': objects})

  def _create(self, wanted):
    name = '/'.join(filter(None, (wanted.get('organization'), wanted['name'])))
    url = f'{self.hub.endpoint}/{name}'
    if name in self.hub.repositories:
      return self._send_json({'url': url, 'error': 'exists'}, 409)
    self.hub.repositories[name] = Repository({'.gitattributes': b''})
    return self._send_json({'url': url, 'name': name, 'id': name})

  def _commit(self, name, repository, body):
    files = {}
    for line in body.splitlines():
      entry = json.loads(line)
      if entry['key'] == 'file':
        value = entry['value']
        assert value['encoding'] == 'base64'
        files[value['path']] = base64.b64decode(value['content'])
      elif entry['key'] == 'lfsFile':
        value = entry['value']
        files[value['path']] = self.hub.stored[value['oid']]
    commit = hashlib.sha1(body).hexdigest()
    repository.move(commit, **files)
    url = f'{self.hub.endpoint}/{name}/commit/{commit}'
    self._send_json({'success': True, 'commitOid': commit, 'commitUrl': url})

  def _answer(self):
    path = self.path.partition('?')[0]
    self.hub.asked.append((self.command, path))
    of_file, of_tree = _RESOLVE.fullmatch(path), _TREE.fullmatch(path)
    if not (of_file or of_tree):
      return self._send(404)
    name, revision = of_file.group(1, 2) if of_file else of_tree.group(1, 3)
    repository = self.hub.repositories.get(name)
    if repository is None:
      return self._send(self.hub.missing[0], code=self.hub.missing[1])
    given = self.headers.get('Authorization', '')
    if repository.token and given != f'Bearer {repository.token}':
      return self._send(repository.refusal[0], code=repository.refusal[1])
    commit = repository.find(urllib.parse.unquote(revision))
    if commit is None:
      return self._send(404, code='RevisionNotFound')
    if of_tree:
      return self._send_listing(repository, commit, of_tree[2])
    content = repository.files.get(urllib.parse.unquote(of_file[3]))
    if content is None:
      return self._send(404, code='EntryNotFound', commit=commit)
    if self.command == 'GET' and repository.get_status != 200:
      return self._send(repository.get_status)
    return self._send(200, content, commit=commit)

  def _send_listing(self, repository, commit, kind):
    files = [
      {'type': 'file', 'path': name, 'size': len(content), 'oid': 'b' * 40}
      for name, content in repository.files.items()
    ]
    content = files
    if kind == 'revision':
      siblings = [{'rfilename': name} for name in repository.files]
      content = {'id': 'x/y', 'sha': commit, 'siblings': siblings}
    self._send_json(content)

  def _send_json(self, content, status=200):
    content = json.dumps(content).encode()
    self._send(status, content, kind='application/json')

  def _send(self, status, content=b'', code='', commit='', kind='text/plain'):
    self.send_response(status)
    headers = {
      'Content-Length': str(len(content)),
      'Content-Type': kind,
      'ETag': f'"{hashlib.sha1(content).hexdigest()}"',
      'X-Error-Code': code,
      'X-Repo-Commit': commit,
    }
    for name, value in headers.items():
      if value:
        self.send_header(name, value)
    self.end_headers()
    if self.command != 'HEAD':
      self.wfile.write(content)


@contextlib.contextmanager
def serve() -> Iterator[Hub]:
  """Context manager of a hub without models, on a free port."""
  hub = Hub()
  handler = type('Handler', (_Handler,), {'hub': hub})
  server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler)
  hub.endpoint = f'http://127.0.0.1:{server.server_port}'
  thread = threading.Thread(target=server.serve_forever, args=(0.05,))
  thread.start()
  try:
    yield hub
  finally:
    server.shutdown()
    server.server_close()
    thread.join()
