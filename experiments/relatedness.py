"""Tests whether names predict the looks of actions, on a classifier's columns.

python -m experiments.relatedness --video=i3d --text=MINILM_DIR

The columns of a public classifier show what its classes look like. Some classes
are treated as unseen. Each is composited from the columns of the others, by
names alone, and its own column should be the nearest among the unseen ones. No
video is needed. Settings are chosen on development draws, which are not
reported. --text may be repeated. It also takes the controls `words` and
`letters`, which only use the spelling. --docs=docs/results/relatedness.md also
puts the tables into the document.
"""

import hashlib
import re

from absl import flags
import numpy as np

from experiments import (
  class_texts,
  documents,
  relatedness_tables,
)
from zsar_jax import cli
from zsar_jax.inference import public_sides

UNSEEN = (40, 200)
# Numbers of seen and unseen classes, for few seen classes as in small datasets.
FEW = ((14, 8), (50, 20), (100, 40))


def _flags() -> flags.FlagValues:
  values = cli.new_flags()
  flags.DEFINE_string(
    'video', 'i3d', 'Weights of a video classifier.', flag_values=values
  )
  flags.DEFINE_multi_string(
    'text',
    None,
    'Weights of a text encoder, or a control: words, letters.',
    flag_values=values,
    required=True,
  )
  cli.define_descriptions(values, 'Of the classes')
  flags.DEFINE_integer(
    'draws', 30, 'Draws of each size.', flag_values=values, lower_bound=2
  )
  flags.DEFINE_list(
    'unseen', [*map(str, UNSEEN)], 'Unseen classes.', flag_values=values
  )
  flags.register_validator(
    'unseen',
    lambda sizes: sizes and all(re.fullmatch('[1-9][0-9]*', x) for x in sizes),
    'expected numbers of classes, such as 40,200',
    values,
  )
  documents.define_docs(values)
  return values


def _protocol(labels, columns, sizes, draws: int) -> str:
  """Describes the test, with 12 hex digits over all that defines it."""
  digest = hashlib.sha256('\n'.join(labels).encode())
  digest.update(np.ascontiguousarray(columns).tobytes())
  digest.update(f'{sizes} {draws}'.encode())
  return (
    f'columns/{"-".join(map(str, sizes))}-unseen-of-{len(labels)}-'
    f'seed0-{draws - 1} {digest.hexdigest()[:12]}'
  )


def main(argv: list[str]) -> None:
  """Reads the weights and prints the tables."""
  values = _flags()
  cli.parse(values, argv, usage=__doc__)
  video = public_sides.open_video(values.video)
  if video.columns is None:
    raise ValueError(f'{values.video} has no classifier')
  sizes = [int(size) for size in values.unseen]
  study = relatedness_tables.Study(
    video.labels, video.columns, sizes, values.draws
  )
  described = cli.read_descriptions(values.descriptions, video.labels)
  for path in values.text:
    if path in class_texts.CONTROLS:
      embeddings = class_texts.control(path, video.labels)
      study.add(path, embeddings, relatedness_tables.OF_CONTROLS)
      continue
    encoder = class_texts.Encoder(path)
    study.add(encoder.name, encoder.embed(video.labels))
    if described:
      weights = (public_sides.DESCRIPTION_WEIGHT,)
      (text,) = encoder.embed_described(video.labels, described, weights)
      study.add(f'{encoder.name}, described', text)
    study.add_prompts(encoder)
  tables = {
    'protocol': [
      _protocol(video.labels, video.columns, sizes, values.draws),
      f'columns of {values.video} {video.digest}; registered splits within '
      f'its classes: {", ".join(study.registered) or "none"}',
    ],
    **study.tables(FEW),
    'machine': [documents.machine()],
  }
  documents.publish(tables, values.docs)


if __name__ == '__main__':
  cli.run(main)
