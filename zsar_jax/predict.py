"""Ranks class names for a video; the names need never have been trained on.

python -m zsar_jax.predict --workdir=runs/demo --video=clip.mp4 \
  --classes="juggling,rowing,arm wrestling"
"""

import dataclasses
import json

from absl import flags

from zsar_jax import cli
from zsar_jax import recognizer as recognizer_lib


def _format(prediction: recognizer_lib.Prediction) -> str:
  lines = [f'warning: {text}' for text in prediction.warnings]
  width = max(len(ranked.name) for ranked in prediction.ranking)
  for place, ranked in enumerate(prediction.ranking, 1):
    made_of = ', '.join(
      f'{name} {100 * weight:.0f}%' for name, weight in ranked.composited_from
    )
    lines.append(
      f'{place:3d}. {ranked.name:{width}}  transfer {ranked.score:+.3f}  '
      f'name {ranked.nearest_name:+.3f}  match {ranked.match_logit:+.2f}  '
      f'<- {made_of}'
    )
  return '\n'.join(lines)


def main(argv: list[str]) -> None:
  """Parses the command line and prints the ranking.

  Args:
    argv: the command line, the program's name first.
  """
  values = cli.new_flags()
  flags.DEFINE_string(
    'workdir', None, 'Of a finished run.', flag_values=values, required=True
  )
  flags.DEFINE_string(
    'video', None, 'A video file.', flag_values=values, required=True
  )
  flags.DEFINE_string(
    'classes',
    None,
    'Candidate class names, separated by commas.',
    flag_values=values,
    required=True,
  )
  flags.DEFINE_bool('json', False, 'Print JSON.', flag_values=values)
  cli.parse(values, argv, usage=__doc__)
  if not values.classes.strip():
    raise ValueError('--classes is empty: give names separated by commas')
  recognizer = recognizer_lib.Recognizer.from_workdir(values.workdir)
  prediction = recognizer.predict(
    values.video,
    values.classes.split(','),
    recognizer_lib.load_bank(values.workdir),
  )
  if values.json:
    print(json.dumps(dataclasses.asdict(prediction), indent=2))
  else:
    print(_format(prediction))


if __name__ == '__main__':
  cli.run(main)
