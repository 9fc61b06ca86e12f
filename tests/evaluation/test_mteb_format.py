import pytest

from tests.evaluation import test_results
from zsar_jax.evaluation import mteb_format, results

_ROWS = [
  results.Row('transfer', 'top1', 0.5, 0.4, 0.6, 0.1, 80, 8, 2, 0.03, 4),
  results.Row('transfer', 'top5', 0.9, 0.8, 1.0, 0.5, 80, 8, 2, 0.02, 4),
  results.Row('transfer', 'per_class', 0.45, 0.4, 0.5, 0.1, 80, 8, 2, 0.01, 4),
  results.Row('conse', 'top1', 0.3, 0.2, 0.4, 0.1, 80, 8, 2, 0.05, 4),
]


def test_scores_are_those_of_the_method():
  content = test_results.make(rows=_ROWS, leaks=['name: seen a, unseen a'])
  made = mteb_format.to_task_result(content)
  assert made['task_name'] == 'set/1' and made['dataset_revision'] == 'abc'
  (scores,) = made['scores']['test']
  assert scores['main_score'] == scores['accuracy'] == 0.5
  assert scores['recall'] == 0.45 and scores['top5'] == 0.9
  assert scores['accuracy_std'] == 0.03 and scores['n_splits'] == 4
  assert scores['n_unreadable'] == 2 and scores['leaks'] == 1
  (other,) = mteb_format.to_task_result(content, 'conse')['scores']['test']
  assert other['main_score'] == 0.3 and 'recall' not in other


def test_a_method_that_is_not_there_is_named():
  with pytest.raises(ValueError, match="'fusion'.*'conse', 'transfer'"):
    mteb_format.to_task_result(test_results.make(rows=_ROWS), 'fusion')


def test_mteb_reads_it():
  mteb = pytest.importorskip('mteb')
  made = mteb_format.to_task_result(test_results.make(rows=_ROWS))
  read = mteb.TaskResult.model_validate(made)
  assert read.scores['test'][0]['main_score'] == 0.5
