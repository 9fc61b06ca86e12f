import pytest

from zsar_jax.data import name_linter


def kinds(names, **kwargs):
  return [(w.kind, w.names) for w in name_linter.lint(names, **kwargs)]


@pytest.mark.parametrize(
  'names, expected',
  [
    (
      ['shake_hands', 'ShakeHands'],
      ('duplicate', ('shake_hands', 'ShakeHands')),
    ),
    (
      ['climbing a rope', 'rope climbing'],
      ('near-duplicate', ('climbing a rope', 'rope climbing')),
    ),
    (
      ['playing guitar', 'playing guittar'],
      ('near-duplicate', ('playing guitar', 'playing guittar')),
    ),
    (['swing', 'ice skating'], ('one word', ('swing',))),
    (['?!', 'ice skating'], ('empty', ('?!',))),
  ],
)
def test_what_is_doubtful_is_found(names, expected):
  assert kinds(names) == [expected]


def test_good_names_give_no_warning():
  assert kinds(['ice skating', 'playing the cello', 'shaking hands']) == []


def test_words_that_the_vocabulary_does_not_have():
  pieces = ['ice', 'skating', 'playing', '##ing']
  assert kinds(['ice skating', 'playing daf'], pieces=pieces) == [
    ('unknown word', ('playing daf',))
  ]
  # CLIP's end-of-word marks.
  assert kinds(['ice skating'], pieces=['ice</w>', 'skating</w>']) == []


def test_warnings_read_as_text():
  (warning,) = name_linter.lint(['swing', 'ice skating'])
  assert str(warning).startswith("one word: 'swing' is one word")
