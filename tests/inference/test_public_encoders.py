"""Public weights as encoders, and banks from a classifier's columns."""

import dataclasses
import json
import os

import numpy as np
import pytest

from tests import videos
from tests.pretrained import test_video, tiny_weights
import zsar_jax
from zsar_jax import bank, evaluate, predict
from zsar_jax.data.datasets import stick_figures
from zsar_jax.data.protocols import prepared_dataset
from zsar_jax.inference import (
  action_model,
  classifier_bank,
  example_videos,
  prototype_bank,
  public_encoders,
  public_folders,
  public_sides,
  saved_encoders,
)

SEEN = ('row', 'arm row', 'word1 word2', 'word3', 'word4 row')
LABELS = {str(i): name for i, name in enumerate(SEEN)}
RNG = np.random.default_rng(1)
COLUMNS = RNG.normal(size=(len(SEEN), 32)).astype(np.float32)


def write_classifier(path, columns=COLUMNS, labels=LABELS):
  """A ViT classifier of frames, without torch."""
  changes = {'classifier.weight': columns}
  changes['classifier.bias'] = np.zeros(len(columns), np.float32)
  config = {} if labels is None else {'id2label': labels}
  test_video.write_vit(path, changes, **config)
  tiny_weights.write_json(
    path / 'preprocessor_config.json',
    {'size': 24, 'image_mean': [0.5] * 3, 'image_std': [0.5] * 3},
  )
  return str(path)


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
  folder = tmp_path_factory.mktemp('weights')
  return {
    'video': write_classifier(folder / 'classifier'),
    'text': tiny_weights.write_bert(folder / 'bert'),
    'clip': tiny_weights.write_clip(folder / 'clip'),
  }


@pytest.fixture(scope='module')
def encoders(weights):
  return public_folders.open_sides(weights['video'], weights['text'])


@pytest.fixture(scope='module')
def folder(weights, tmp_path_factory):
  path = str(tmp_path_factory.mktemp('bank') / 'folder')
  bank.main(
    [
      'bank',
      'build',
      f'--video={weights["video"]}',
      f'--text={weights["text"]}',
      f'--output={path}',
      '--licence=CC-BY-4.0',
    ]
  )
  return path


@pytest.fixture(scope='module')
def video(tmp_path_factory):
  path = tmp_path_factory.mktemp('v') / 'v.mp4'
  return videos.write_video(path, videos.blocks(seed=1))


def clips(n, views, prep):
  shape = (n, views, prep.num_frames, prep.size, prep.size, 3)
  return np.random.default_rng(0).integers(0, 255, shape, np.uint8)


def test_both_sides_embed_into_unit_vectors_of_their_own(encoders):
  z, match = encoders.encode_videos(clips(2, 3, encoders.prep), SEEN)
  assert z.shape == (2, 3, 32) and match.shape == (2, 0)
  t = encoders.encode_class_names(SEEN)['embedding']
  assert t.shape == (5, 16)
  for x in (z, t):
    np.testing.assert_allclose(np.linalg.norm(x, axis=-1), 1, rtol=1e-5)
  assert not encoders.joint and encoders.seen_classes == SEEN


def test_logits_are_products_with_the_columns(weights, encoders):
  # The features are those that the classifier's last layer reads.
  from zsar_jax.models import video_encoder
  from zsar_jax.pretrained import directory
  from zsar_jax.pretrained import video as video_weights

  kwargs, params = video_weights.load_video_encoder(
    directory.read_weights(weights['video']), num_frames=8
  )
  one = clips(1, 1, encoders.prep)
  x = (one[0].astype(np.float32) / 255 - 0.5) / 0.5
  pooled = video_encoder.VideoEncoder(**kwargs).apply({'params': params}, x)
  features = np.asarray(pooled['pooled'])
  np.testing.assert_allclose(
    encoders.video.embed(one)[0],
    features / np.linalg.norm(features),
    rtol=1e-4,
    atol=1e-6,
  )


def prototypes_of(columns):
  return classifier_bank.prototypes(columns, SEEN, 'S')


def test_prototypes_are_centred_columns():
  columns = np.array([[3.0, 0], [0, 4], [0, 0]])
  found = prototypes_of(columns)
  away = columns - columns.mean(axis=0)
  np.testing.assert_allclose(
    found, away / np.linalg.norm(away, axis=1, keepdims=True), rtol=1e-6
  )
  # A constant that all columns share changes no prototype.
  np.testing.assert_allclose(prototypes_of(columns + 7), found, rtol=1e-6)
  with pytest.raises(ValueError, match='at least two classes'):
    prototypes_of(columns[:1])
  with pytest.raises(ValueError, match="S: .* class 'word1 word2' equals"):
    prototypes_of(np.array([[1.0], [-1.0], [0.0]]))
  # Their mean is not one of them to the last bit.
  with pytest.raises(ValueError, match='equals the mean of all 3 classes'):
    prototypes_of(np.full((3, 2), 0.1))


def test_the_bank_of_a_classifier(folder, encoders):
  made = prototype_bank.load_bank(os.path.join(folder, 'bank.safetensors'))
  assert made.seen_classes == SEEN and made.licence == 'CC-BY-4.0'
  assert made.weights_hash == encoders.weights_hash
  np.testing.assert_allclose(
    made.seen_prototypes, prototypes_of(COLUMNS), rtol=1e-6
  )
  np.testing.assert_allclose(
    made.class_embeddings,
    encoders.encode_class_names(SEEN)['embedding'],
    rtol=1e-5,
    atol=1e-6,
  )


def test_dropped_classes_move_no_other_prototype(encoders):
  made = classifier_bank.make_bank(encoders, ['word3', 'arm_row'])
  assert made.seen_classes == ('row', 'word1 word2', 'word4 row')
  np.testing.assert_array_equal(
    made.seen_prototypes, prototypes_of(COLUMNS)[[0, 2, 4]]
  )
  with pytest.raises(ValueError, match='has no class juggling'):
    classifier_bank.make_bank(encoders, ['juggling'])


@pytest.mark.parametrize(
  'drop, reason',
  [
    (SEEN, 'drop_seen leaves 0 of 5 classes of .*; at least 2 must stay'),
    (SEEN[1:], 'drop_seen leaves 1 of 5 classes of .*; at least 2 must stay'),
    (',', "drop_seen: empty class name ''"),
  ],
)
def test_too_few_classes_left_are_refused(drop, reason, weights, tmp_path):
  path = str(tmp_path / 'folder')
  with pytest.raises(ValueError, match=reason):
    bank.main(
      [
        'bank',
        'build',
        f'--video={weights["video"]}',
        f'--text={weights["text"]}',
        f'--output={path}',
        f'--drop_seen={",".join(drop) if drop != "," else drop}',
      ]
    )
  assert not os.path.exists(path)


def test_a_folder_predicts_as_a_run_does(folder, video, capsys):
  predict.main(
    [
      'predict',
      f'--workdir={folder}',
      f'--video={video}',
      '--classes=row,word7,word8',
      '--json',
    ]
  )
  answer = json.loads(capsys.readouterr().out)
  by_name = {r['name']: r for r in answer['ranking']}
  # A class that the classifier knows is answered by its own column.
  assert by_name['row']['composited_from'][0] == ['row', 1.0]
  assert by_name['row']['nearest_name'] is None
  assert by_name['row']['match_logit'] is None
  assert any('seen in training' in text for text in answer['warnings'])
  # The text side has read far more than the names of the classifier.
  assert not any('words that' in text for text in answer['warnings'])
  model = zsar_jax.load(folder).add_classes(['row', 'word7', 'word8'])
  read = example_videos.read(model.recognizer, video)
  z, _ = model.recognizer.encode_videos(read.clips[None], ())
  column = prototypes_of(COLUMNS)[0]
  assert by_name['row']['score'] == pytest.approx(
    float(z[0, 0] @ column), abs=1e-5
  )


def test_embeddings_that_are_not_finite_are_no_ranking(weights, video):
  for side in ('video', 'clip'):
    good = public_folders.open_sides(weights[side], weights['clip'])
    embed, params = good.video.program
    bad = (lambda params, clips, f=embed: f(params, clips) * np.nan, params)
    recognizer = public_encoders.PublicEncoders(
      dataclasses.replace(good.video, program=bad), good.text
    )
    found = classifier_bank.make_bank(good) if side == 'video' else None
    model = action_model.ActionModel(recognizer, found)
    model.add_classes(['row', 'arm'])
    with pytest.raises(ValueError, match='video encoder: .* not finite'):
      model.predict(video)
  with pytest.raises(ValueError, match='video encoder: .* not finite'):
    list(model.windows(video))


def test_clip_is_both_sides_at_once(weights):
  both = public_folders.open_sides(weights['clip'], weights['clip'])
  assert both.joint and both.seen_classes == ()
  z, match = both.encode_videos(clips(1, 2, both.prep), ['row', 'arm'])
  t = both.encode_class_names(['row', 'arm'])['embedding']
  np.testing.assert_allclose(
    match[0], both.text.scale * (z[0] @ t.T).mean(axis=0), rtol=1e-4, atol=1e-5
  )
  with pytest.raises(ValueError, match='no classifier'):
    classifier_bank.make_bank(both)


def test_clip_with_another_text_side_has_no_joint_space(weights):
  apart = public_folders.open_sides(weights['clip'], weights['text'])
  assert not apart.joint
  assert apart.encode_videos(clips(1, 1, apart.prep), ['row'])[1].size == 0


def test_weights_that_changed_are_refused(weights, tmp_path):
  moved = write_classifier(tmp_path / 'classifier')
  path = str(tmp_path / 'folder')
  public_folders.write(path, public_folders.open_sides(moved, weights['text']))
  assert saved_encoders.load(path).seen_classes == SEEN
  write_classifier(tmp_path / 'classifier', columns=COLUMNS + 1)
  with pytest.raises(ValueError, match='have changed: .* build the bank again'):
    saved_encoders.load(path)
  with pytest.raises(ValueError, match='not a run, so it has no --step'):
    saved_encoders.load(path, step=3)


@pytest.mark.parametrize(
  'labels, columns, message',
  [
    (None, COLUMNS, 'has no id2label'),
    ({'0': 'row', '1': 'LABEL_1'}, COLUMNS[:2], "called \\['LABEL_1'\\]"),
    ({'0': 'row', '2': 'arm'}, COLUMNS[:2], 'from 0 to 1'),
    ({'0': 'row', 'x': 'arm'}, COLUMNS[:2], 'no number'),
    ({'0': 'Row', '1': 'row'}, COLUMNS[:2], 'duplicate class name'),
    ({'0': 'row', '1': None}, COLUMNS[:2], "id2label\\['1'\\] is None"),
    ({'0': 'row', '1': 7}, COLUMNS[:2], "id2label\\['1'\\] is 7"),
    (LABELS, COLUMNS[:3], 'shape \\(3, 32\\).*names 5 classes'),
    (
      LABELS,
      COLUMNS[:, :16],
      'model.safetensors: classifier.weight has shape \\(5, 16\\), '
      'expected \\(5, 32\\)',
    ),
  ],
)
def test_classifiers_without_usable_names(tmp_path, labels, columns, message):
  path = write_classifier(tmp_path / 'c', columns, labels)
  with pytest.raises(ValueError, match=message):
    public_sides.open_video(path)


@pytest.mark.parametrize(
  'flags, message',
  [
    (['--video=V', '--output=O'], '--video and --text together'),
    (['--video=V', '--text=T', '--workdir=W', '--output=O'], 'together'),
    (['--video=V', '--text=T', '--output=O', '--drop_seen=x'], 'no class x'),
    (['--video=T', '--text=T', '--output=O'], "model_type is 'bert'"),
    (['--video=V', '--text=V', '--output=O'], "model_type is 'vit'"),
  ],
)
def test_bad_flags_of_build(weights, tmp_path, flags, message):
  for short, value in (
    ('=V', weights['video']),
    ('=T', weights['text']),
    ('=O', str(tmp_path / 'out')),
  ):
    flags = [flag.replace(short, f'={value}') for flag in flags]
  with pytest.raises(ValueError, match=message):
    bank.main(['bank', 'build', *flags])
  assert not (tmp_path / 'out').exists()


def test_a_text_side_without_its_tokenizer(weights, tmp_path):
  path = tiny_weights.write_bert(tmp_path / 'bert')
  os.remove(os.path.join(path, 'vocab.txt'))
  with pytest.raises(FileNotFoundError, match='has no vocab.txt'):
    public_sides.open_text(path)


def test_pooling_is_what_the_sentence_encoder_says(tmp_path):
  path = tiny_weights.write_bert(tmp_path / 'bert')
  mean = public_sides.open_text(path).embed_names(['row', 'arm'])
  (tmp_path / 'bert/1_Pooling').mkdir()
  settings = tmp_path / 'bert/1_Pooling/config.json'
  tiny_weights.write_json(settings, {'pooling_mode_cls_token': True})
  cls = public_sides.open_text(path).embed_names(['row', 'arm'])
  assert np.abs(mean - cls).max() > 1e-2
  tiny_weights.write_json(settings, {'pooling_mode': 'cls'})
  assert public_sides.open_text(path).pooling == 'cls'
  tiny_weights.write_json(settings, {'pooling_mode_max_tokens': False})
  np.testing.assert_array_equal(
    public_sides.open_text(path).embed_names(['row', 'arm']), mean
  )
  for modes in (
    {'_mean_tokens': False},
    {'_max_tokens': True},
    {'_mean_tokens': True, '_max_tokens': True},
    {'_mean_tokens': True, '_cls_token': True},
    {'_cls_token': 'no'},
    {'_mean_tokens': True, '_cls_token': 'no'},
    {'': 'max'},
  ):
    given = {f'pooling_mode{mode}': value for mode, value in modes.items()}
    tiny_weights.write_json(settings, given)
    with pytest.raises(ValueError, match='config.json: only mean and cls'):
      public_sides.open_text(path)


@pytest.fixture(scope='module')
def dataset(tmp_path_factory):
  builder = stick_figures.make_builder(
    tmp_path_factory.mktemp('data'),
    num_seen=4,
    clips_per_class=2,
    test_clips_per_class=2,
    size=32,
  )
  builder.download_and_prepare()
  return str(builder.data_dir)


def test_a_folder_is_evaluated_on_all_classes_of_a_dataset(
  folder, dataset, tmp_path, capsys
):
  output, page = tmp_path / 'out/results.json', tmp_path / 'page.html'
  evaluate.main(
    [
      'evaluate',
      f'--workdir={folder}',
      f'--dataset={dataset}',
      f'--output={output}',
      f'--report={page}',
    ]
  )
  out = capsys.readouterr().out
  assert 'nearest_name: videos and names have no joint space' in out
  content = json.loads(output.read_text())
  assert content['protocol'].endswith(':all classes')
  assert content['initialisation'].startswith('video=classifier:')
  assert 'text=bert:' in content['initialisation']
  methods = {row['method'] for row in content['rows']}
  assert {'transfer', 'transfer_ridge', 'conse', 'floor_chance'} <= methods
  assert not {'nearest_name', 'fusion', 'ridge_to_text'} & methods
  classes = prepared_dataset.PreparedDataset(dataset).classes()
  chance = next(
    row
    for row in content['rows']
    if row['method'] == 'floor_chance' and row['metric'] == 'per_class'
  )
  assert chance['value'] == pytest.approx(1 / len(classes))
  assert '<html' in page.read_text()


def test_leaks_into_a_dataset_are_refused_or_named(
  weights, dataset, tmp_path, capsys
):
  name = prepared_dataset.PreparedDataset(dataset).classes()[0]
  video = write_classifier(tmp_path / 'c', labels={**LABELS, '1': name})
  path = str(tmp_path / 'leaky')
  flags = [f'--video={video}', f'--text={weights["text"]}', f'--output={path}']
  bank.main(['bank', 'build', *flags])
  run = ['evaluate', f'--workdir={path}', f'--dataset={dataset}']
  with pytest.raises(ValueError, match=f'seen {name!r}'):
    evaluate.main(run)
  evaluate.main([*run, '--allow_leaks'])
  out = capsys.readouterr().out
  assert 'NOT STRICT: 1 leaks' in out
  assert 'per_class_without_leaks' in out
  # Without its column nothing leaks by name.
  path = str(tmp_path / 'dropped')
  flags = [*flags[:2], f'--output={path}', f'--drop_seen={name}']
  bank.main(['bank', 'build', *flags])
  capsys.readouterr()
  evaluate.main(['evaluate', f'--workdir={path}', f'--dataset={dataset}'])
  assert f'trained on this, so not zero-shot: {name}' in capsys.readouterr().out


def test_a_folder_has_no_dataset_of_its_own(folder):
  with pytest.raises(ValueError, match='give --dataset'):
    evaluate.main(['evaluate', f'--workdir={folder}'])
