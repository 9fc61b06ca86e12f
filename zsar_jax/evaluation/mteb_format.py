"""Converts results.json to the format of mteb's result files.

The task is our protocol, under its own id, because mteb's tasks of the same
datasets test other videos: its UCF101 has the 51 classes with sound, its
Kinetics is a sample. `inference.mteb_model` runs mteb's own tasks.
"""

from collections.abc import Mapping
import datetime
from typing import Any

# Our metric -> mteb's. mteb's recall is the mean over classes.
_SCORES = {'top1': 'accuracy', 'top5': 'top5', 'per_class': 'recall'}
_MAIN = 'accuracy'
_COUNTS = ('n_splits', 'n_videos', 'n_classes', 'n_unreadable')


def to_task_result(
  content: Mapping[str, Any], method: str = 'transfer'
) -> dict[str, Any]:
  """Converts one method's rows to a result file of mteb.

  Args:
    content: content of results.json.
    method: the method to convert.

  Returns:
    A dict that `mteb.TaskResult` reads. Scores are in [0, 1], as means over the
    splits. They come with the 95% interval over videos, the population standard
    deviation over splits, and chance.

  Raises:
    ValueError: the results have no top-1 accuracy of this method.
  """
  rows = {
    row['metric']: row for row in content['rows'] if row['method'] == method
  }
  if 'top1' not in rows:
    raise ValueError(
      f'no top-1 accuracy of {method!r}: the results have '
      f'{sorted({row["method"] for row in content["rows"]})}'
    )
  scores = {
    name: rows[metric]['value']
    for metric, name in _SCORES.items()
    if metric in rows
  }
  scores |= {
    'main_score': scores[_MAIN],
    'hf_subset': 'default',
    'languages': ['eng-Latn'],
  }
  return {
    'dataset_revision': content['protocol_hash'],
    'task_name': content['protocol'],
    'mteb_version': None,
    'scores': {'test': [scores | _facts(content, rows['top1'])]},
    'evaluation_time': None,
    'kg_co2_emissions': None,
    'date': datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'),
  }


def _facts(
  content: Mapping[str, Any], main: Mapping[str, Any]
) -> dict[str, Any]:
  """What else is known of the measurement, without what is None."""
  facts = {
    'accuracy_low': main['low'],
    'accuracy_high': main['high'],
    'accuracy_std': main['std'],
    **{key: main[key] for key in ('chance', *_COUNTS)},
    'leaks': len(content['leaks']),
    'method': main['method'],
    'weights_hash': content.get('weights_hash'),
  }
  return {key: value for key, value in facts.items() if value is not None}
