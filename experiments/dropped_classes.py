"""Ranks a class that was dropped from I3D's bank, for real clips one by one.

python -m experiments.dropped_classes --text=MINILM_DIR --data=FOLDER

Every clip shows a class that I3D was trained on. That class is dropped from the
bank (`bank build --drop_seen`), so its prototype is composited by its name.
`--clips` is a CSV file with the columns path and label: paths or patterns below
--data, and classes of Kinetics-400. Every video is embedded once, since
dropping changes only the bank. The ranks are those of the true name; 1 is best:

- 10 seen: among ten names. The nine others are drawn, and keep their columns.
- 10 new: among the same ten, all dropped, so all are composites.
- 400: among all names. The 399 others are seen and keep their columns.

`first of 10` is the percentage of 100 draws of the nine others in which the
true name is first. The encoder has been trained on the class. So this measures
the names, not an encoder that has never seen the class.
"""

import csv
import glob
import os

from absl import flags
import jax
import numpy as np

from experiments import documents
from zsar_jax import cli
from zsar_jax.data import class_names, user_videos
from zsar_jax.evaluation import methods, results_text, task
from zsar_jax.inference import classifier_bank, prototype_bank, public_folders
from zsar_jax.models import i3d as i3d_model
from zsar_jax.models import pixel_ops
from zsar_jax.pretrained import i3d as i3d_weights

_CLIPS = os.path.join(os.path.dirname(__file__), 'known_clips.csv')
_OTHERS, _DRAWS = 9, 100


def read_clips(path: str, folder: str) -> list[tuple[str, str]]:
  """Reads the class of each clip.

  Args:
    path: path of the CSV file.
    folder: folder that the paths in it are relative to.

  Returns:
    (path below the folder, canonical class name) of each clip.

  Raises:
    ValueError: the columns are others, or a path matches no file.
  """
  with open(path, newline='') as f:
    rows = csv.DictReader(f)
    if rows.fieldnames != ['path', 'label']:
      raise ValueError(f'{path} needs the columns path,label')
    rows = [*rows]
  clips = []
  for row in rows:
    found = sorted(glob.glob(os.path.join(folder, row['path'])))
    if not found:
      raise ValueError(f'{path}: {folder} has no {row["path"]}')
    (label,) = class_names.canonical_names([row['label']], path)
    clips += [(os.path.relpath(name, folder), label) for name in found]
  return clips


def make_network():
  """Returns a function: clips uint8 [b t h w 3] -> features, logits [b 400]."""
  params, _ = i3d_weights.load()
  mean, std = (i3d_weights.PREPROCESSING[key] for key in ('mean', 'std'))

  @jax.jit
  def run(params, clips):
    x = pixel_ops.to_inputs(clips, mean, std)
    out = i3d_model.I3D().apply({'params': params}, x)
    return out['pooled'], out['logits']

  params = jax.device_put(params)
  return lambda clips: tuple(map(np.asarray, run(params, clips)))


def prototypes_without(
  bank: prototype_bank.PrototypeBank, dropped: np.ndarray
) -> np.ndarray:
  """Returns prototypes of all classes of a bank, some of them composited.

  Args:
    bank: bank of the classifier, with all its classes.
    dropped: bool [s], the classes to composite from the others.

  Returns:
    float32 [s d].
  """
  part = lambda keep: task.Classes(
    tuple(np.array(bank.seen_classes)[keep]), bank.class_embeddings[keep]
  )
  prototypes = bank.seen_prototypes.copy()
  prototypes[dropped], _ = methods.unseen_prototypes(
    part(~dropped),
    bank.seen_prototypes[~dropped],
    part(dropped),
    methods.TransferSettings(**bank.settings),
  )
  return prototypes


def ranks(
  bank: prototype_bank.PrototypeBank, feature: np.ndarray, true: int
) -> dict[str, float]:
  """Computes the ranks of one video; see the module docstring.

  Args:
    bank: bank of the classifier.
    feature: feature of the video [d].
    true: index of its class in the bank.

  Returns:
    Column of the table -> value; 'first of 10' is in percent.
  """
  s = len(bank.seen_classes)
  rank = lambda scores, own: (
    1 + int((np.delete(scores, own) >= scores[own]).sum())
  )
  alone = feature @ prototypes_without(bank, np.arange(s) == true).T
  rest = np.delete(np.arange(s), true)
  seen, new = [], []
  for seed in range(_DRAWS):
    others = np.random.default_rng([seed, true]).permutation(rest)[:_OTHERS]
    ten = np.append(true, others)
    seen.append(rank(alone[ten], 0))
    if not seed:
      together = prototypes_without(bank, np.isin(np.arange(s), ten))
      new.append(rank(feature @ together[ten].T, 0))
  return {
    '10 seen': seen[0],
    '10 new': new[0],
    'first of 10': 100 * np.mean(np.array(seen) == 1),
    '400': rank(alone, true),
  }


def main(argv: list[str]) -> None:
  """Embeds the clips, and prints the table."""
  values = cli.new_flags()
  text = lambda name, default, what: flags.DEFINE_string(
    name, default, what, flag_values=values
  )
  text('text', '', 'Weights of a text encoder.')
  text('data', os.environ.get('ZSAR_TEST_DATA', ''), 'Folder of the clips.')
  text('clips', _CLIPS, 'CSV file with the columns path and label.')
  documents.define_docs(values)
  cli.parse(values, argv, usage=__doc__)
  if not values.text or not values.data:
    raise ValueError('--text and --data are needed')
  clips = read_clips(values.clips, values.data)
  encoders = public_folders.open_sides(i3d_weights.NAME, values.text)
  bank = classifier_bank.make_bank(encoders)
  unknown = sorted({c for _, c in clips} - set(bank.seen_classes))
  if unknown:
    raise ValueError(f'{values.clips}: Kinetics-400 has no {unknown}')
  tables = {
    'dropped': make_table(clips, values.data, encoders.prep, bank),
    'dropped, machine': [documents.machine()],
  }
  documents.publish(tables, values.docs)


def make_table(clips, folder: str, prep, bank) -> list[str]:
  """Returns the lines of the table: one per clip, then means over classes."""
  network = make_network()
  lines, figures = [], []
  for path, label in clips:
    views = user_videos.read_views(os.path.join(folder, path), prep)
    features, logits = network(views.clips)
    best = int(logits[0].argmax())
    shares = np.exp(logits[0] - logits[0].max())
    feature = features[0] / np.linalg.norm(features[0])
    of_clip = ranks(bank, feature, bank.seen_classes.index(label))
    figures.append(of_clip)
    lines.append(
      [
        path,
        label,
        f'{bank.seen_classes[best]} {shares[best] / shares.sum():.2f}',
        *(f'{value:.0f}' for value in of_clip.values()),
      ]
    )
  header = ('clip', 'class dropped', 'closed set says', *figures[0])
  table = results_text.columns(header, lines)
  firsts = lambda key: sum(f[key] == 1 for f in figures)
  table += [
    '',
    f'first: {firsts("10 seen")} of {len(clips)} among ten names, '
    f'{firsts("10 new")} where all ten are new, {firsts("400")} among 400 '
    f'(chance {len(clips) / 10:.1f} and {len(clips) / 400:.1f})',
  ]
  return table


if __name__ == '__main__':
  cli.run(main)
