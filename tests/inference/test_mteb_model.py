"""mteb's tasks on videos, run by the model that ships."""

import pathlib
import types

import av
import numpy as np
import pytest

import zsar_jax
from zsar_jax.inference import mteb_model

_EXAMPLES = sorted(
  (
    pathlib.Path(zsar_jax.__file__).parent
    / 'shipped_models/stick_figures/examples'
  ).glob('*.mp4')
)
_NAMES = [path.stem.replace('_', ' ') for path in _EXAMPLES]


class _Decoder:
  """Has what `torchcodec.decoders.VideoDecoder` has, by PyAV."""

  def __init__(self, path):
    with av.open(str(path)) as container:
      self._frames = [
        frame.to_ndarray(format='rgb24').transpose(2, 0, 1)
        for frame in container.decode(video=0)
      ]
      rate = float(container.streams.video[0].average_rate)
    self.metadata = types.SimpleNamespace(
      num_frames=len(self._frames), average_fps=rate
    )

  def get_frames_at(self, indices):
    return types.SimpleNamespace(
      data=np.stack([self._frames[i] for i in indices])
    )


@pytest.fixture(scope='module')
def model():
  return zsar_jax.load('stick_figures')


@pytest.fixture(scope='module')
def adapter(model):
  return mteb_model.MtebModel(model)


def test_scores_are_those_of_semantic_transfer(model, adapter):
  labels = adapter.encode([{'text': [f'a video of {n}' for n in _NAMES]}])
  clips = adapter.encode([{'video': [str(path)]} for path in _EXAMPLES])
  scores = adapter.similarity(clips, labels)
  assert scores.shape == (len(_EXAMPLES), len(_NAMES))
  model.clear_classes().add_classes(_NAMES)
  for path, row in zip(_EXAMPLES, scores, strict=True):
    ranked = {r.name: r.score for r in model.predict(str(path)).ranking}
    np.testing.assert_allclose(row, [ranked[n] for n in _NAMES], atol=1e-5)
  pairs = adapter.similarity_pairwise(clips, labels)
  np.testing.assert_allclose(pairs, np.diagonal(scores), atol=1e-6)


def test_a_decoder_a_path_and_bytes_give_the_same(adapter):
  path = _EXAMPLES[0]
  by_path, by_decoder, by_bytes, by_dict = adapter.encode(
    [
      {
        'video': [
          str(path),
          _Decoder(path),
          {'path': None, 'bytes': path.read_bytes()},
          {'path': str(path), 'bytes': None},
        ]
      }
    ]
  )
  np.testing.assert_array_equal(by_path, by_bytes)
  np.testing.assert_array_equal(by_path, by_dict)
  np.testing.assert_allclose(by_path, by_decoder, atol=1e-3)


def test_labels_may_repeat_and_need_no_prompt(adapter):
  name = _NAMES[0]
  a, b, c = adapter.encode(
    [{'text': [name, f'a photo of {name}']}, {'text': [name.title()]}]
  )
  np.testing.assert_array_equal(a, b)
  np.testing.assert_array_equal(a, c)


@pytest.mark.parametrize(
  'batches, message',
  [
    ([{'audio': [1]}], r"found \['audio'\]"),
    ([{'video': [3]}], 'a video is a int'),
    ([{'video': [{'path': None, 'bytes': None}]}], 'a video is a dict'),
    ([{'text': ['']}], 'labels'),
  ],
)
def test_other_inputs_are_refused(adapter, batches, message):
  with pytest.raises(ValueError, match=message):
    adapter.encode(batches)


def test_mteb_runs_a_task(adapter, tmp_path):
  mteb = pytest.importorskip('mteb')
  import datasets
  from mteb.abstasks import task_metadata, zeroshot_classification

  class Tiny(zeroshot_classification.AbsTaskZeroShotClassification):
    metadata = task_metadata.TaskMetadata(
      name='TinyStickFigures',
      description='Videos that ship with the project.',
      dataset={'path': 'none', 'revision': '1'},
      type='VideoZeroshotClassification',
      category='v2t',
      eval_splits=['test'],
      eval_langs=['eng-Latn'],
      main_score='accuracy',
      modalities=['video', 'text'],
    )
    input_column_name = 'video'

    def load_data(self, **unused):
      self.dataset = datasets.DatasetDict(
        test=datasets.Dataset.from_dict(
          {
            'video': [str(path) for path in _EXAMPLES],
            'label': list(range(len(_EXAMPLES))),
          }
        )
      )
      self.data_loaded = True

    def get_candidate_labels(self):
      return [f'a video of {name}' for name in _NAMES]

  found = mteb.evaluate(
    adapter, [Tiny()], cache=None, show_progress_bar=False, co2_tracker=False
  )
  (result,) = found.task_results
  scores = adapter.similarity(
    adapter.encode([{'video': list(map(str, _EXAMPLES))}]),
    adapter.encode([{'text': _NAMES}]),
  )
  right = np.mean(np.argmax(scores, axis=1) == np.arange(len(_NAMES)))
  assert result.scores['test'][0]['accuracy'] == pytest.approx(right)
  assert right > 0.5
  assert adapter.mteb_model_meta.name.startswith('zsar_jax/')
