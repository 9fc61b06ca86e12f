import collections

import pytest

from zsar_jax.data import class_names
from zsar_jax.data.datasets import stick_figure_classes as classes

SEEDS = range(10)


def test_names_are_36_canonical_sentences():
  assert len(classes.CLASS_NAMES) == 36
  assert list(classes.CLASS_NAMES) == class_names.canonical_names(
    classes.CLASS_NAMES
  )
  assert 'waving the left arm slowly' in classes.CLASS_NAMES
  assert 'walking in place quickly' in classes.CLASS_NAMES


def test_attributes_spell_the_name():
  for name in classes.CLASS_NAMES:
    attributes = classes.class_attributes(name)
    assert list(attributes) == ['verb', 'place', 'manner']
    assert ' '.join(attributes.values()) == name


def test_attributes_of_an_unknown_name_raise():
  with pytest.raises(ValueError, match='walking the left arm'):
    classes.class_attributes('walking the left arm slowly')


@pytest.mark.parametrize('seed', SEEDS)
def test_every_word_is_seen_in_varied_company(seed):
  seen, _ = classes.class_split(seed)
  # Counted from the words alone, not through the attributes.
  names_with = collections.defaultdict(list)
  for name in seen:
    for word in set(name.split()):
      names_with[word].append(name)
  all_words = {word for name in classes.CLASS_NAMES for word in name.split()}
  assert set(names_with) == all_words
  for word, names in names_with.items():
    assert len(names) >= 4, word
    meanings = [classes.class_attributes(name) for name in names]
    for kind in ('verb', 'place', 'manner'):
      values = {meaning[kind] for meaning in meanings}
      if not any(word in value.split() for value in values):
        assert len(values) >= 2, (word, kind)


@pytest.mark.parametrize('seed', SEEDS)
def test_every_attribute_value_is_seen_in_varied_company(seed):
  seen, _ = classes.class_split(seed)
  company = collections.defaultdict(set)
  for name in seen:
    attributes = classes.class_attributes(name)
    for kind, value in attributes.items():
      for other in set(attributes) - {kind}:
        company[value, other].add(attributes[other])
  assert len(company) == 2 * (6 + 6 + 2)
  assert all(len(values) >= 2 for values in company.values())


@pytest.mark.parametrize('seed', SEEDS)
def test_two_names_of_each_verb_are_unseen(seed):
  seen, unseen = classes.class_split(seed)
  assert len(unseen) == 12
  assert set(seen) | set(unseen) == set(classes.CLASS_NAMES)
  lost = collections.defaultdict(list)
  for name in unseen:
    attributes = classes.class_attributes(name)
    lost[attributes['verb']].append(attributes['place'])
  assert all(len(places) == 2 for places in lost.values())
  # Three verbs are never seen with one place, the others lose two places.
  assert (
    sorted(len(set(places)) for places in lost.values()) == [1] * 3 + [2] * 3
  )


def test_coverage_refuses_a_word_with_one_partner():
  without_both = [n for n in classes.CLASS_NAMES if 'both' not in n]
  one_verb = [n for n in classes.CLASS_NAMES if 'waving both' in n]
  assert classes.covers_all_words(classes.CLASS_NAMES)
  assert not classes.covers_all_words(without_both)
  assert not classes.covers_all_words(without_both + one_verb)


def test_split_is_deterministic_and_depends_on_the_seed():
  assert classes.class_split(3) == classes.class_split(3)
  assert len({classes.class_split(seed)[1] for seed in SEEDS}) > 5


def test_fewer_seen_classes_are_nested_and_leave_the_unseen_alone():
  all_seen, unseen = classes.class_split(0)
  larger = set(all_seen)
  for num_seen in (18, 12, 6, 2):
    smaller, same_unseen = classes.class_split(0, num_seen)
    assert len(smaller) == num_seen
    assert set(smaller) < larger
    assert same_unseen == unseen
    larger = set(smaller)


@pytest.mark.parametrize('args', [(0, 1), (0, 25), (-1, 24)])
def test_bad_split_arguments_raise(args):
  with pytest.raises(ValueError):
    classes.class_split(*args)
