"""The published protocols, made from the class lists and their rules."""

from collections.abc import Sequence
import functools

import numpy as np

from zsar_jax.data import class_names
from zsar_jax.data.protocols import known_classes
from zsar_jax.data.protocols.specs import (
  MEAN_OVER_SPLITS,
  ProtocolSpec,
  SplitSpec,
)

_BRATTOLI = (
  'Brattoli et al. 2020, Rethinking Zero-shot Video Classification, and its '
  'code (main.py)'
)
_TRUZE = 'Gowda et al. 2021, A New Split for Evaluating True Zero-Shot Action'
_ER = 'Chen and Huang 2021, Elaborative Rehearsal for Zero-shot Action'
_VIFI = 'Rasheed et al. 2023, ViFi-CLIP (lists), and others'
_NUM_SEEDS = 10
_CLASS_LIST = {
  'ucf101': 'ucf101',
  'hmdb51': 'hmdb51',
  'activitynet': 'activitynet200',
}
_NUM_VIDEOS = {'ucf101': 13320, 'hmdb51': 6766}
_TRUZE_NOTES = {
  'ucf101': (
    'Two seen names of the published list are not classes. We read them as: '
    'Basketball Shooting as Basketball, Salsa Spins as SalsaSpin.'
  ),
  'hmdb51': (
    'A seen name of the published list is not a class. We read it as: '
    'Swing Basketball as swing_baseball.'
  ),
}
# Videos and digest of each official test list.
_TEST_LISTS = {
  'ucf101': (
    (3783, '1df0a4e00598'),
    (3734, '8697cc54d88b'),
    (3696, '2cfb2961c2ed'),
  ),
  'hmdb51': (
    (1530, 'bfaf7aeda2ef'),
    (1530, '6aacc904f919'),
    (1530, 'd54c76a401f2'),
  ),
}


@functools.cache
def specs() -> dict[str, ProtocolSpec]:
  """Returns all published protocols by id."""
  made = [_half_class(dataset) for dataset in _CLASS_LIST]
  for dataset in ('ucf101', 'hmdb51'):
    made += [
      _all_classes(dataset),
      _official_test_lists(dataset),
      _truze(dataset),
    ]
  made += [_activitynet_all_classes(), _er('test'), _er('validation')]
  return {spec.id: spec for spec in made}


def half_class_split(names: Sequence[str], seed: int) -> list[str]:
  """Draws the unseen half of a dataset's classes as Brattoli et al. do.

  Args:
    names: class names as the dataset spells them. The draw is over positions in
      their sorted order, with capitals before small letters.
    seed: of numpy's legacy generator; the paper uses 0 to 9.

  Returns:
    The first n // 2 of the permuted names.
  """
  order = np.random.RandomState(seed).permutation(len(names))
  names = sorted(names)
  return [names[i] for i in order[: len(names) // 2]]


def _half_class(dataset: str) -> ProtocolSpec:
  names = known_classes.read(_CLASS_LIST[dataset])
  splits = []
  for seed in range(_NUM_SEEDS):
    unseen = _canonical(half_class_split(names, seed))
    splits.append(
      SplitSpec(
        f'seed{seed}', None, unseen, num_videos=_num_videos(dataset, unseen)
      )
    )
  return ProtocolSpec(
    id=f'{dataset}/half-class-seed0-9',
    dataset=dataset,
    splits=tuple(splits),
    source=_BRATTOLI,
    averaging=MEAN_OVER_SPLITS,
    notes=(
      'The classes are drawn from the sorted names. Code that draws from '
      'the order of its label file (Text4Vis, BIKE) has other halves.'
      + _segments(dataset)
    ),
  )


def _all_classes(dataset: str) -> ProtocolSpec:
  names = known_classes.canonical(dataset)
  split = SplitSpec('all', None, names, num_videos=_NUM_VIDEOS[dataset])
  return ProtocolSpec(
    id=f'{dataset}/all-classes-all-videos',
    dataset=dataset,
    splits=(split,),
    source=_BRATTOLI,
  )


def _official_test_lists(dataset: str) -> ProtocolSpec:
  names = known_classes.canonical(dataset)
  return ProtocolSpec(
    id=f'{dataset}/official-test-lists',
    dataset=dataset,
    splits=tuple(
      SplitSpec(f'test{i}', None, names, f'list:test{i}', count, digest)
      for i, (count, digest) in enumerate(_TEST_LISTS[dataset], 1)
    ),
    source=_VIFI,
    averaging=MEAN_OVER_SPLITS,
    notes='The lists come with the dataset.',
  )


def _truze(dataset: str) -> ProtocolSpec:
  unseen = known_classes.canonical(f'truze_{dataset}')
  seen = set(known_classes.canonical(dataset)) - set(unseen)
  split = SplitSpec(
    'truze',
    tuple(sorted(seen)),
    unseen,
    num_videos=_num_videos(dataset, unseen),
  )
  return ProtocolSpec(
    id=f'{dataset}/truze',
    dataset=dataset,
    splits=(split,),
    source=_TRUZE,
    notes=_TRUZE_NOTES[dataset],
  )


def _activitynet_all_classes() -> ProtocolSpec:
  names = known_classes.canonical('activitynet200')
  return ProtocolSpec(
    id='activitynet/all-classes',
    dataset='activitynet',
    splits=(SplitSpec('all', None, names, 'split:validation'),),
    source='our choice',
    notes='Every labelled segment of the validation subset is a video.',
  )


def _er(prepared_split: str) -> ProtocolSpec:
  is_test = prepared_split == 'test'
  return ProtocolSpec(
    id='kinetics600/er-split1-3' + ('' if is_test else '-validation'),
    dataset='kinetics600',
    splits=tuple(
      SplitSpec(
        f'split{i}',
        None,
        known_classes.canonical(f'kinetics600_er_split{i}'),
        f'split:{prepared_split}',
      )
      for i in (1, 2, 3)
    ),
    source=_ER,
    averaging=MEAN_OVER_SPLITS,
    notes=(
      'For models trained on Kinetics-400; 160 of the 220 classes that '
      f'Kinetics-600 adds. The {prepared_split} videos; published numbers '
      f'have about {"14,000" if is_test else "7,250"} a split.'
    ),
  )


def _segments(dataset: str) -> str:
  if dataset != 'activitynet':
    return ''
  return ' Every labelled segment is a video, of training and validation.'


def _canonical(names: Sequence[str]) -> tuple[str, ...]:
  return tuple(sorted(class_names.canonical_names(names)))


def _num_videos(dataset: str, classes: Sequence[str]) -> int | None:
  if dataset != 'ucf101':
    return None
  counts = known_classes.ucf101_video_counts()
  return sum(counts[name] for name in classes)
