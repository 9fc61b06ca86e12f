import dataclasses
import os
import shutil

import pytest

from zsar_jax.data.datasets import manifest as manifest_lib
from zsar_jax.data.datasets.manifest import Manifest, ManifestEntry


@pytest.fixture
def manifest(tmp_path):
  """Two files, one of them in two stretches."""
  for name, size in (('a', 100), ('b', 20_000)):
    (tmp_path / name).write_bytes(os.urandom(size))
  a, b = str(tmp_path / 'a'), str(tmp_path / 'b')
  return Manifest(
    dataset='activitynet',
    title='mine',
    entries=(
      ManifestEntry(a, 'a', 'walk', 'a'),
      ManifestEntry(b, 'b/0', 'run', 'b', end=2.0),
      ManifestEntry(b, 'b/1', 'run', 'b', start=2.0),
    ),
    class_names=('run', 'walk'),
    missing=(manifest_lib.MissingVideo('c', 'run'),),
    lists={'test1': ('a',)},
  )


def changed(manifest, i, **fields):
  entries = list(manifest.entries)
  entries[i] = dataclasses.replace(entries[i], **fields)
  return dataclasses.replace(manifest, entries=tuple(entries))


def test_whole_files(manifest):
  assert [e.is_whole_file for e in manifest.entries] == [True, False, False]


def test_a_copy_has_the_same_fingerprint(manifest, tmp_path):
  expected = manifest_lib.fingerprint(manifest)
  assert len(expected) == 12 and int(expected, 16) >= 0
  shutil.copy(tmp_path / 'a', tmp_path / 'copy')
  os.utime(tmp_path / 'copy', (0, 0))
  copy = changed(manifest, 0, path=str(tmp_path / 'copy'))
  copy = dataclasses.replace(copy, title='yours')
  assert manifest_lib.fingerprint(copy) == expected


def test_whatever_is_stored_counts(manifest):
  replace = dataclasses.replace
  variants = [
    manifest,
    changed(manifest, 0, id='z'),
    changed(manifest, 0, label='run'),
    changed(manifest, 0, group='day 1'),
    changed(manifest, 0, source='gym'),
    changed(manifest, 0, split='test'),
    changed(manifest, 1, end=2.5),
    changed(manifest, 2, start=2.5),
    replace(manifest, entries=manifest.entries[:2]),
    replace(manifest, class_names=('jog', 'run', 'walk')),
    replace(manifest, lists={}),
    replace(manifest, missing=()),
    replace(manifest, splits=('train', 'test')),
  ]
  marks = [manifest_lib.fingerprint(variant) for variant in variants]
  assert len(set(marks)) == len(variants)


def test_files_count_by_size_and_beginning(manifest, tmp_path):
  marks = [manifest_lib.fingerprint(manifest)]
  with open(tmp_path / 'b', 'r+b') as f:
    f.write(b'another beginning')
  marks.append(manifest_lib.fingerprint(manifest))
  with open(tmp_path / 'b', 'ab') as f:
    f.write(b'x')
  marks.append(manifest_lib.fingerprint(manifest))
  (tmp_path / 'b').unlink()
  marks.append(manifest_lib.fingerprint(manifest))
  assert len(set(marks)) == 4
