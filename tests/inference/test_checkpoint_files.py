"""Damaged files of checkpoints that orbax has written."""

import pathlib
import shutil

import jax
import numpy as np
import pytest

from tests.training.test_checkpointing import META, assert_bit_equal, make_mesh
from zsar_jax.data.datasets import records
from zsar_jax.evaluation import results
from zsar_jax.inference import checkpoint_files, saved_checkpoints
from zsar_jax.training import checkpointing, train_state

ITEMS = ('params', 'training', 'meta', 'ema')


def make_state(step):
  rng = np.random.default_rng(step)
  # Larger than what the index of arrays holds itself.
  params = {'kernel': jax.numpy.asarray(rng.normal(size=(64, 64)))}
  return train_state.TrainState(
    jax.numpy.int32(step), params, {'mu': params}, params
  )


@pytest.fixture(scope='module')
def saved(tmp_path_factory):
  workdir = tmp_path_factory.mktemp('saved')
  with checkpointing.Checkpoints(str(workdir)) as checkpoints:
    for step in (3, 6):
      checkpoints.save(make_state(step), META)
  return workdir


@pytest.fixture
def workdir(saved, tmp_path):
  return pathlib.Path(shutil.copytree(saved, tmp_path / 'run'))


def cut(paths):
  for path in paths:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(paths):
  for path in paths:
    path.write_bytes(b'')


def delete(paths):
  for path in paths:
    path.unlink()


HOWS = (cut, empty, delete)


def main_files(workdir, step, item):
  """Groups of files: with an item's numbers, and those that lead there.

  All of a group, because some hold only what was written anew elsewhere.
  """
  folder = workdir / 'checkpoints' / str(step) / item
  if item == 'meta':
    return [[folder / 'metadata']]
  numbers = sorted((folder / 'ocdbt.process_0' / 'd').iterdir())
  return [
    numbers,
    sorted((folder / 'd').iterdir()),
    [folder / 'manifest.ocdbt'],
  ]


def fault(workdir, step=6, items=ITEMS):
  return checkpoint_files.find_fault(str(workdir / 'checkpoints'), step, items)


def test_whole_checkpoints_have_no_fault(saved):
  assert checkpoint_files.list_steps(str(saved / 'checkpoints')) == [3, 6]
  assert fault(saved, 3) == fault(saved, 6) == fault(saved, 6, ()) == ''
  assert checkpoint_files.list_steps(str(saved / 'nowhere')) == []


@pytest.mark.parametrize('how', HOWS)
@pytest.mark.parametrize('item', ITEMS)
def test_every_file_that_matters_is_looked_at(workdir, item, how):
  for paths in main_files(workdir, 6, item):
    contents = [path.read_bytes() for path in paths]
    how(paths)
    found = fault(workdir)
    folder = paths[0].parent.relative_to(workdir / 'checkpoints' / '6')
    if str(folder) == f'{item}/d':
      words = 'is missing' if how is delete else 'is cut off or empty'
      assert found in [f'{folder}/{path.name} {words}' for path in paths]
    elif folder.name == 'd':
      assert found.startswith(item) and 'kernel is ' in found
    else:
      assert found.startswith(item)
    for path, content in zip(paths, contents, strict=True):
      path.write_bytes(content)
  assert fault(workdir) == ''


def test_an_item_that_is_missing_is_a_fault(workdir):
  shutil.rmtree(workdir / 'checkpoints' / '6' / 'ema')
  assert fault(workdir) == 'ema is missing'
  assert fault(workdir, items=('params', 'training', 'meta')) == ''


def test_numbers_that_do_not_decode_are_a_fault(workdir):
  for path in main_files(workdir, 6, 'params')[0]:
    half = path.stat().st_size // 2
    path.write_bytes(path.read_bytes()[:half] + bytes(half))
  assert fault(workdir).endswith('is damaged')


def test_what_is_whole_to_us_is_whole_to_orbax(workdir):
  """For each file of an item: a fault is found where orbax fails as well."""
  shapes = jax.eval_shape(lambda: make_state(6).params)
  outcomes = set()
  folder = workdir / 'checkpoints' / '6' / 'params'
  for path in sorted(p for p in folder.rglob('*') if p.is_file()):
    content = path.read_bytes()
    cut([path])
    with checkpointing.Checkpoints(str(workdir)) as checkpoints:
      if found := fault(workdir):
        with pytest.raises(ValueError, match='step 6 .* is damaged'):
          checkpoints.restore_params(shapes, make_mesh(8, 1, 1))
      else:
        params = checkpoints.restore_params(shapes, make_mesh(8, 1, 1))
        assert_bit_equal(params, make_state(6).params)
    outcomes.add(bool(found))
    path.write_bytes(content)
  assert outcomes == {True, False}


@pytest.mark.parametrize('how', HOWS)
@pytest.mark.parametrize('item', ITEMS)
def test_training_goes_on_from_the_one_before(workdir, item, how):
  how(main_files(workdir, 6, item)[0])
  said = []
  checkpointing.set_aside_damaged(str(workdir), True, said.append)
  aside = workdir / 'damaged_checkpoints' / '6'
  (warning,) = said
  assert 'warning: the checkpoint of step 6 is damaged' in warning
  assert item in warning and str(aside) in warning
  # Nothing is lost: the damaged one is there still.
  assert (aside / 'params').is_dir() and (aside / 'training').is_dir()
  with checkpointing.Checkpoints(str(workdir)) as checkpoints:
    assert checkpoints.latest_step() == 3
    assert_bit_equal(checkpoints.restore(make_state(0)), make_state(3))
    # The step that was damaged is saved again.
    checkpoints.save(make_state(6), META)
    assert checkpoints.newest_committed() == 6
  assert fault(workdir) == ''
  checkpointing.set_aside_damaged(str(workdir), True, said.append)
  assert len(said) == 1


def test_damaged_twice_both_are_kept(workdir):
  for name in ('6', '6.2'):
    cut(main_files(workdir, 6, 'params')[0])
    checkpointing.set_aside_damaged(str(workdir), True, lambda text: None)
    assert (workdir / 'damaged_checkpoints' / name / 'params').is_dir()
    with checkpointing.Checkpoints(str(workdir)) as checkpoints:
      checkpoints.save(make_state(6), META)


def test_where_all_are_damaged_none_is_moved(workdir):
  for step in (3, 6):
    empty(main_files(workdir, step, 'training')[0])
  with pytest.raises(ValueError, match='are damaged:\n  step 6: training'):
    checkpointing.set_aside_damaged(str(workdir), True, lambda text: None)
  assert not (workdir / 'damaged_checkpoints').exists()
  assert checkpoint_files.list_steps(str(workdir / 'checkpoints')) == [3, 6]


def test_new_workdirs_have_nothing_to_look_at(tmp_path):
  checkpointing.set_aside_damaged(str(tmp_path), False, lambda text: None)
  assert list(tmp_path.iterdir()) == []


def test_inference_names_the_damaged_one_and_a_whole_one(workdir):
  shapes = jax.eval_shape(lambda: make_state(6).params)
  mesh = make_mesh(8, 1, 1)
  cut(main_files(workdir, 6, 'params')[0])
  with saved_checkpoints.open_existing(str(workdir)) as checkpoints:
    # Each is of its own file: the average is whole still.
    assert checkpoints.restore_meta() == META
    checkpoints.restore_params(shapes, mesh, ema=True)
    with pytest.raises(ValueError, match='step 6 .* is damaged') as error:
      checkpoints.restore_params(shapes, mesh)
    assert 'step 3 is whole' in str(error.value)
    assert '--step=3' in str(error.value)
    params = checkpoints.restore_params(shapes, mesh, step=3)
  assert_bit_equal(params, make_state(3).params)
  empty(main_files(workdir, 3, 'ema')[0])
  empty(main_files(workdir, 6, 'meta')[0])
  with (
    saved_checkpoints.open_existing(str(workdir)) as checkpoints,
    pytest.raises(ValueError, match='all others are damaged too: train again'),
  ):
    checkpoints.restore_meta()


def test_a_step_that_is_not_there_is_refused(saved):
  with pytest.raises(FileNotFoundError, match=r'step 4, only of \[3, 6\]'):
    saved_checkpoints.open_existing(str(saved), 4)


@pytest.mark.parametrize('how', [cut, empty])
@pytest.mark.parametrize(
  'name, read',
  [
    (
      'config.json',
      lambda path: checkpointing.check_workdir(str(path.parent), {}, min),
    ),
    ('results.json', lambda path: results.read_results(str(path))),
    ('metadata.json', lambda path: records.read_metadata(str(path.parent))),
  ],
)
def test_json_that_was_cut_off_is_named(tmp_path, name, read, how):
  path = tmp_path / name
  path.write_text('{"schema_version": 3, "videos": {}}')
  how([path])
  with pytest.raises(ValueError, match=f'{name} is damaged: it is not JSON'):
    read(path)
