"""The texts of a class for the text encoder: prompts and descriptions.

A class has one text per prompt template, with its name in place of `{}`. It
also has one text per sentence of its description, if there is one. Inference
averages their embeddings (after CLIP, Radford et al. 2021). Training steps use
them in turn.
"""

from collections.abc import Mapping, Sequence
import difflib
import json
import os

from zsar_jax.data import class_names

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


def read_descriptions(
  path: str, names: Sequence[str] = ()
) -> dict[str, tuple[str, ...]]:
  """Reads the descriptions of some classes from a file.

  Args:
    path: a JSON object, class name (in any spelling) -> list of sentences.
    names: canonical names of all classes; () allows any.

  Returns:
    Canonical name -> sentences, of the classes that the file describes.

  Raises:
    FileNotFoundError: the file does not exist.
    ValueError: the file has another format or an empty sentence, names a class
      twice, or names an unknown one.
  """
  if not os.path.exists(path):
    raise FileNotFoundError(f'description file {path} does not exist')
  with open(path, encoding='utf-8') as f:
    try:
      content = json.load(f)
    except (json.JSONDecodeError, UnicodeDecodeError) as e:
      raise ValueError(f'{path}: not JSON: {e}') from e
  if not isinstance(content, dict):
    raise ValueError(f'{path}: expected an object, class name -> sentences')
  canonical = class_names.canonical_names(content, path)
  described = {}
  for name, sentences in zip(canonical, content.values(), strict=True):
    if names and name not in names:
      near = difflib.get_close_matches(name, names, n=3)
      hint = f'; nearest are {", ".join(near)}' if near else ''
      raise ValueError(f'{path} describes {name!r}, which is not a class{hint}')
    if not isinstance(sentences, list) or not all(
      isinstance(text, str) and text.strip() for text in sentences
    ):
      raise ValueError(f'{path}: {name!r} needs a list of sentences')
    described[name] = tuple(text.strip() for text in sentences)
  return described


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
