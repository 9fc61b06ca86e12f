"""Banks of public encoders made of videos, and their calibration."""

import json

import numpy as np
import pytest

from tests import videos
from tests.commands import run
from tests.inference import test_public_encoders as shared
from tests.pretrained import tiny_weights
import zsar_jax
from zsar_jax import bank, evaluate, predict
from zsar_jax.data.datasets import stick_figures
from zsar_jax.data.protocols import (
  bank_protocols,
  prepared_dataset,
  split_choice,
)
from zsar_jax.evaluation import embedding
from zsar_jax.inference import (
  confidence,
  embedders,
  prototype_bank,
  public_banks,
  public_folders,
)


@pytest.fixture(scope='module')
def dataset(tmp_path_factory):
  builder = stick_figures.make_builder(
    tmp_path_factory.mktemp('data'),
    num_seen=5,
    clips_per_class=4,
    test_clips_per_class=2,
    size=32,
  )
  builder.download_and_prepare()
  return str(builder.data_dir)


@pytest.fixture(scope='module')
def seen(dataset):
  """The classes of the training split."""
  return prepared_dataset.PreparedDataset(dataset).metadata['seen_classes']


@pytest.fixture(scope='module')
def weights(seen, tmp_path_factory):
  """A classifier that knows a class of the dataset, a text encoder, a CLIP."""
  folder = tmp_path_factory.mktemp('weights')
  clip = tiny_weights.clip_config()
  clip['text_config']['max_position_embeddings'] = 77
  labels = {**shared.LABELS, '1': sorted(seen)[0]}
  return {
    'classifier': shared.write_classifier(folder / 'classifier', labels=labels),
    'text': tiny_weights.write_bert(
      folder / 'bert', {'max_position_embeddings': 40}
    ),
    'clip': tiny_weights.write_clip(folder / 'clip', clip),
  }


@pytest.fixture(scope='module')
def opened(weights):
  """Encoders, each pair once: to open them compiles them."""
  pairs = (('classifier', 'text'), ('clip', 'clip'))
  return {
    (video, text): public_folders.open_sides(weights[video], weights[text])
    for video, text in pairs
  }


@pytest.fixture(scope='module')
def build(opened, dataset, tmp_path_factory):
  """Builds folders, each once."""
  made = {}

  def run(video, text, prototypes=''):
    key = (video, text, prototypes)
    if key not in made:
      made[key] = path = str(tmp_path_factory.mktemp('banks') / 'folder')
      encoders = opened[video, text]
      public_folders.write(path, encoders)
      prototype_bank.save_bank(
        public_banks.make_bank(
          encoders, public_banks.Choice(prototypes, dataset)
        ),
        f'{path}/bank.safetensors',
      )
    return made[key]

  return run


def load(folder):
  return prototype_bank.load_bank(f'{folder}/bank.safetensors')


@pytest.fixture(scope='module')
def means(opened, dataset, seen):
  """Unit means of each class's training videos less their mean, by hand."""
  own = bank_protocols.make_own_protocol(dataset)
  assert own.seen_classes == tuple(sorted(seen))
  embed = embedders.make_embedder(opened['classifier', 'text'])
  z = embed(own.train).embeddings[:, 0].astype(np.float64)
  unit = lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True)
  labels = own.train.labels
  of = unit(np.stack([z[labels == c].mean(axis=0) for c in range(len(seen))]))
  return unit(of - of.mean(axis=0))


def test_videos_alone_make_prototypes(build, means, seen):
  folder = build('classifier', 'text', 'videos')
  made = load(folder)
  assert made.seen_classes == tuple(sorted(seen))
  assert made.counts.min() >= 2 and 'rendered' in made.domain
  np.testing.assert_allclose(made.seen_prototypes, means, atol=1e-4)
  # What example videos lose, too.
  assert made.centre.shape == (32,) and 0 < np.linalg.norm(made.centre) < 1
  assert 'from the others' in made.calibration['measured_on']


def test_videos_and_columns_make_one_bank(build, means, seen):
  folder = build('classifier', 'text')
  made = load(folder)
  columns = load(build('classifier', 'text', 'classifier'))
  assert set(made.seen_classes) == {*seen, *columns.seen_classes}
  row = dict(zip(made.seen_classes, made.seen_prototypes, strict=True))
  column = dict(zip(columns.seen_classes, columns.seen_prototypes, strict=True))
  count = dict(zip(made.seen_classes, made.counts.tolist(), strict=True))
  by_hand = dict(zip(sorted(seen), means, strict=True))
  np.testing.assert_allclose(row['row'], column['row'], atol=1e-6)
  assert count['row'] == 0
  shared_name, other = sorted(seen)[:2]
  np.testing.assert_allclose(row[other], by_hand[other], atol=1e-4)
  # A column counts as much as ten videos.
  n = count[shared_name]
  mixed = 10 * column[shared_name] + n * by_hand[shared_name]
  np.testing.assert_allclose(
    row[shared_name], mixed / np.linalg.norm(mixed), atol=1e-4
  )
  assert 'trained on 1 of the classes' in made.calibration['measured_on']


def test_a_classifier_is_calibrated_on_videos(build, dataset):
  made = load(build('classifier', 'text', 'classifier'))
  own = bank_protocols.make_own_protocol(dataset)
  used = len(own.train) + len(own.validation)
  assert made.counts.sum() == 0 and made.calibration['num_videos'] == used
  of_videos = load(build('classifier', 'text', 'videos')).centre
  assert 0.9 < np.dot(made.centre, of_videos) / np.linalg.norm(
    made.centre
  ) / np.linalg.norm(of_videos)
  assert made.protocol.startswith('classifier + stick_figures')


def test_a_folder_is_calibrated_later_and_added_to(
  weights, build, dataset, tmp_path, capsys
):
  folder, path = tmp_path / 'folder', tmp_path / 'bank.safetensors'
  sides = f'--video={weights["classifier"]}', f'--text={weights["text"]}'
  assert run(bank, 'build', *sides, f'--output={folder}') == 0
  assert load(folder).calibration is None
  flags = f'--workdir={folder}', f'--dataset={dataset}'
  flags = (*flags, '--prototypes=classifier')
  assert run(bank, 'build', *flags, f'--output={path}') == 0
  made = prototype_bank.load_bank(str(path))
  once = load(build('classifier', 'text', 'classifier'))
  assert made.calibration == once.calibration
  more = tmp_path / 'more.safetensors'
  flags = f'--workdir={folder}', '--classes=word7', f'--output={more}'
  assert run(bank, 'add', path, *flags) == 0
  assert 'word7  <- ' in capsys.readouterr().out
  model = zsar_jax.load(str(more), str(folder))
  assert model.classes == ('word7',) and model.bank.calibration


def test_a_build_that_is_interrupted_leaves_no_bank_and_goes_on(
  weights, dataset, tmp_path, monkeypatch
):
  path = tmp_path / 'bank'
  argv = [
    'bank',
    'build',
    f'--video={weights["classifier"]}',
    f'--text={weights["text"]}',
    f'--dataset={dataset}',
    '--descriptions=',
    f'--output={path}',
  ]

  def interrupt(*_):
    raise KeyboardInterrupt

  with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
    patch.setattr(public_folders, 'write', interrupt)
    bank.main(argv)
  assert [p.name for p in tmp_path.iterdir()] == ['bank.unfinished']
  # The embeddings are there already.
  monkeypatch.setattr(embedding.Embedder, '_compute', interrupt)
  bank.main(argv)
  assert [p.name for p in tmp_path.iterdir()] == ['bank']
  names = {'bank.safetensors', 'encoders.json', 'embeddings'}
  assert {p.name for p in path.iterdir()} == names
  assert load(path).calibration


def test_a_dual_encoder_has_a_bank_too(build, tmp_path, capsys):
  folder = build('clip', 'clip')
  capsys.readouterr()
  video = videos.write_video(
    tmp_path / 'v.mp4', videos.numbered_frames(12, 32, 32), fps=10
  )
  flags = [
    f'--workdir={folder}',
    f'--video={video}',
    '--classes=rowing,running',
  ]
  assert run(predict, *flags, '--reject_below=0', '--explain', '--json') == 0
  answer = json.loads(capsys.readouterr().out)
  ranked = answer['ranking'][0]
  total = sum(r['probability'] for r in answer['ranking'])
  assert total + answer['none_of_these'] == pytest.approx(1)
  assert ranked['nearest_name'] is not None and ranked['composited_from']
  assert answer['probabilities'].startswith('calibrated on ')
  assert 'measured on' in answer['risk']
  assert run(predict, *flags, '--segments', '--json') == 0
  found = json.loads(capsys.readouterr().out)
  assert found['segments'][0]['start'] == 0
  assert found['weights'] == answer['weights']


def test_gzsl_and_report_of_a_bank(build, dataset, tmp_path, capsys):
  folder = build('clip', 'clip')
  split = prepared_dataset.PreparedDataset(dataset).metadata
  path, page = tmp_path / 'split.json', tmp_path / 'page.html'
  path.write_text(
    json.dumps(
      {'seen': split['seen_classes'], 'unseen': split['unseen_classes']}
    )
  )
  output = tmp_path / 'out/results.json'
  code = run(
    evaluate,
    f'--workdir={folder}',
    f'--dataset={dataset}',
    f'--class_split={path}',
    f'--output={output}',
    f'--report={page}',
  )
  assert code == 0, capsys.readouterr().err
  content = json.loads(output.read_text())
  metrics = {(row['method'], row['metric']) for row in content['rows']}
  for method in ('transfer', 'nearest_name'):
    assert (method, 'gzsl_harmonic_mean') in metrics
  # As for a trained run: a still frame, and frames in another order.
  for control in ('control_first_frame', 'control_shuffled_frames'):
    assert (control, 'per_class') in metrics
  measured = content['facts']['calibration']['measured_on']
  assert measured == load(folder).calibration['measured_on']
  assert measured in page.read_text()


def test_videos_for_gzsl_served_nothing_else(dataset, seen):
  own = bank_protocols.make_own_protocol(dataset)
  used = {*own.train.ids, *own.validation.ids}
  assert len(own.seen_test) and not used & set(own.seen_test.ids)
  # The same division, whatever was dropped.
  drop = sorted(seen)[:1]
  fewer = bank_protocols.make_own_protocol(dataset, drop)
  assert set(fewer.train.ids) < set(own.train.ids)
  assert {own.seen_classes[i] for i in own.train.labels} == set(seen)
  assert {fewer.seen_classes[i] for i in fewer.train.labels} == set(seen) - set(
    drop
  )
  metadata = prepared_dataset.PreparedDataset(dataset).metadata
  for protocol, kept in ((own.name, own.seen_test), ('', None)):
    of = bank_protocols.Seen(tuple(seen), 'x', protocol)
    dataset_of = prepared_dataset.PreparedDataset(dataset)
    found = bank_protocols._seen_test(
      dataset_of, of, set(metadata['unseen_classes'])
    )
    ids = {*own.train.ids, *own.validation.ids, *own.seen_test.ids}
    assert set(found.ids) == (set(kept.ids) if kept is not None else ids)
    names = dict(zip(found.ids, found.labels, strict=True))
    for i, label in zip(own.seen_test.ids, own.seen_test.labels, strict=True):
      assert tuple(seen)[names[i]] == own.seen_classes[label]


def test_too_little_to_calibrate_says_so(
  weights, dataset, seen, tmp_path, capsys
):
  flags = [
    f'--video={weights["classifier"]}',
    f'--text={weights["text"]}',
    f'--dataset={dataset}',
    f'--output={tmp_path / "out"}',
    '--prototypes=videos',
    f'--drop_seen={",".join(sorted(seen)[2:])}',
  ]
  assert run(bank, 'build', *flags) == 0
  out = capsys.readouterr().out
  assert 'a calibration needs 3 classes or more' in out
  assert 'probabilities: none, because the bank has no calibration' in out


def test_a_calibration_on_few_videos_is_warned_of(
  weights, dataset, seen, tmp_path, capsys
):
  folder = tmp_path / 'few'
  flags = [
    f'--video={weights["classifier"]}',
    f'--text={weights["text"]}',
    f'--dataset={dataset}',
    f'--output={folder}',
    '--prototypes=videos',
    f'--drop_seen={",".join(sorted(seen)[3:])}',
  ]
  assert run(bank, 'build', *flags) == 0
  fitted = load(folder).calibration
  assert fitted['num_classes'] == 3 and 0 < fitted['num_videos'] < 50
  text = (
    f'only {fitted["num_videos"]} videos of 3 classes (at least 50 videos and '
    '5 classes are advised)\n'
  )
  assert capsys.readouterr().out.count(text) == 1
  video = videos.write_video(
    tmp_path / 'v.mp4', videos.numbered_frames(12, 32, 32), fps=10
  )
  both = f'--video={video},{video}'
  assert run(predict, f'--workdir={folder}', both, '--classes=x,y') == 0
  assert capsys.readouterr().out.count(text) == 1


@pytest.mark.parametrize(
  'num_videos, num_classes, few',
  [
    (49, 5, 'only 49 videos of 5 classes'),
    (50, 4, 'only 50 videos of 4 classes'),
    (49, 0, 'only 49 videos (at least'),
    (50, 5, ''),
    (50, 0, ''),
  ],
)
def test_how_few_videos_are_few(build, num_videos, num_classes, few):
  made = load(build('classifier', 'text', 'videos')).calibration
  changed = {**made, 'num_videos': num_videos, 'num_classes': num_classes}
  if not num_classes:
    del changed['num_classes']  # as earlier versions wrote it
  warnings = confidence.Confidence(changed, False).warnings
  assert len(warnings) == bool(few) and few in ''.join(warnings)


def test_single_sessions_are_all_for_training(dataset, monkeypatch):
  whole = bank_protocols.make_own_protocol(dataset)

  def nothing_to_hold_out(*args):
    raise ValueError('no recording session can be held out')

  monkeypatch.setattr(
    prepared_dataset.PreparedDataset, 'training_videos', nothing_to_hold_out
  )
  own = bank_protocols.make_own_protocol(dataset)
  assert set(own.train.ids) == set(whole.train.ids)
  assert not len(own.validation) and not len(own.seen_test)


@pytest.mark.parametrize(
  'flags, message',
  [
    (['--video=classifier', '--prototypes=both'], 'both needs --dataset'),
    (['--video=classifier', '--prototypes=videos'], 'videos needs --dataset'),
    (['--video=clip'], 'has no classifier to make prototypes from: give'),
    (['--video=clip', '--dataset=D', '--prototypes=both'], 'has no classifier'),
    (['--video=clip', '--dataset=D', '--drop_seen=row'], 'has no class row'),
    (['--video=clip', '--dataset=nowhere'], 'nowhere'),
  ],
)
def test_bad_choices(weights, dataset, tmp_path, flags, message, capsys):
  video = flags[0].partition('=')[2]
  text = 'clip' if video == 'clip' else 'text'
  given = [f'--video={weights[video]}', f'--text={weights[text]}']
  given += [flag.replace('=D', f'={dataset}') for flag in flags[1:]]
  assert run(bank, 'build', *given, f'--output={tmp_path / "out"}') == 1
  assert message in capsys.readouterr().err
  assert not (tmp_path / 'out').exists()


def test_too_few_classes_left_are_refused(opened, dataset, seen):
  encoders = opened['classifier', 'text']

  def make(prototypes, drop):
    choice = public_banks.Choice(prototypes, dataset, drop)
    return public_banks.make_bank(encoders, choice)

  with pytest.raises(ValueError, match='leaves 1 of 5 classes of .*; at least'):
    make('videos', sorted(seen)[1:])
  labels = encoders.video.labels
  with pytest.raises(ValueError, match='leaves 0 of 5 .*; at least 1 must'):
    make('both', labels)
  # The classes of the videos come to the one that is left of the classifier.
  assert set(make('both', labels[1:]).seen_classes) == {
    labels[0],
    *(name for name in seen if name not in labels),
  }


def test_a_clip_is_measured_without_seen_classes(
  weights, opened, dataset, tmp_path
):
  output = tmp_path / 'clip' / 'results.json'
  command = [
    'evaluate',
    f'--pretrained={weights["clip"]}',
    f'--dataset={dataset}',
    f'--output={output}',
    f'--report={tmp_path / "report.html"}',
  ]
  evaluate.main(command)
  content = json.loads(output.read_text())
  rows = {(r['method'], r['metric']): r['value'] for r in content['rows']}
  assert {method for method, _ in rows} == {
    'nearest_name',
    'floor_chance',
    'floor_verb_only',
    'floor_place_only',
    'floor_manner_only',
  }
  assert content['initialisation'].startswith('video=clip:')
  assert 'nearest_name' in (tmp_path / 'report.html').read_text()
  # The same by hand.
  encoders = opened['clip', 'clip']
  (protocol,) = bank_protocols.make_bank_protocols(
    bank_protocols.Seen((), ''),
    split_choice.SplitChoice(test_dataset_dir=dataset),
  )
  z = embedders.make_embedder(encoders)(protocol.test).embeddings[:, 0]
  t = encoders.encode_class_names(protocol.unseen_classes)['embedding']
  right = np.argmax(z @ t.T, axis=1) == protocol.test.labels
  assert rows['nearest_name', 'top1'] == pytest.approx(right.mean(), abs=0.02)
  # Kept for a second evaluation.
  assert any((output.parent / 'embeddings').rglob('*.safetensors'))
  with pytest.raises(ValueError, match='public weights, which have no dataset'):
    evaluate.main(['evaluate', f'--pretrained={weights["clip"]}'])
