import os

import numpy as np
import pytest

from zsar_jax.evaluation import embedding_cache

IDENTITY = {'weights': 'abc', 'views': 1}
KEYS = [('test', i) for i in range(7)]
NAMES = ('row', 'run')


def value(key):
  return np.full((1, 3), key[1] + (10 if key[0] == 'train' else 0), np.float32)


class Videos:
  """Computes arrays in batches of two and counts what it was asked."""

  def __init__(self, keys, names=NAMES, fail_after=99, tokens=False):
    self.keys, self.names, self.asked = keys, names, []
    self.fail_after, self.tokens = fail_after, tokens

  def __call__(self, positions):
    for first in range(0, len(positions), 2):
      if len(self.asked) >= self.fail_after:
        raise KeyboardInterrupt
      keys = [self.keys[i] for i in positions[first : first + 2]]
      self.asked += keys
      arrays = {
        'embedding': np.stack([value(key) for key in keys]),
        'match': np.array(
          [[len(n) * key[1] for n in self.names] for key in keys]
        ),
        'readable': np.ones(len(keys), bool),
      }
      if self.tokens:
        arrays['tokens'] = np.stack([value(key)[None] for key in keys])
      yield arrays


def open_cache(tmp_path, **changes):
  return embedding_cache.EmbeddingCache(
    str(tmp_path), 'set', {**IDENTITY, **changes}
  )


def embed(cache, keys=KEYS, names=NAMES, videos=None, **kwargs):
  videos = videos or Videos(keys)
  return cache.embed('clips', keys, names, videos, **kwargs), videos


def test_second_time_nothing_is_computed(tmp_path):
  first, videos = embed(open_cache(tmp_path))
  assert videos.asked == KEYS
  again, videos = embed(open_cache(tmp_path))
  assert videos.asked == []
  for name, x in first.items():
    np.testing.assert_array_equal(again[name], x)
  np.testing.assert_array_equal(again['embedding'][:, 0, 0], range(7))


def test_any_order_and_part_is_read(tmp_path):
  embed(open_cache(tmp_path))
  keys = [('test', 5), ('test', 2)]
  out, videos = embed(open_cache(tmp_path), keys)
  assert videos.asked == []
  assert out['embedding'][:, 0, 0].tolist() == [5, 2]


def test_only_what_is_missing_is_computed(tmp_path):
  embed(open_cache(tmp_path), KEYS[:3])
  out, videos = embed(open_cache(tmp_path), [('train', 1), *KEYS])
  assert videos.asked == [('train', 1), *KEYS[3:]]
  assert out['embedding'][:, 0, 0].tolist() == [11, *range(7)]


def test_an_interrupted_run_goes_on(tmp_path, monkeypatch):
  monkeypatch.setattr(embedding_cache, '_SHARD_VIDEOS', 2)
  with pytest.raises(KeyboardInterrupt):
    embed(open_cache(tmp_path), videos=Videos(KEYS, fail_after=4))
  out, videos = embed(open_cache(tmp_path))
  assert videos.asked == KEYS[4:]
  assert out['embedding'][:, 0, 0].tolist() == [*range(7)]
  # Nothing half-written is left.
  files = [f for _, _, fs in os.walk(tmp_path) for f in fs]
  assert not [f for f in files if f.endswith('.tmp')]


def test_other_weights_or_kinds_never_mix(tmp_path):
  embed(open_cache(tmp_path))
  _, videos = embed(open_cache(tmp_path, weights='other'))
  assert videos.asked == KEYS
  videos = Videos(KEYS)
  open_cache(tmp_path).embed('first_frames', KEYS, NAMES, videos)
  assert videos.asked == KEYS


def test_logits_of_some_names_are_picked_and_of_new_ones_said(tmp_path):
  cache = open_cache(tmp_path)
  out, _ = embed(cache)
  one, videos = embed(cache, names=('run',))
  np.testing.assert_array_equal(one['match'], out['match'][:, 1:])
  new, videos = embed(cache, names=('run', 'hop'))
  assert videos.asked == [] and 'match' not in new
  assert cache.missing('clips', KEYS, ('run', 'hop')) == ([], ['hop'])


def test_kept_tokens_give_logits_of_new_names(tmp_path):
  cache = open_cache(tmp_path)
  embed(cache, videos=Videos(KEYS, tokens=True), tokens=True)
  match = lambda tokens, names: (
    tokens[:, 0, 0, :1] * np.array([len(n) for n in names])
  )
  out, videos = embed(cache, names=('hopping',), match=match)
  assert videos.asked == []
  assert out['match'][:, 0].tolist() == [7 * i for i in range(7)]
  assert cache.missing('clips', KEYS, ('hopping',)) == ([], [])


def test_tokens_that_were_not_kept_are_computed(tmp_path):
  cache = open_cache(tmp_path)
  embed(cache)
  videos = Videos(KEYS, tokens=True)
  embed(cache, videos=videos, tokens=True)
  assert videos.asked == KEYS


def test_a_damaged_shard_is_named(tmp_path):
  cache = open_cache(tmp_path)
  embed(cache)
  path = os.path.join(cache.folder, 'clips', '00000.safetensors')
  with open(path, 'wb') as f:
    f.write(b'nothing')
  with pytest.raises(ValueError, match='00000.safetensors is damaged.*delete'):
    embed(cache)
