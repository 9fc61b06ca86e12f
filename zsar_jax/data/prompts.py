"""The texts of a class for the text encoder: prompts and descriptions.

A class has one text per prompt template, with its name in place of `{}`. It
also has one text per sentence of its description, if there is one. Inference
averages their embeddings (after CLIP, Radford et al. 2021). Training steps use
them in turn.
"""

from collections.abc import Mapping, Sequence

SLOT = '{}'


def check_templates(templates: Sequence[str]) -> None:
  """Refuses prompt templates without exactly one place for the name.

  Args:
    templates: such as 'a video of a person {}'.

  Raises:
    ValueError: there is no template, or one without exactly one `{}`.
  """
  if not templates:
    raise ValueError("names.prompts is empty: ('{}',) is the name alone")
  for template in templates:
    if template.count(SLOT) != 1 or '{' in template.replace(SLOT, ''):
      raise ValueError(
        f'prompt {template!r} needs exactly one {SLOT}, where the name goes'
      )


def class_texts(
  names: Sequence[str],
  templates: Sequence[str] = (SLOT,),
  descriptions: Mapping[str, Sequence[str]] | None = None,
) -> list[list[str]]:
  """Returns all texts of each class.

  Args:
    names: canonical names.
    templates: see `check_templates`.
    descriptions: canonical name -> sentences; classes may be missing.

  Returns:
    The texts of each name, at least one, prompts first.

  Raises:
    ValueError: a bad template.
  """
  check_templates(templates)
  descriptions = descriptions or {}
  return [
    [
      *(template.replace(SLOT, name) for template in templates),
      *descriptions.get(name, ()),
    ]
    for name in names
  ]


def text_grid(texts: Sequence[Sequence[str]]) -> list[list[str]]:
  """Arranges texts as rows of one text per class, for arrays of one shape.

  Args:
    texts: of each class; classes may have different numbers of texts.

  Returns:
    One row for each text of the class with the most. A class with fewer texts
    starts again with its first.
  """
  rows = max(map(len, texts))
  return [[own[row % len(own)] for own in texts] for row in range(rows)]
