import csv

import pytest

from zsar_jax.data.protocols import known_classes, word_overlap

_TESTED = ('ucf101', 'hmdb51')


def _pairs(*unseen_lists, seen='kinetics700', as_published=True):
  unseen = [c for name in unseen_lists for c in known_classes.read(name)]
  return word_overlap.equal_bags(known_classes.read(seen), unseen, as_published)


def _left(pairs, seen='kinetics700'):
  removed = {pair[0] for pair in pairs}
  return [name for name in known_classes.read(seen) if name not in removed]


def test_the_published_rule_leaves_664():
  pairs = _pairs(*_TESTED)
  assert len(pairs) == 36
  assert _left(pairs) == list(known_classes.read('kinetics700_664'))


def test_with_activitynet_it_leaves_587():
  left = _left(_pairs(*_TESTED, 'activitynet200'))
  assert left == list(known_classes.read('kinetics700_587'))


def test_pairs_are_those_of_the_facts(protocol_facts):
  with open(protocol_facts / 'derived' / 'k664_removed36.tsv') as f:
    rows = list(csv.DictReader(f, delimiter='\t'))
  expected = {(row['kinetics700_class'], row['matches']) for row in rows}
  pairs = {
    (seen, unseen if unseen[0].isupper() else unseen.replace('_', ' '))
    for seen, unseen in _pairs(*_TESTED)
  }
  assert pairs == expected


def test_lists_are_those_of_the_facts(protocol_facts):
  for name, file in (
    ('kinetics700_664', 'k664_reconstructed.txt'),
    ('kinetics700_587', 'k700_minus_exact_ucf_hmdb_anet.txt'),
  ):
    facts = (protocol_facts / 'derived' / file).read_text().splitlines()
    assert set(known_classes.read(name)) == set(facts)


def test_the_plain_rule_finds_what_the_published_one_leaves_in():
  left_in = {
    seen
    for seen, _ in _pairs(*_TESTED, seen='kinetics700_664', as_published=False)
  }
  assert left_in == {
    'blowdrying hair',
    'pull ups',
    'push up',
    'riding a bike',
    'shot put',
    'skateboarding',
    'skydiving',
    'tai chi',
    'throwing discus',
  }


def test_the_plain_rule_finds_all_that_the_published_one_does():
  removed = set(known_classes.read('kinetics700'))
  removed -= set(known_classes.read('kinetics700_664'))
  plain = {pair[0] for pair in _pairs(*_TESTED, as_published=False)}
  assert removed <= plain


@pytest.mark.parametrize(
  'seen, unseen, count',
  [
    ('kinetics400', 'ucf101', 33),
    ('kinetics700_664', 'activitynet200', 80),
    ('kinetics400', 'truze_ucf101', 0),
    ('kinetics400', 'truze_hmdb51', 0),
    ('kinetics400', 'kinetics600_er_split1', 0),
    ('kinetics400', 'kinetics600_er_split2', 0),
    ('kinetics400', 'kinetics600_er_split3', 0),
  ],
)
def test_unseen_classes_that_training_on_a_list_has_seen(seen, unseen, count):
  pairs = _pairs(unseen, seen=seen, as_published=False)
  assert len({pair[1] for pair in pairs}) == count


@pytest.mark.parametrize(
  'one, other',
  [
    ('climbing a rope', 'RopeClimbing'),
    ('shaking hands', 'shake_hands'),
    ('hugging (not baby)', 'hug'),
    ('juggling balls', 'JugglingBalls'),
    ('jumping jacks', 'JumpingJack'),
    ('carries boxes', 'carry box'),
    ('shot put', 'Shotput'),
    ('push up', 'pushups'),
    ('Mooping floor', 'mopping floor'),
  ],
)
def test_one_action_in_other_words(one, other):
  assert word_overlap.equal_bags([one], [other]) == [(one, other)]
  assert word_overlap.equal_bags([other], [one]) == [(other, one)]


@pytest.mark.parametrize(
  'one, other',
  [
    ('hugging baby', 'hug'),
    ('swing', 'sing'),
    ('string', 'stretch'),
    ('climb', 'climb stairs'),
    ('fencing (sport)', 'fencing'),
    ('the', 'a'),  # no word left: not the same action
  ],
)
def test_different_actions(one, other):
  assert word_overlap.equal_bags([one], [other]) == []


def test_normalised_words_are_a_bag():
  words = word_overlap.normalised_words
  assert words('smoking a pipe') == words('pipes, smoke')
  assert words('hand to hand') == ('hand', 'hand', 'to')
  assert words('the') == ()
  assert words('PullUps', as_published=True) == ('pullup',)
  assert words('PullUps') == ('pul', 'up')


def test_short_words_keep_their_endings():
  words = word_overlap.normalised_words
  assert words('ties') == words('tie') == ('tie',)
  assert words('flies') == words('fly') == ('fly',)
  assert words('use') == ('use',) and words('bake') == words('baking')
  assert words('sing') == ('sing',)  # no vowel would be left
  assert words('going') == ('go',) and words('we') == ('we',)
  assert words('axes') == ('ax',) and words('kisses') == words('kiss')
  assert words('boxes') == words('box') == ('box',)
  assert words('focus') == ('focus',) and words('kiss') == words('kissing')


def test_names_without_a_word_in_common_stay_apart():
  # Neighbouring words are one word only in the plain rule.
  assert word_overlap.equal_bags(['shot put'], ['Shotput'], True) == []
  assert word_overlap.equal_bags(
    ['put the shot put'], ['shotput put'], False
  ) == [('put the shot put', 'shotput put')]
  found = word_overlap.equal_bags(['tai chi', 'yo ga'], ['yoga', 'taichi'])
  assert found == [('tai chi', 'taichi'), ('yo ga', 'yoga')]
