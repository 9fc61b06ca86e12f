import json

import pytest

from zsar_jax.data import prompts


def test_each_class_in_every_prompt_then_its_description():
  texts = prompts.class_texts(
    ['rowing', 'juggling'],
    ('{}', 'a video of a person {}.'),
    {'juggling': ('Balls fly.', 'Hands catch.')},
  )
  assert texts == [
    ['rowing', 'a video of a person rowing.'],
    [
      'juggling',
      'a video of a person juggling.',
      'Balls fly.',
      'Hands catch.',
    ],
  ]
  assert prompts.text_grid(texts) == [
    ['rowing', 'juggling'],
    ['a video of a person rowing.', 'a video of a person juggling.'],
    ['rowing', 'Balls fly.'],
    ['a video of a person rowing.', 'Hands catch.'],
  ]


def test_a_name_alone_is_its_own_text():
  assert prompts.class_texts(['rowing']) == [['rowing']]
  assert prompts.text_grid([['rowing']]) == [['rowing']]


@pytest.mark.parametrize(
  'template', ['', 'a video', '{} and {}', '{0}', '{name}']
)
def test_templates_without_one_place_for_the_name_raise(template):
  with pytest.raises(ValueError, match='needs exactly one'):
    prompts.class_texts(['rowing'], ('{}', template))


def test_no_template_raises():
  with pytest.raises(ValueError, match='names.prompts is empty'):
    prompts.check_templates(())


def write(tmp_path, content):
  path = tmp_path / 'd.json'
  path.write_text(content if isinstance(content, str) else json.dumps(content))
  return str(path)


def test_descriptions_are_read_by_canonical_name(tmp_path):
  path = write(tmp_path, {'Shake_Hands': [' Two people greet. ']})
  described = prompts.read_descriptions(path, ['shake hands', 'rowing'])
  assert described == {'shake hands': ('Two people greet.',)}
  assert prompts.read_descriptions(path) == described


@pytest.mark.parametrize(
  'content, words',
  [
    ('{', 'not JSON'),
    ([], 'expected an object'),
    ({'rowin': ['x']}, "'rowin', which is not a class; nearest are rowing"),
    ({'rowing': 'x'}, "'rowing' needs a list of sentences"),
    ({'rowing': ['x', ' ']}, "'rowing' needs a list of sentences"),
    ({'rowing': ['x'], 'Rowing': ['y']}, 'duplicate class name'),
  ],
)
def test_bad_files_raise_and_say_why(content, words, tmp_path):
  path = write(tmp_path, content)
  with pytest.raises(ValueError, match=words) as error:
    prompts.read_descriptions(path, ['rowing'])
  assert path in str(error.value)


def test_missing_file_raises(tmp_path):
  with pytest.raises(FileNotFoundError, match='does not exist'):
    prompts.read_descriptions(str(tmp_path / 'none.json'))
