import itertools

import numpy as np
import pytest

from benchmarks import fuzz_decode

# Small videos decode in milliseconds; on a busy machine children may wait.
DEADLINE = 20.0


@pytest.fixture(scope='module')
def clips(tmp_path_factory):
  return fuzz_decode.make_clips(str(tmp_path_factory.mktemp('clips')))


def test_a_hundred_seeds_decode_or_are_refused(clips, monkeypatch):
  monkeypatch.setattr(fuzz_decode, 'DEADLINE', DEADLINE)
  results = fuzz_decode.try_seeds(clips, range(100), num_workers=2)
  assert [r.seed for r in results] == list(range(100))
  bad = [r for r in results if fuzz_decode.is_bad(r)]
  assert not bad, fuzz_decode.report(results)
  counts = {r.outcome for r in results}
  assert counts == {'decoded', 'refused'}
  assert all(r.reason for r in results if r.outcome == 'refused')


@pytest.mark.parametrize('kind', fuzz_decode.KINDS)
def test_damage_is_done_and_depends_on_the_seed_alone(kind):
  rng = np.random.default_rng(0)
  content, other = (rng.bytes(50_000) for _ in range(2))
  bad = [
    fuzz_decode.damage(content, other, kind, np.random.default_rng(seed))
    for seed in (1, 1, 2)
  ]
  assert bad[0] == bad[1] != content
  assert bad[0] != bad[2]
  assert len(bad[0]) < 50_000 if kind == 'cut' else len(bad[0]) == 50_000


def test_small_files_are_damaged_too():
  for seed, kind in itertools.product(range(20), fuzz_decode.KINDS):
    rng = np.random.default_rng(seed)
    assert len(fuzz_decode.damage(b'abc', b'xy', kind, rng)) <= 3


def test_report_names_what_should_not_be():
  results = [
    fuzz_decode.Result(3, 'a.mp4', 'cut', 'refused', 'is damaged', 0.1),
    fuzz_decode.Result(4, 'b.mp4', 'cut', 'crash', 'crashed (SIGSEGV)', 0.2),
  ]
  text = fuzz_decode.report(results)
  assert 'seed 4, b.mp4, cut: crash: crashed (SIGSEGV)' in text
  assert 'seed 3' not in text
