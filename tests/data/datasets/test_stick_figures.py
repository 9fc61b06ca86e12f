import inspect
import io
import sys

import av
import numpy as np
import pytest

from tests import processes
from zsar_jax.data.datasets import records, stick_figures
from zsar_jax.data.datasets import stick_figure_classes as classes
from zsar_jax.data.datasets import stick_figure_nuisance as nuisances
from zsar_jax.data.datasets import stick_figure_renderer as renderer

TINY = {'num_seen': 3, 'clips_per_class': 2, 'test_clips_per_class': 1}


@pytest.fixture(scope='module')
def built(tmp_path_factory):
  builder = stick_figures.make_builder(tmp_path_factory.mktemp('data'), **TINY)
  builder.download_and_prepare()
  return str(builder.data_dir)


def _default_clips():
  return stick_figures.clips(stick_figures.StickFiguresConfig())


def test_default_has_the_promised_number_of_clips():
  sizes = {split: len(clips) for split, clips in _default_clips().items()}
  assert sizes == {'train': 24 * 24, 'validation': 24 * 6, 'test': 12 * 20}


def test_no_two_clips_share_a_nuisance_seed():
  seeds = [
    c.nuisance.seed for clips in _default_clips().values() for c in clips
  ]
  assert len(set(seeds)) == len(seeds)
  # Nor can they, whatever the number of clips: the ranges do not meet.
  last = stick_figures.MAX_CLIPS_PER_CLASS - 1
  ranges = sorted(
    (
      stick_figures.nuisance_seed(split, name, 0),
      stick_figures.nuisance_seed(split, name, last),
    )
    for split in stick_figures.SPLITS
    for name in classes.CLASS_NAMES
  )
  starts, ends = np.array(ranges).T
  assert (ends[:-1] < starts[1:]).all()


def test_nuisance_is_drawn_without_the_class():
  parameters = inspect.signature(nuisances.draw_nuisance).parameters
  assert list(parameters) == ['seed', 'strength']


@pytest.mark.parametrize('attribute', ['verb', 'place', 'manner', 'class'])
def test_nuisance_does_not_tell_the_class(attribute):
  clips = _default_clips()['train']
  labels = [
    c.name
    if attribute == 'class'
    else classes.class_attributes(c.name)[attribute]
    for c in clips
  ]
  values, label_ids = np.unique(labels, return_inverse=True)
  groups = [np.flatnonzero(label_ids == i) for i in range(len(values))]
  for field in ('speed', 'phase', 'height', 'centre_x', 'drift_x', 'fps',
                'duration', 'texture_contrast', 'thickness'):  # fmt: skip
    x = np.array([getattr(c.nuisance, field) for c in clips], float)
    # One-way analysis of variance: F is about 1 without a relation.
    between = sum(len(g) * (x[g].mean() - x.mean()) ** 2 for g in groups)
    within = sum(((x[g] - x[g].mean()) ** 2).sum() for g in groups)
    f = between / (len(groups) - 1) / (within / (len(x) - len(groups)))
    assert f < {2: 11.0, 6: 4.2, 24: 2.2}[len(groups)], field


def test_smaller_datasets_are_part_of_larger_ones():
  small = stick_figures.clips(stick_figures.StickFiguresConfig(**TINY))
  large = _default_clips()
  for split in stick_figures.SPLITS:
    assert set(small[split]) < set(large[split])


def test_config_name_tells_the_values():
  config = stick_figures.StickFiguresConfig(num_seen=12, nuisance=0)
  assert config.name == 'seen12_clips24_test20_nuisance0.0_split0_size64'


@pytest.mark.parametrize(
  'bad',
  [
    {'nuisance': -0.5},
    {'nuisance': 2.0},
    {'num_seen': 25},
    {'num_seen': 0},
    {'clips_per_class': 0},
    {'test_clips_per_class': 10_001},
    {'split_seed': -1},
    {'size': 63},
    {'size': 8},
  ],
)
def test_bad_values_raise_and_are_named(bad, tmp_path):
  with pytest.raises(ValueError, match=next(iter(bad))):
    stick_figures.make_builder(tmp_path, **bad)


@pytest.mark.parametrize('split', stick_figures.SPLITS)
def test_built_split_opens_and_decodes(built, split):
  source = records.open_split(built, split)
  config = stick_figures.StickFiguresConfig(**TINY)
  clips = stick_figures.clips(config)[split]
  assert source.index.ids == tuple(c.id for c in clips)
  assert source.index.labels == tuple(c.name for c in clips)
  assert source.index.groups == tuple(c.group for c in clips)
  for i, clip in enumerate(clips):
    video = source.read_file(i)
    with av.open(io.BytesIO(video)) as container:
      assert container.metadata['comment'] == records.RENDERED_TAG
      frames = list(container.decode(video=0))
    assert len(frames) == clip.nuisance.num_frames
    assert (frames[0].width, frames[0].height) == (config.size, config.size)
    # Threads have not changed a byte.
    action = classes.class_attributes(clip.name)
    again = renderer.render_clip(action, clip.nuisance, config.size)
    assert video == again


def test_metadata_describes_classes_and_nuisance(built):
  metadata = records.read_metadata(built)
  seen, unseen = classes.class_split(0, TINY['num_seen'])
  assert metadata['domain'] == records.RENDERED_DOMAIN
  assert metadata['unreadable'] == []
  assert metadata['seen_classes'] == list(seen)
  assert metadata['unseen_classes'] == list(unseen)
  assert metadata['class_attributes'] == {
    name: classes.class_attributes(name) for name in classes.CLASS_NAMES
  }
  for split, columns in metadata['nuisance'].items():
    seeds = [f'seed{seed}' for seed in columns['seed']]
    assert seeds == metadata['videos'][split]['group']
    redrawn = nuisances.draw_nuisance(columns['seed'][0])
    assert columns['speed'][0] == redrawn.speed
    assert columns['figure_color'][0] == list(redrawn.figure_color)


def test_building_needs_no_tensorflow(tmp_path):
  program = (
    'import sys\n'
    'from zsar_jax.data.datasets import stick_figures\n'
    'stick_figures.make_builder(sys.argv[1], num_seen=2, clips_per_class=1,'
    ' test_clips_per_class=1).download_and_prepare()\n'
    'assert "tensorflow" not in sys.modules\n'
  )
  done = processes.run([sys.executable, '-c', program, tmp_path])
  assert done.returncode == 0, done.stderr
