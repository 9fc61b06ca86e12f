import csv

import numpy as np
import pytest

from zsar_jax.evaluation import label_files, outside_scores, score_files
from zsar_jax.evaluation.report import page
from zsar_jax.inference import report_content

NAMES = ('jumping', 'rowing', 'waving')
IDS = tuple(f'v{i}.mp4' for i in range(12))


def unit(x):
  return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)


@pytest.fixture
def labels(tmp_path):
  path = tmp_path / 'labels.csv'
  with open(path, 'w', newline='') as f:
    writer = csv.writer(f)
    writer.writerow(['id', 'label', 'group'])
    writer.writerows(
      [(video, NAMES[i % 3], f'g{i // 2}') for i, video in enumerate(IDS)]
    )
  return label_files.read_labels(str(path))


def test_embeddings_of_others_show_prototypes_and_weights(tmp_path, labels):
  rng = np.random.default_rng(0)
  given = score_files.Embeddings(
    IDS,
    unit(rng.normal(size=(12, 2, 8))),
    NAMES,
    unit(rng.normal(size=(3, 8))),
    ('boxing', 'hopping', 'skating', 'walking'),
    unit(rng.normal(size=(4, 8))),
    unit(rng.normal(size=(4, 8))),
  )
  path = str(tmp_path / 'mine.safetensors')
  score_files.write_embeddings(given, path)
  outcome = outside_scores.evaluate_embeddings(path, labels)
  made = report_content.make(outcome)
  assert made.dataset == 'mine.safetensors' and made.method == 'transfer'
  assert made.unseen == NAMES and made.seen == given.seen_class_names
  assert made.video_ids == IDS and made.notes == ()
  np.testing.assert_array_equal(made.labels, np.arange(12) % 3)
  np.testing.assert_array_equal(made.scores, outcome.table.scores['transfer'])
  np.testing.assert_allclose(made.transfer_weights.sum(axis=1), 1, rtol=1e-6)
  assert made.unseen_prototypes.shape == made.true_means.shape == (3, 8)
  np.testing.assert_allclose(made.seen_prototypes, given.seen_prototypes)
  assert made.embeddings.shape == (12, 8)
  assert list(made.hubness_counts) == ['transfer', 'nearest_name']
  html = page.render(outcome.content, made)
  assert 'data mine.safetensors;' in html
  assert 'per-class accuracy of\ntransfer' in html


def test_scores_of_others_show_their_first_method(tmp_path, labels):
  order = np.random.default_rng(0).permutation(12)
  scores = np.eye(3, dtype=np.float32)[np.arange(12) % 3]
  path = str(tmp_path / 'mine.safetensors')
  score_files.write_scores(
    score_files.Scores(
      tuple(IDS[i] for i in order),
      NAMES,
      {'mine': scores[order], 'worse': -scores[order]},
    ),
    path,
  )
  outcome = outside_scores.evaluate_scores(path, labels)
  made = report_content.make(outcome)
  assert made.method == 'mine' and made.seen == ()
  assert made.embeddings is None and made.transfer_weights is None
  np.testing.assert_array_equal(made.answers, made.labels)
  np.testing.assert_array_equal(made.hubness_counts['mine'], [1, 1, 1])
  html = page.render(outcome.content, made)
  assert '<b>100.0%</b> per-class accuracy of\nmine' in html
  assert 'mine − worse is +100.0 points' in html
