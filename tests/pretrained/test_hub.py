import json
import os
import pty
import socket
import subprocess
import sys
import textwrap
import time
import types

from huggingface_hub import constants, file_download
import pytest
import safetensors.numpy

from tests import processes, tiny
from tests.pretrained import hub_server, tiny_weights
from zsar_jax import cli, predict
from zsar_jax.inference import evaluate_run, public_folders
from zsar_jax.pretrained import directory, hub, initialisation, tensor_files

COMMIT = 'a' * 40
# Files that must never be requested.
OTHERS = {
  'pytorch_model.bin': b'\x80\x04',
  'model.ckpt': b'\x80\x04',
  'tf_model.h5': b'h5',
  'weights.pt': b'\x80\x04',
  'modeling_tiny.py': b'raise SystemExit',
  'README.md': b'#',
}


@pytest.fixture(scope='module')
def server():
  with hub_server.serve() as served:
    yield served


@pytest.fixture
def there(server, monkeypatch, tmp_path):
  """The hub without models, and a cache without files."""
  server.repositories.clear()
  server.asked.clear()
  server.missing = (404, 'RepoNotFound')
  use(monkeypatch, server.endpoint, tmp_path / 'cache')
  return server


def use(monkeypatch, endpoint, cache):
  # huggingface_hub reads the variables when it is imported.
  template = endpoint + '/{repo_id}/resolve/{revision}/{filename}'
  monkeypatch.setattr(constants, 'ENDPOINT', endpoint)
  for module in (constants, file_download):  # One or the other, by version.
    monkeypatch.setattr(
      module, 'HUGGINGFACE_CO_URL_TEMPLATE', template, raising=False
    )
  monkeypatch.setattr(constants, 'HF_HUB_CACHE', str(cache))
  monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', False)
  # Its protocol of uploads is not served here.
  monkeypatch.setattr(constants, 'HF_HUB_DISABLE_XET', True, raising=False)
  monkeypatch.delenv('HF_TOKEN', raising=False)
  monkeypatch.setattr(constants, 'HF_TOKEN_PATH', str(cache / 'token'))


def unreachable(monkeypatch, cache):
  with socket.socket() as s:
    s.bind(('127.0.0.1', 0))
    port = s.getsockname()[1]
  use(monkeypatch, f'http://127.0.0.1:{port}', cache)
  # Newer versions sleep between attempts.
  monkeypatch.setattr(time, 'sleep', lambda seconds: None)


@pytest.fixture
def bert(there, tmp_path):
  path = tiny_weights.write_bert(tmp_path / 'bert')
  repository = hub_server.repository_of(path, **OTHERS)
  there.repositories['org/tiny-bert'] = repository
  return repository


def test_only_what_is_read_is_downloaded_and_only_once(there, bert):
  located = hub.resolve('hf:org/tiny-bert')
  assert located.revision == COMMIT and located.given == 'hf:org/tiny-bert'
  assert located.pinned == f'hf:org/tiny-bert@{COMMIT}'
  wanted = ['config.json', 'model.safetensors', 'vocab.txt']
  assert sorted(os.listdir(located.folder)) == wanted
  asked = set(there.names('GET', 'HEAD'))
  assert asked >= set(wanted) and not asked & set(OTHERS)
  # The second time, the only request is whether the branch has moved.
  assert hub.resolve('hf:org/tiny-bert') == located
  assert there.names('GET', 'HEAD') == ['config.json']
  assert hub.resolve(located.pinned).folder == located.folder
  assert hub.resolve('hf:org/tiny-bert@refs/pr/1').folder == located.folder
  assert there.names('GET') == []


def test_a_commit_in_the_cache_needs_no_request(there, bert):
  hub.resolve('hf:org/tiny-bert')
  there.asked.clear()
  hub.resolve(f'hf:org/tiny-bert@{COMMIT}')
  assert there.asked == []


def test_weights_are_those_of_the_folder(there, bert, tmp_path):
  local = directory.read_weights(str(tmp_path / 'bert'))
  assert local.source == ''
  weights = directory.read_weights('hf:org/tiny-bert')
  assert weights.source == f'hf:org/tiny-bert@{COMMIT}'
  assert directory.fingerprint(weights.tensors) == (
    directory.fingerprint(local.tensors)
  )
  assert weights.config == local.config
  with open(weights.file('vocab.txt'), 'rb') as f:
    assert f.read() == bert.files['vocab.txt']


def test_local_paths_are_left_alone(there, monkeypatch):
  monkeypatch.setenv('HOME', '/home/somebody')
  assert hub.resolve('~/w') == hub.Located('/home/somebody/w', '', '~/w')
  assert hub.resolve('some/where').pinned == ''
  assert not hub.at_hand('/nowhere') and hub.at_hand(os.curdir)
  assert there.asked == []


def test_shards_come_by_their_index(there, bert):
  tensors = sorted(safetensors.numpy.load(bert.files['model.safetensors']))
  whole = safetensors.numpy.load(bert.files.pop('model.safetensors'))
  listed = {}
  for i in range(2):
    name = f'model-0000{i + 1}-of-00002.safetensors'
    shard = {key: whole[key] for key in tensors[i::2]}
    bert.files[name] = safetensors.numpy.save(shard)
    listed |= dict.fromkeys(shard, name)
  bert.files['model-00003-of-00002.safetensors'] = b'in no index'
  bert.files[tensor_files.INDEX_FILE] = json.dumps(
    {'weight_map': listed}
  ).encode()
  weights = directory.read_weights('hf:org/tiny-bert')
  assert set(weights.tensors) == set(whole)
  asked = there.names('GET')
  assert set(listed.values()) < set(asked)
  assert 'model-00003-of-00002.safetensors' not in asked
  bert.move('c' * 40)
  del bert.files['model-00002-of-00002.safetensors']
  with pytest.raises(FileNotFoundError, match='has no model-00002-of-00002'):
    hub.resolve('hf:org/tiny-bert')


def test_an_index_of_pickles_downloads_none(there, bert):
  listed = {'weight_map': {'a': 'pytorch_model.bin'}}
  bert.files[tensor_files.INDEX_FILE] = json.dumps(listed).encode()
  with pytest.raises(ValueError, match="names 'pytorch_model.bin'"):
    hub.resolve('hf:org/tiny-bert')
  assert not set(there.names('GET', 'HEAD')) & set(OTHERS)


def test_pickles_alone_are_no_weights(there, bert):
  del bert.files['model.safetensors']
  with pytest.raises(FileNotFoundError) as error:
    hub.resolve('hf:org/tiny-bert')
  message = str(error.value)
  assert message.startswith('hf:org/tiny-bert has no safetensors')
  assert 'hf:org/tiny-bert@refs/pr/NUMBER' in message
  assert 'Its files: README.md' in message and 'pytorch_model.bin' in message
  assert not set(there.names('GET', 'HEAD')) & set(OTHERS)
  assert not hub.at_hand('hf:org/tiny-bert')


def test_model_without_config_is_named(there, bert):
  del bert.files['config.json']
  with pytest.raises(
    FileNotFoundError, match='^hf:org/tiny-bert has no config.json.*vocab.txt'
  ):
    hub.resolve('hf:org/tiny-bert')


@pytest.mark.parametrize(
  'text',
  [
    *('hf:', 'hf:bert', 'hf://org/name', 'hf:org/name/more', 'hf:org/'),
    *('hf:../name', 'hf:org/na me', 'hf:org/name@', 'hf:org/name@a..b'),
    *('hf:org/name@../x', 'hf:org/name@a b', 'hf:org/a--b', 'hf:org/x.git'),
  ],
)
def test_malformed_ids_are_refused(there, text):
  with pytest.raises(ValueError, match='expected hf:org/name or hf:org/name@'):
    hub.resolve(text)
  with pytest.raises(ValueError):
    hub.at_hand(text)
  assert there.asked == []


@pytest.mark.parametrize('answer', [(404, 'RepoNotFound'), (401, '')])
def test_model_that_does_not_exist_is_named(there, answer):
  there.missing = answer
  with pytest.raises(
    FileNotFoundError, match='^hf:org/none does not exist.*HF_TOKEN'
  ):
    hub.resolve('hf:org/none')


def test_revision_that_does_not_exist_is_named(there, bert):
  with pytest.raises(
    FileNotFoundError, match="^hf:org/tiny-bert@v9: .* no revision 'v9'"
  ):
    hub.resolve('hf:org/tiny-bert@v9')


@pytest.mark.parametrize(
  'refusal', [(401, 'GatedRepo'), (403, 'GatedRepo'), (403, '')]
)
def test_gated_model_asks_for_access(there, bert, monkeypatch, refusal):
  bert.token, bert.refusal = 'secret', refusal
  for token in ('', 'wrong'):
    monkeypatch.setenv('HF_TOKEN', token)
    with pytest.raises(
      PermissionError, match=f'gated or private.*{there.endpoint}/org/tiny-bert'
    ) as error:
      hub.resolve('hf:org/tiny-bert')
    assert 'HF_TOKEN' in str(error.value)
  monkeypatch.setenv('HF_TOKEN', 'secret')
  assert hub.resolve('hf:org/tiny-bert').revision == COMMIT


def test_without_network_the_cache_is_enough(
  there, bert, monkeypatch, tmp_path
):
  located = hub.resolve('hf:org/tiny-bert')
  unreachable(monkeypatch, tmp_path / 'cache')
  assert hub.resolve('hf:org/tiny-bert') == located
  # A cache filled by another program does not record missing files.
  gone = tmp_path / 'cache' / 'models--org--tiny-bert' / '.no_exist'
  for file in gone.rglob('*'):
    if file.is_file():
      file.unlink()
  assert hub.resolve('hf:org/tiny-bert') == located
  assert hub.at_hand('hf:org/tiny-bert') and hub.at_hand(located.pinned)
  assert not hub.at_hand('hf:org/tiny-bert@' + 'd' * 40)
  os.unlink(os.path.join(located.folder, 'model.safetensors'))
  assert not hub.at_hand('hf:org/tiny-bert')
  with pytest.raises(OSError, match='^hf:org/tiny-bert: model.safe.* reached'):
    hub.resolve('hf:org/tiny-bert')


def test_without_network_and_cache_the_way_out_is_named(monkeypatch, tmp_path):
  unreachable(monkeypatch, tmp_path / 'cache')
  with pytest.raises(OSError) as error:
    hub.resolve('hf:org/tiny-bert')
  message = str(error.value)
  assert message.startswith(
    f'hf:org/tiny-bert: config.json is not in {tmp_path}'
  )
  assert f'{constants.ENDPOINT} cannot be reached' in message
  assert 'HF_ENDPOINT' in message and '\n' not in message


def test_download_that_fails_is_named_and_starts_again(there, bert):
  bert.get_status = 410
  with pytest.raises(OSError, match='^hf:org/tiny-bert: config.json could not'):
    hub.resolve('hf:org/tiny-bert')
  bert.get_status = 200
  assert hub.resolve('hf:org/tiny-bert').revision == COMMIT


def test_initialisation_names_the_commit_and_keeps_to_it(there, bert, tmp_path):
  bert.files['config.json'] = json.dumps(
    {**tiny_weights.BERT_CONFIG, 'max_position_embeddings': 20}
  ).encode()
  config = tiny.config(
    init__text='hf:org/tiny-bert', preprocessing__token_length=12
  )
  start = initialisation.start(config)
  name = initialisation.describe(start.config)
  assert name.startswith(f'text=hf:org/tiny-bert@{COMMIT}:')
  assert start.config.init.text == f'hf:org/tiny-bert@{COMMIT}'
  assert config.init.text == 'hf:org/tiny-bert'
  # The branch moves on; the run's own config does not.
  other = tiny_weights.write_bert(
    tmp_path / 'other', {'vocab_size': 40, 'hidden_size': 8}
  )
  bert.move('e' * 40, **hub_server.repository_of(other).files)
  again = start.config.copy_and_resolve_references()
  again.init.loaded = ''
  assert initialisation.describe(initialisation.start(again).config) == name
  moved = initialisation.start(config).config
  assert moved.init.text.endswith('e' * 40) and moved.model.text.width == 8


def test_clip_comes_from_the_hub_too(there, tmp_path, capsys):
  path = tiny_weights.write_clip(tmp_path / 'clip')
  there.repositories['org/tiny-clip'] = hub_server.repository_of(path, **OTHERS)
  config = tiny.config(init__clip='hf:org/tiny-clip')
  said = []
  protocols = [types.SimpleNamespace(test=True)]
  assert evaluate_run._frozen_clip_rows(config, protocols, said.append) == []
  assert said == [
    'hf:org/tiny-clip is not on this machine: the frozen_clip row is left out'
  ]
  clip = public_folders.open_dual('hf:org/tiny-clip')
  assert clip.prep.size == 32 and clip.joint
  assert not set(there.names('GET', 'HEAD')) & set(OTHERS)
  flags = ['--pretrained=hf:org/none', f'--video={__file__}', '--classes=a']
  assert cli.exit_code(predict.main, ['predict', *flags]) == 1
  error = capsys.readouterr().err
  assert error.startswith('error: hf:org/none does not exist')
  assert error.count('\n') == 1


def run_child(code, **variables):
  """Runs code in a process that has read other variables."""
  keep = {k: v for k, v in os.environ.items() if not k.startswith('HF_')}
  done = processes.run(
    [sys.executable, '-c', textwrap.dedent(code)],
    timeout=150,
    env={**keep, **variables},
    stdin=subprocess.DEVNULL,
  )
  assert done.returncode == 0, done.stderr
  return done


def test_variables_that_users_know_count(there, bert, tmp_path):
  try:
    for terminal in pty.openpty():
      os.close(terminal)
  except OSError:
    pytest.skip('this system opens no pseudo-terminal')
  bert.token = 'secret'
  there.repositories['org/second'] = bert
  variables = {'HF_ENDPOINT': there.endpoint, 'HF_HOME': str(tmp_path / 'home')}
  # Set before the first id, after our import; the second model's progress goes
  # to a terminal.
  done = run_child(
    f"""
    import os, pty, sys, termios
    from zsar_jax.pretrained import hub
    assert 'huggingface_hub' not in sys.modules
    os.environ.update({variables | {'HF_TOKEN': 'secret'}})
    print(hub.resolve('hf:org/tiny-bert').folder)
    sys.stderr.flush()
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    os.dup2(theirs, 2)
    hub.resolve('hf:org/second')
    sys.stderr.flush()
    print(ascii(os.read(ours, 10**6)))
    """
  )
  folder, shown = done.stdout.splitlines()
  assert folder.startswith(str(tmp_path / 'home' / 'hub'))
  assert 'model.safetensors' in shown and '100%' in shown
  assert done.stderr == ''
  there.asked.clear()
  done = run_child(
    """
    from zsar_jax.pretrained import hub
    print(hub.resolve('hf:org/tiny-bert').folder)
    try:
      hub.resolve('hf:org/none')
    except OSError as e:
      print(e)
    """,
    **variables,
    HF_HUB_OFFLINE='1',
  )
  found, message = done.stdout.splitlines()
  assert found == folder and there.asked == [] and done.stderr == ''
  assert message.startswith('hf:org/none: config.json is not in ')
  assert 'HF_HUB_OFFLINE is set' in message
