"""Banks of weights from the Hub, their revisions, and uploads to it."""

import json
import os
import shutil

import numpy as np
import pytest
import safetensors.numpy

from tests import videos
from tests.commands import run
from tests.inference import test_public_banks
from tests.inference import test_public_encoders as shared
from tests.pretrained import hub_server, test_hub, tiny_weights
import zsar_jax
from zsar_jax import app, bank, evaluate, predict
from zsar_jax.inference import (
  model_card,
  model_files,
  prototype_bank,
  public_sides,
  saved_encoders,
)
from zsar_jax.pretrained import hub_upload
from zsar_jax.system import json_files

COMMIT, MOVED = 'a' * 40, 'e' * 40
SIDES = ('--video=hf:org/classifier', '--text=hf:org/bert')

server, there = test_hub.server, test_hub.there
dataset = test_public_banks.dataset


@pytest.fixture
def weights(there, tmp_path):
  """A classifier and a text encoder on the hub, with files never requested."""
  for name, path in (
    ('classifier', shared.write_classifier(tmp_path / 'classifier')),
    (
      'bert',
      tiny_weights.write_bert(
        tmp_path / 'bert', {'max_position_embeddings': 40}
      ),
    ),
  ):
    there.repositories[f'org/{name}'] = hub_server.repository_of(
      path, **test_hub.OTHERS
    )
  there.asked.clear()
  return there


def build(folder, *flags):
  return run(bank, 'build', *SIDES, f'--output={folder}', *flags)


def test_a_bank_keeps_to_its_revisions(weights, tmp_path, capsys):
  folder = tmp_path / 'folder'
  assert build(folder) == 0
  content = json.loads((folder / 'encoders.json').read_text())
  assert content['video'] == f'hf:org/classifier@{COMMIT}'
  assert content['text'] == f'hf:org/bert@{COMMIT}'
  made = prototype_bank.load_bank(str(folder / 'bank.safetensors'))
  for part in (f'video=hf:org/classifier@{COMMIT}:', f'hf:org/bert@{COMMIT}:'):
    assert part in made.origin and part in prototype_bank.describe(made)
  # A branch that moves changes nothing.
  weights.repositories['org/bert'].move(MOVED, **{'vocab.txt': b'other'})
  path = videos.write_video(tmp_path / 'v.mp4', videos.numbered_frames(9))
  capsys.readouterr()
  flags = f'--video={path}', '--classes=arm', '--json'
  assert run(predict, f'--workdir={folder}', *flags) == 0
  answer = json.loads(capsys.readouterr().out)
  assert answer['weights'] == made.origin
  assert answer['probabilities'].startswith('none, because the bank')
  assert not set(weights.names('GET', 'HEAD')) & set(test_hub.OTHERS)


def test_a_revision_that_is_gone_is_refused(weights, tmp_path, monkeypatch):
  folder = str(tmp_path / 'folder')
  assert build(folder) == 0
  repository = weights.repositories['org/bert']
  repository.commits = {MOVED}
  test_hub.use(monkeypatch, weights.endpoint, tmp_path / 'other cache')
  with pytest.raises(FileNotFoundError) as error:
    saved_encoders.load(folder)
  message = str(error.value)
  assert f"org/bert@{COMMIT}: the repository has no revision '{COMMIT}'" in (
    message
  )
  assert 'encoders.json' in message and 'bank build' in message


def test_a_revision_that_changed_is_refused(weights, tmp_path, monkeypatch):
  folder = str(tmp_path / 'folder')
  assert build(folder) == 0
  other = shared.write_classifier(tmp_path / 'other', shared.COLUMNS + 1)
  files = hub_server.repository_of(other).files
  weights.repositories['org/classifier'].files.update(files)
  test_hub.use(monkeypatch, weights.endpoint, tmp_path / 'other cache')
  with pytest.raises(ValueError, match='have changed: .* build the bank again'):
    saved_encoders.load(folder)


@pytest.mark.parametrize(
  'change, message',
  [
    ('missing', 'hf:org/classifier does not exist'),
    ('gated', 'hf:org/classifier is gated or private'),
    ('pickles', 'hf:org/classifier has no safetensors'),
    ('unnamed', "the classes are called ['LABEL_0', 'LABEL_1', 'LABEL_2']"),
    ('nameless', 'has no id2label, which names the classes of a'),
    ('fewer', 'names 5 classes'),
    ('tokenizer', 'has no vocab.txt'),
  ],
)
def test_weights_that_make_no_bank(weights, tmp_path, change, message, capsys):
  classifier = weights.repositories['org/classifier']
  config = json.loads(classifier.files['config.json'])
  if change == 'missing':
    del weights.repositories['org/classifier']
  elif change == 'gated':
    classifier.token = 'secret'
  elif change == 'pickles':
    del classifier.files['model.safetensors']
  elif change == 'tokenizer':
    del weights.repositories['org/bert'].files['vocab.txt']
  elif change == 'fewer':
    other = shared.write_classifier(tmp_path / 'few', shared.COLUMNS[:4])
    classifier.files.update(hub_server.repository_of(other).files)
  else:
    config['id2label'] = {str(i): f'LABEL_{i}' for i in range(5)}
    if change == 'nameless':
      del config['id2label']
    classifier.files['config.json'] = json.dumps(config).encode()
  assert build(tmp_path / 'out') == 1
  error = capsys.readouterr().err
  assert message in error and error.count('\n') == 1
  assert not (tmp_path / 'out').exists()


def test_how_a_sentence_encoder_pools_is_downloaded(weights, tmp_path):
  embed = lambda path: public_sides.open_text(path).embed_names(['row', 'arm'])
  mean = embed(str(tmp_path / 'bert'))
  settings = json.dumps({'pooling_mode_cls_token': True}).encode()
  weights.repositories['org/bert'].files['1_Pooling/config.json'] = settings
  assert np.abs(embed('hf:org/bert') - mean).max() > 1e-2


def test_a_bank_belongs_to_a_way_of_pooling(weights, tmp_path, capsys):
  settings = tmp_path / 'bert' / '1_Pooling' / 'config.json'
  settings.parent.mkdir()

  def pool(**how):
    settings.write_text(json.dumps(how))
    return public_sides.open_text(str(tmp_path / 'bert')).digest

  mean, cls = pool(), pool(pooling_mode_cls_token=True)
  assert mean != cls
  folder = tmp_path / 'folder'
  flags = '--video=hf:org/classifier', f'--text={tmp_path / "bert"}'
  assert run(bank, 'build', *flags, f'--output={folder}') == 0
  weights_hash = zsar_jax.load(str(folder)).recognizer.weights_hash
  pool()
  with pytest.raises(ValueError, match=f'digest {cls}, found {mean}'):
    zsar_jax.load(str(folder))
  # A folder of earlier versions, whose digest is of the tensors alone: those of
  # `mean`.
  pool(pooling_mode_cls_token=True)
  path = folder / 'encoders.json'
  content = json.loads(path.read_text())
  assert content.pop('text_pooling') == 'cls'
  path.write_text(json.dumps({**content, 'text_digest': mean}))
  recognizer = saved_encoders.load(str(folder))
  assert recognizer.text.digest == mean
  assert recognizer.weights_hash != weights_hash


def test_two_joint_spaces_are_no_pair(tmp_path, capsys):
  one = tiny_weights.write_clip(tmp_path / 'one')
  other = tiny_weights.write_clip(
    tmp_path / 'other', tiny_weights.clip_config('gelu')
  )
  tensors = os.path.join(other, 'model.safetensors')
  content = tiny_weights.clip_tensors(tiny_weights.clip_config())
  content['text_projection.weight'] += 1
  safetensors.numpy.save_file(content, tensors)
  flags = f'--video={one}', f'--text={other}', f'--output={tmp_path / "out"}'
  assert run(bank, 'build', *flags) == 1
  assert 'have different joint spaces' in capsys.readouterr().err


def push(folder, *flags):
  flags = ('--push=me/open', *flags)
  return run(bank, 'export', f'--workdir={folder}', *flags)


def test_a_bank_is_uploaded_with_its_card(
  weights, tmp_path, monkeypatch, capsys
):
  folder = tmp_path / 'folder'
  assert build(folder, '--licence=CC BY 4.0') == 0
  monkeypatch.setenv('HF_TOKEN', weights.write_token)
  capsys.readouterr()
  assert push(folder, '--licence=apache-2.0') == 0, capsys.readouterr().err
  pushed = weights.repositories['me/open']
  assert capsys.readouterr().out == f'uploaded to hf:me/open@{pushed.commit}\n'
  names = {'README.md', 'bank.safetensors', 'encoders.json', '.gitattributes'}
  assert set(pushed.files) == names
  card = pushed.files['README.md'].decode()
  assert weights.cards == [card]
  front, _, body = card.removeprefix('---\n').partition('\n---\n')
  fields = dict(line.split(': ', 1) for line in front.splitlines())
  assert json.loads(fields['license']) == 'apache-2.0'
  assert json.loads(fields['base_model']) == ['org/classifier', 'org/bert']
  for part in (
    f'hf:org/classifier@{COMMIT}:',
    'predict --workdir=hf:me/open --video',
    "zsar_jax.load('hf:me/open')",
    'word1 word2',
    '5 from columns',
    'CC BY 4.0',
    'no calibration',
    'semantic transfer',
  ):
    assert part in body
  assert str(tmp_path) not in card
  assert str(tmp_path).encode() not in b''.join(pushed.files.values())
  # What comes back is the same.
  again = tmp_path / 'again'
  again.mkdir()
  for name, content in pushed.files.items():
    (again / name).write_bytes(content)
  of = lambda path: zsar_jax.load(str(path)).recognizer.weights_hash
  assert of(again) == of(folder)
  # A second time only if it is meant.
  assert push(folder) == 1
  error = capsys.readouterr().err
  assert 'me/open has files already (README.md, ' in error
  assert '--overwrite' in error
  first = pushed.commit
  kept = tmp_path / 'kept'
  assert push(folder, '--overwrite', f'--output={kept}') == 0
  assert pushed.commit != first
  assert 'license' not in pushed.files['README.md'].decode().split('---')[1]
  assert (kept / 'README.md').read_bytes() == pushed.files['README.md']


def test_a_trained_model_is_uploaded_too(there, tmp_path, monkeypatch, capsys):
  monkeypatch.setenv('HF_TOKEN', there.write_token)
  assert push('stick_figures') == 0, capsys.readouterr().err
  pushed = there.repositories['me/open'].files
  for name in ('model.json', 'model.safetensors', 'bank.safetensors'):
    (tmp_path / name).write_bytes(pushed[name])
  assert any(name.startswith('examples/') for name in pushed)
  of = lambda path: zsar_jax.load(str(path)).recognizer.weights_hash
  assert of(tmp_path) == of('hf:me/open') == of('stick_figures')
  wanted = {'bank.safetensors', 'model.json', 'model.safetensors'}
  assert set(there.names('GET')) == wanted


@pytest.fixture
def pushed(weights, tmp_path, monkeypatch, capsys):
  """A bank of public weights on the hub, as `me/open`."""
  monkeypatch.setenv('HF_TOKEN', weights.write_token)
  assert build(tmp_path / 'built') == 0
  assert push(tmp_path / 'built') == 0, capsys.readouterr().err
  monkeypatch.delenv('HF_TOKEN')
  # As on another machine.
  test_hub.use(monkeypatch, weights.endpoint, tmp_path / 'another_cache')
  repository = weights.repositories['me/open']
  repository.files.update(test_hub.OTHERS)
  weights.asked.clear()
  capsys.readouterr()
  return repository


def predict_flags(tmp_path):
  path = videos.write_video(tmp_path / 'v.mp4', videos.numbered_frames(9))
  return f'--video={path}', '--classes=arm', '--json'


def test_a_bank_is_used_where_it_was_pushed_to(
  weights, pushed, tmp_path, monkeypatch, capsys
):
  flags = predict_flags(tmp_path)
  assert run(predict, '--workdir=hf:me/open', *flags) == 0
  answer = json.loads(capsys.readouterr().out)
  assert answer['model'] == f'hf:me/open@{pushed.commit}'
  assert f'hf:org/classifier@{COMMIT}:' in answer['weights']
  asked = weights.names('GET')
  assert {'bank.safetensors', 'encoders.json'} <= set(asked)
  assert not set(asked) & {*test_hub.OTHERS, 'results.json'}
  built = zsar_jax.load(str(tmp_path / 'built')).recognizer
  assert built.source == ''
  first = pushed.commit
  pushed.move(MOVED, **{'bank.safetensors': b'damaged'})
  loaded = zsar_jax.load(f'hf:me/open@{first}').recognizer
  assert loaded.source == f'hf:me/open@{first}'
  assert loaded.weights_hash == built.weights_hash
  # What is in the cache needs no network.
  test_hub.unreachable(monkeypatch, tmp_path / 'another_cache')
  assert run(predict, f'--workdir=hf:me/open@{first}', *flags) == 0
  assert json.loads(capsys.readouterr().out)['model'] == loaded.source


def test_other_commands_take_a_pushed_bank(weights, pushed, tmp_path, capsys):
  assert run(bank, 'show', 'hf:me/open') == 0
  assert '5 from columns' not in capsys.readouterr().out
  more = tmp_path / 'more.safetensors'
  flags = '--classes=arm', f'--output={more}'
  assert run(bank, 'add', 'hf:me/open', *flags) == 0
  assert prototype_bank.load_bank(str(more)).added_classes == ('arm',)
  exported = tmp_path / 'exported'
  flags = '--workdir=hf:me/open', f'--output={exported}'
  assert run(bank, 'export', *flags) == 0
  assert saved_encoders.load(str(exported)).seen_classes == shared.SEEN
  (desk,) = app._load_desks([('hf:me/open', False)], None)
  assert desk.title == 'open'
  capsys.readouterr()
  assert run(evaluate, '--workdir=hf:me/open', '--dataset=x') == 1
  assert 'give --output=FILE' in capsys.readouterr().err
  flags = '--dataset=nowhere', f'--output={tmp_path / "results.json"}'
  assert run(evaluate, '--workdir=hf:me/open', *flags) == 1
  assert 'nowhere' in capsys.readouterr().err
  assert run(evaluate, '--workdir=hf:me/open', '--inner=a', flags[1]) == 1
  assert '--inner writes into the run' in capsys.readouterr().err


def test_results_name_the_commit(pushed, dataset, tmp_path):
  output = tmp_path / 'results' / 'results.json'
  flags = f'--dataset={dataset}', f'--output={output}'
  assert run(evaluate, '--workdir=hf:me/open', *flags) == 0
  content = json.loads(output.read_text())
  assert content['model'] == f'hf:me/open@{pushed.commit}'
  # Nothing is written into the cache of the Hub.
  assert (output.parent / 'embeddings').is_dir()
  cached = tmp_path.glob('another_cache/models--me--open/snapshots/*/*')
  assert {path.name for path in cached} == {'bank.safetensors', 'encoders.json'}


@pytest.mark.parametrize(
  'change, message',
  [
    ('no bank', 'has no bank.safetensors. Its files: '),
    ('no encoders', 'has a bank, but neither model.json nor encoders.json'),
    ('a path', "names video weights at '/weights', a path of another machine"),
    ('no repository', 'does not exist on the Hugging Face Hub'),
  ],
)
def test_what_is_no_pushed_bank_is_refused(
  weights, pushed, tmp_path, change, message, capsys
):
  if change == 'no bank':
    del pushed.files['bank.safetensors']
  elif change == 'no encoders':
    del pushed.files['encoders.json']
  elif change == 'a path':
    content = json.loads(pushed.files['encoders.json'])
    content['video'] = '/weights'
    pushed.files['encoders.json'] = json.dumps(content).encode()
  else:
    del weights.repositories['me/open']
  flags = predict_flags(tmp_path)
  assert run(predict, '--workdir=hf:me/open', *flags) == 1
  error = capsys.readouterr().err
  assert message in error and error.count('\n') == 1


@pytest.mark.parametrize('token', ['', 'reader'])
def test_who_may_not_write_is_told(there, tmp_path, monkeypatch, token):
  monkeypatch.setenv('HF_TOKEN', token)
  (tmp_path / 'file').write_text('x')
  with pytest.raises(PermissionError, match='may not write there.*HF_TOKEN'):
    hub_upload.push(str(tmp_path), 'me/open', 'message')
  assert 'me/open' not in there.repositories


def test_an_upload_without_network_is_told(monkeypatch, tmp_path):
  test_hub.unreachable(monkeypatch, tmp_path / 'cache')
  monkeypatch.setenv('HF_TOKEN', 'writer')
  (tmp_path / 'file').write_text('x')
  with pytest.raises(OSError, match='cannot be reached.*nothing was uploaded'):
    hub_upload.push(str(tmp_path), 'me/open', 'message')


def test_weights_of_this_machine_alone_are_not_pushed(
  weights, tmp_path, capsys
):
  folder = tmp_path / 'folder'
  path = tmp_path / 'classifier'
  flags = f'--video={path}', SIDES[1], f'--output={folder}'
  assert run(bank, 'build', *flags) == 0
  assert push(folder) == 1
  error = capsys.readouterr().err
  assert f'--video={path} are only on this machine' in error
  assert 'me/open' not in weights.repositories
  exported = tmp_path / 'exported'
  assert run(bank, 'export', f'--workdir={folder}', f'--output={exported}') == 0
  assert f'--video={path} are not copied' in capsys.readouterr().out
  assert saved_encoders.load(str(exported)).seen_classes == shared.SEEN
  # Weights that have moved can be found again.
  shutil.move(path, tmp_path / 'moved')
  with pytest.raises(FileNotFoundError, match='write their new place'):
    saved_encoders.load(str(exported))
  text = (exported / 'encoders.json').read_text()
  (exported / 'encoders.json').write_text(
    text.replace(str(path), str(tmp_path / 'moved'))
  )
  assert saved_encoders.load(str(exported)).seen_classes == shared.SEEN


@pytest.mark.parametrize(
  'flags, message',
  [
    (['export', '--workdir=x'], 'export needs --output, or --push'),
    (['export', '--workdir=x', '--push=name'], 'expected org/name'),
    (['export', '--workdir=x', '--push=a/b/c'], 'expected org/name'),
    (['build', '--workdir=x', '--push=a/b'], '--push belongs to export'),
    (['export', '--video=x', '--push=a/b'], '--video belongs to build'),
    (['build', '--text=x', '--output=y'], '--video and --text together'),
  ],
)
def test_bad_flags(flags, message, capsys):
  assert run(bank, *flags) == 1
  assert message in capsys.readouterr().err


def test_a_card_shows_what_was_measured():
  folder = model_files.resolve('stick_figures')
  model = zsar_jax.load(folder)
  results = json_files.read(os.path.join(folder, 'results.json'))
  card = model_card.make(model.recognizer, model.bank, results=results)
  assert '## Results' in card and 'nearest_name' in card
  assert '| public weights | random |' in card
  assert 'license' not in card and 'base_model' not in card
