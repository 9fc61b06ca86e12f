import dataclasses

import numpy as np
import pytest

from zsar_jax.data.datasets import stick_figure_classes
from zsar_jax.data.protocols import known_classes, overlap, video_sets


def pairs(leaks, kind):
  return [(x.seen, x.unseen) for x in leaks if x.kind == kind]


def test_each_pair_is_listed_once_under_its_first_kind():
  leaks = overlap.audit_names(
    ['rowing', 'rope climbing', 'waving slowly', 'yoga'],
    ['climbing a rope', 'rowing', 'waving'],
  )
  assert pairs(leaks, 'name') == [('rowing', 'rowing')]
  assert pairs(leaks, 'words') == [('rope climbing', 'climbing a rope')]
  assert pairs(leaks, 'containment') == [('waving slowly', 'waving')]
  assert [leak.strict for leak in leaks] == [True, True, False]
  assert overlap.leaking_classes(leaks) == ('climbing a rope', 'rowing')
  assert len(overlap.strict(leaks)) == 2


def test_near_embeddings_are_reported_but_not_strict():
  embeddings = {
    'jog': np.array([1.0, 0.0]),
    'run': np.array([0.96, 0.28]),
    'sit': np.array([0.0, 1.0]),
  }
  (leak,) = overlap.audit_names(['jog', 'sit'], ['run'], embeddings)
  assert (leak.kind, leak.seen, leak.strict) == ('similarity', 'jog', False)
  assert leak.detail == 'cosine 0.960'


def test_classes_that_differ_by_a_word_are_not_strict():
  for split_seed in range(5):
    seen, unseen = stick_figure_classes.class_split(split_seed, 24)
    assert not overlap.strict(overlap.audit_names(seen, unseen))


def test_kinetics_and_ucf_share_what_is_known_of_them():
  leaks = overlap.audit_names(
    known_classes.canonical('kinetics400'), known_classes.canonical('ucf101')
  )
  strict = overlap.leaking_classes(leaks)
  # 22 names up to case and spacing, 33 up to the order and form of words.
  assert len(strict) == 33 and 'playing cello' in strict


def videos(folder, ids, digests, groups):
  n = len(ids)
  return video_sets.VideoSet(
    folder,
    ('videos',) * n,
    np.arange(n),
    np.arange(n),
    ids,
    groups,
    ('',) * n,
    digests,
  )


def test_videos_in_training_and_test():
  train = videos(
    '/a', ('t0', 't1', 't2'), ('x', 'y', 'z'), ('g1', 'k' * 11, 'g')
  )
  test = videos('/b', ('u0', 'u1'), ('y', 'w'), ('g1', 'k' * 11))
  leaks = overlap.audit_videos(train, test, ['a', 'b', 'c'], ['d', 'e'])
  assert [(x.kind, x.seen, x.unseen, x.detail) for x in leaks] == [
    ('video', 'b', 'd', 't1 is u0'),
    ('recording', 'b', 'e', 't1 is u1'),
  ]
  # Within a dataset one recording may show several actions.
  same = dataclasses.replace(test, dataset_dir='/a')
  leaks = overlap.audit_videos(train, same, ['a', 'b', 'c'], ['d', 'e'])
  assert [leak.kind for leak in leaks] == ['video']


def test_refusal_names_the_pairs_and_the_keys():
  leaks = [overlap.Leak('words', f's{i}', 'u') for i in range(12)]
  with pytest.raises(ValueError, match='12 leaks') as error:
    overlap.refuse(leaks, 'here')
  text = str(error.value)
  assert "words: seen 's0', unseen 'u'" in text and 'and 2 more' in text
  assert 'data.drop_leaking' in text and 'data.allow_leaks' in text
  overlap.refuse([overlap.Leak('containment', 's', 'u', strict=False)], 'here')


def test_a_name_within_another_is_reported_whichever_is_seen():
  contained = lambda a, b: pairs(overlap.audit_names(a, b), 'containment')
  assert contained(['wave'], ['waving slowly']) == [('wave', 'waving slowly')]
  assert contained(['waving slowly'], ['wave']) == [('waving slowly', 'wave')]
  assert contained(['waving slowly'], ['waving hands']) == []
  # The same words, one of them twice: each is within the other.
  assert contained(['hand to hand'], ['to hand']) == [
    ('hand to hand', 'to hand')
  ]
  # Names without a word are within nothing.
  assert contained(['the'], ['wave']) == contained(['wave'], ['the']) == []


def test_a_similarity_is_reported_from_its_least_value_on():
  embeddings = {
    'a': np.array([1.0, 0.0]),
    'b': np.array([0.9, 0.1]),
    'c': np.array([0.5, 0.0]),
  }
  found = lambda *least: pairs(
    overlap.audit_names(['a'], ['b', 'c'], embeddings, *least), 'similarity'
  )
  assert found() == [('a', 'b')]  # from 0.9 on
  assert found(0.91) == []
  assert found(0.5) == [('a', 'b'), ('a', 'c')]


def test_training_goes_on_without_what_is_in_the_test():
  train = videos(
    '/b', ('t0', 't1', 't2', 't3'), tuple('xyzw'), ('g1', 'k' * 11, 'g', 'h')
  )
  test = videos('/a', ('u0', 'u1'), ('y', 'z'), ('k' * 11, 'g1'))
  assert overlap.without_videos(train, test).ids == ('t0', 't3')
  # By the recording alone, and only between datasets, in either order.
  test = videos('/c', ('u0',), ('v',), ('k' * 11,))
  assert overlap.without_videos(train, test).ids == ('t0', 't2', 't3')
  test = dataclasses.replace(test, dataset_dir='/a')
  assert overlap.without_videos(train, test).ids == ('t0', 't2', 't3')
  test = dataclasses.replace(test, dataset_dir='/b')
  assert overlap.without_videos(train, test).ids == train.ids


def test_the_first_test_video_of_a_recording_is_named():
  train = videos('/a', ('t0',), ('x',), ('g',))
  test = videos('/b', ('u0', 'u1'), ('x', 'x'), ('h', 'i'))
  (leak,) = overlap.audit_videos(train, test, ['a'], ['d', 'e'])
  assert (leak.unseen, leak.detail) == ('d', 't0 is u0')
  assert str(leak) == "video: seen 'a', unseen 'd' (t0 is u0)"
  assert str(overlap.Leak('name', 's', 'u')) == "name: seen 's', unseen 'u'"


def test_leaks_are_listed_up_to_a_number():
  leaks = [overlap.Leak('words', f's{i}', 'u') for i in range(11)]
  lines = lambda n, *shown: overlap.format_leaks(leaks[:n], *shown).split('\n')
  assert len(lines(9)) == 9 and len(lines(10)) == 10
  assert lines(11)[-1] == '  and 1 more' and len(lines(11)) == 11
  assert lines(3, 2)[-1] == '  and 1 more'
