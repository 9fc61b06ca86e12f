"""results.json in the format of mteb's result files.

The task is our protocol, under its own id: mteb's tasks of the same datasets
test other videos (its UCF101 has the 51 classes with sound, its Kinetics a
sample). `inference.mteb_model` runs mteb's own tasks.
"""

from collections.abc import Mapping
import datetime
from typing import Any

# Ours -> mteb's. Its recall is the mean over classes.
_SCORES = {'top1': 'accuracy', 'top5': 'top5', 'per_class': 'recall'}
_MAIN = 'accuracy'


def to_task_result(
  content: Mapping[str, Any], method: str = 'transfer'
) -> dict[str, Any]:
  """Converts one method's rows to a result file of mteb.

  Args:
    content: of results.json.
    method: the method that plays mteb's model.

  Returns:
    What `mteb.TaskResult` reads: scores in [0, 1], means over the splits of
    the protocol, with their ends of 95% intervals over videos, population
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
  main = rows['top1']
  facts = {
    'accuracy_low': main['low'],
    'accuracy_high': main['high'],
    'accuracy_std': main['std'],
    'chance': main['chance'],
    'n_splits': main['n_splits'],
    'n_videos': main['n_videos'],
    'n_classes': main['n_classes'],
    'n_unreadable': main['n_unreadable'],
    'leaks': len(content['leaks']),
    'method': method,
    'weights_hash': content.get('weights_hash'),
  }
  return {
    'dataset_revision': content['protocol_hash'],
    'task_name': content['protocol'],
    'mteb_version': None,
    'scores': {
      'test': [
        {
          **scores,
          **{key: value for key, value in facts.items() if value is not None},
          'main_score': scores[_MAIN],
          'hf_subset': 'default',
          'languages': ['eng-Latn'],
        }
      ]
    },
    'evaluation_time': None,
    'kg_co2_emissions': None,
    'date': datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'),
  }
