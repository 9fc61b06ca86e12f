"""Draws a prediction: frames of a video, and its ranking.

```
python -m benchmarks.prediction_picture --output=docs/figures/prediction.png
```

It makes the picture in the README, with the shipped model and a shipped
example. Flags give another model, video or names.
"""

import argparse

import zsar_jax
from zsar_jax.data import decode
from zsar_jax.inference import predictions

_EXAMPLES = 'zsar_jax/shipped_models/stick_figures/examples'
_VIDEO = f'{_EXAMPLES}/waving_the_right_arm_slowly.mp4'
_CLASSES = (
  'waving the right arm slowly,waving the right arm quickly,'
  'walking to the right slowly,drawing a star,jumping up and down'
)
_FRAMES = 6
_NONE_COLOUR, _FIRST_COLOUR, _COLOUR = '#999999', '#d55e00', '#0072b2'


def bars(prediction: predictions.Prediction) -> list[tuple[str, float, str]]:
  """Returns the bars of the chart.

  Args:
    prediction: a calibrated prediction.

  Returns:
    Name, probability and colour of each bar, most probable name first, then
    "none of these".

  Raises:
    ValueError: the prediction has no probabilities.
  """
  if prediction.none_of_these is None:
    raise ValueError(
      'the bank has no calibration, so there are no probabilities'
    )
  found = [
    (ranked.name, ranked.probability, _COLOUR) for ranked in prediction.ranking
  ]
  found[0] = (*found[0][:2], _FIRST_COLOUR)
  none = (predictions.NONE_OF_THESE, prediction.none_of_these, _NONE_COLOUR)
  return [*found, none]


def draw(path: str, prediction: predictions.Prediction, output: str) -> None:
  """Writes the picture.

  Args:
    path: path of the video.
    prediction: its prediction.
    output: path of the picture; its ending chooses the format.
  """
  import matplotlib

  matplotlib.use('Agg')
  from matplotlib import pyplot as plt

  _, (frames,) = decode.check_and_decode(path, path, _FRAMES)
  figure = plt.figure(figsize=(8, 3.6), dpi=120, layout='constrained')
  top, bottom = figure.subfigures(2, 1, height_ratios=(1, 1.6))
  for axis, frame in zip(top.subplots(1, _FRAMES), frames, strict=True):
    axis.imshow(frame)
    axis.axis('off')
  axis = bottom.subplots()
  names, values, colours = zip(*reversed(bars(prediction)), strict=True)
  axis.barh(names, values, color=colours, height=0.7)
  for y, value in enumerate(values):
    axis.text(value + 0.01, y, f'{100 * value:.1f}%', va='center', fontsize=9)
  axis.set_xlim(0, 1.12)
  axis.set_xticks([])
  axis.spines[['top', 'right', 'bottom']].set_visible(False)
  axis.tick_params(left=False)
  made_of = ', '.join(
    f'{name} {100 * weight:.0f}%'
    for name, weight in prediction.ranking[0].composited_from
  )
  seen = any('seen in training' in text for text in prediction.warnings)
  unseen = '' if seen else 'No training video showed any of these. '
  first = prediction.ranking[0].name
  bottom.supxlabel(
    f'{unseen}"{first}" is composited from:\n{made_of}', fontsize=8
  )
  figure.savefig(output)
  plt.close(figure)


def main() -> None:
  """Predicts and draws."""
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--workdir', default='stick_figures')
  parser.add_argument('--video', default=_VIDEO)
  parser.add_argument('--classes', default=_CLASSES, help='class names')
  parser.add_argument('--output', required=True)
  flags = parser.parse_args()
  model = zsar_jax.load(flags.workdir).add_classes(flags.classes.split(','))
  draw(flags.video, model.predict(flags.video), flags.output)


if __name__ == '__main__':
  main()
