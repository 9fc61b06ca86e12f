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
