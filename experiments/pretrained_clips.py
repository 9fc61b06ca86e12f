"""Real clips by features of a public classifier; nothing is trained on videos.

python -m experiments.pretrained_clips --dataset_dir=DIR --text=MINILM_DIR \
  --class_split=experiments/real_clips_splits.json --out=runs/pretrained

The pretrained setting of `experiments.real_clips`: the same clips and splits,
but the video side is I3D, trained on Kinetics-400, and is not trained further.
Every clip is embedded once, into OUT/embeddings; a stopped command goes on.
The first --text is the declared one; more may follow, and --descriptions
adds rows with sentences about the classes. --docs puts the tables into a
document.

All settings are chosen inside each split: on three inner draws, in which six
of its seen classes play unseen, by the mean same-source per-class accuracy.
What is not better than the declared setting by more than a standard error
keeps the declared one. In inner draws, columns of the classes that play unseen
are left out: the choice is for classes that the classifier does not know.
Declared settings are the product's and shares of a half; the lambda of the
regressions was set on inner draws of split 0, which is reported apart.

Declared before any outer result of splits 1 to 4: the primary comparison is
`ensemble` less `ridge, both`, same source, with names from the first --text. It
asks whether semantic transfer adds to a regression from the same features to
the same names. All others are corrected by Holm's method.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import os

from absl import flags
import numpy as np

from experiments import (
  class_texts,
  documents,
  pretrained_arrays,
  pretrained_methods,
  pretrained_tables,
  real_clips_cells,
)
from zsar_jax import cli
from zsar_jax.data import class_descriptions
from zsar_jax.data.protocols import class_split, inner_draws, split_choice
from zsar_jax.evaluation import choosing, embedding_cache
from zsar_jax.inference import classifier_bank, public_sides
from zsar_jax.pretrained import i3d
from zsar_jax.system import terminal

DRAWS = 3
_SHARE = 0.4  # of each source's seen classes, as in real_clips


@dataclasses.dataclass(frozen=True)
class Text:
  """Class embeddings by one text encoder.

  Attributes:
    name: for tables.
    classes: of the dataset's classes [c e].
    columns: the classifier's columns, with embeddings of their names.
  """

  name: str
  classes: np.ndarray
  columns: pretrained_methods.Columns


def make_task(
  clips: pretrained_arrays.Clips,
  text: Text,
  seen: Sequence[str],
  unseen: Sequence[str],
  features: np.ndarray | None = None,
) -> tuple[pretrained_methods.Task, np.ndarray]:
  """Makes a task of all clips of some seen and unseen classes.

  Args:
    clips: all of them.
    text: class embeddings.
    seen: names of the seen classes.
    unseen: names of the candidates.
    features: of the clips to name [n d], rows as in `clips`; None for theirs.

  Returns:
    The task, and which rows of `clips` it names.
  """
  at = lambda names: np.array([clips.classes.index(name) for name in names])
  place = np.full(len(clips.classes), -1)
  place[at(seen)] = np.arange(len(seen))
  known = np.flatnonzero(place[clips.labels] >= 0)
  tested = np.flatnonzero(np.isin(clips.labels, at(unseen)))
  features = clips.features if features is None else features
  task = pretrained_methods.Task(
    clips.features[known],
    place[clips.labels[known]],
    text.classes[at(seen)],
    text.columns,
    features[tested],
    text.classes[at(unseen)],
  )
  return task, tested


def accuracy(
  clips: pretrained_arrays.Clips,
  unseen: Sequence[str],
  rows: np.ndarray,
  scores: np.ndarray,
) -> float:
  """Same-source per-class accuracy of clips, by scores [m u]."""
  at = np.array([clips.classes.index(name) for name in unseen])
  sources = np.array(clips.sources)
  labels = clips.labels[rows]
  alike = sources[labels][:, None] == sources[at][None]
  best = at[np.where(alike, scores, -np.inf).argmax(axis=1)]
  return float(np.mean([np.mean(best[labels == c] == c) for c in at]))


def choose(
  clips: pretrained_arrays.Clips,
  text: Text,
  draws: Sequence[class_split.Protocol],
) -> tuple[dict[str, pretrained_methods.Settings], dict[str, list]]:
  """Chooses the settings of all methods on inner draws.

  Args:
    clips: all of them.
    text: class embeddings.
    draws: seen and unseen classes of each.

  Returns:
    Method -> settings, and method -> what was compared: settings, accuracies
    of the draws.
  """
  tasks = []
  for draw in draws:
    columns = text.columns.without(draw.unseen_classes)
    of_draw = dataclasses.replace(text, columns=columns)
    tasks.append(
      make_task(clips, of_draw, draw.seen_classes, draw.unseen_classes)
    )
  chosen, compared = {}, {}
  made = [{} for _ in draws]
  for method in pretrained_methods.METHODS:
    grid = pretrained_methods.grid(method)
    scores = [
      [
        pretrained_methods.score(
          method, task, {**chosen, method: settings}, of_draw
        )
        for settings in grid
      ]
      for (task, _), of_draw in zip(tasks, made, strict=True)
    ]
    compared[method] = [
      (
        settings,
        [
          accuracy(clips, draw.unseen_classes, rows, of_draw[i])
          for draw, (_, rows), of_draw in zip(draws, tasks, scores, strict=True)
        ],
      )
      for i, settings in enumerate(grid)
    ]
    chosen[method] = choosing.best(compared[method])
    best = grid.index(chosen[method])
    for of_draw, of_settings in zip(made, scores, strict=True):
      of_draw[method] = of_settings[best]
  return chosen, compared


def read_texts(
  paths: Sequence[str],
  classes: Sequence[str],
  descriptions: Mapping[str, Sequence[str]],
  folder: str,
) -> list[Text]:
  """Embeds the names of both datasets, without and with descriptions.

  Args:
    paths: of text encoders.
    classes: canonical names of the dataset's classes.
    descriptions: canonical name -> sentences; empty for none.
    folder: where embeddings are kept for the next time.

  Returns:
    For each encoder names alone and, where there are any, described names.
  """
  params, _ = i3d.load()
  labels = i3d.labels()
  raw = np.asarray(params['logits']['kernel']).T
  texts = []
  for path in paths:
    encoder = class_texts.Encoder(path)
    for described in ({}, descriptions) if descriptions else ({},):
      rows = _embed_names(encoder, (*classes, *labels), described, folder)
      columns = pretrained_methods.Columns(
        labels,
        rows[len(classes) :],
        classifier_bank.prototypes(raw, labels, 'i3d'),
        raw,
        np.asarray(params['logits']['bias']),
      )
      name = f'{encoder.name}, described' if described else encoder.name
      texts.append(Text(name, rows[: len(classes)], columns))
  return texts


def _embed_names(
  encoder: class_texts.Encoder,
  names: Sequence[str],
  descriptions: Mapping[str, Sequence[str]],
  folder: str,
) -> np.ndarray:
  """Class embeddings [c e], kept in the folder under a hash of all texts."""
  weight = public_sides.DESCRIPTION_WEIGHT
  known = {name: descriptions.get(name, ()) for name in names}
  identity = [encoder.name, encoder.prompts, weight, names, known]
  path = os.path.join(
    folder, f'names-{embedding_cache.identity_hash(identity)}.npy'
  )
  if os.path.exists(path):
    return np.load(path, allow_pickle=False)
  if descriptions:
    (rows,) = encoder.embed_described(names, descriptions, [weight])
  else:
    rows = encoder.embed(names)
  os.makedirs(folder, exist_ok=True)
  with open(f'{path}.tmp', 'wb') as f:
    np.save(f, rows)
  os.replace(f'{path}.tmp', path)
  return rows


def make_protocols(
  dataset_dir: str, path: str
) -> list[tuple[class_split.Protocol, list[class_split.Protocol]]]:
  """Returns every split of a file, with its inner draws."""
  found = []
  for index in range(real_clips_cells.num_splits(path)):
    choice = split_choice.SplitChoice(class_split=path, class_split_index=index)
    split = class_split.make_protocol(dataset_dir, choice)
    draws = [inner_draws.inner_draw(split, d, _SHARE) for d in range(DRAWS)]
    found.append((split, draws))
  return found


def measure(
  clips: pretrained_arrays.Clips,
  text: Text,
  split: class_split.Protocol,
  draws: Sequence[class_split.Protocol],
) -> pretrained_tables.Outcome:
  """Chooses settings on the inner draws of a split, and scores its clips."""
  chosen, compared = choose(clips, text, draws)
  names = (split.seen_classes, split.unseen_classes)
  task, rows = make_task(clips, text, *names)
  scores = pretrained_methods.all_scores(task, chosen)
  scores |= pretrained_tables.diagnostic_scores(
    clips, task, rows, names, chosen[pretrained_methods.SEEN]
  )
  if clips.first_frames is not None:
    still, _ = make_task(clips, text, *names, clips.first_frames)
    of_still = pretrained_methods.all_scores(still, chosen)
    scores[pretrained_tables.FIRST] = of_still[pretrained_tables.MAIN]
  return pretrained_tables.Outcome(split, rows, scores, chosen, compared)


def make_tables(
  clips: pretrained_arrays.Clips,
  texts: Sequence[Text],
  protocols: Sequence[
    tuple[class_split.Protocol, Sequence[class_split.Protocol]]
  ],
) -> dict[str, list[str]]:
  """The tables of the development split, and of the others together."""
  outcomes = [
    [measure(clips, text, *protocol) for protocol in protocols]
    for text in texts
  ]
  names = [text.name for text in texts]
  development = real_clips_cells.DEVELOPMENT
  of = lambda keep: [
    [o for s, o in enumerate(of_text) if keep(s)] for of_text in outcomes
  ]
  claimed = of(lambda s: s != development)
  tables = pretrained_tables.tables_of(clips, claimed, names)
  apart = pretrained_tables.tables_of(
    clips, of(lambda s: s == development), names
  )
  return tables | {f'{k}, development': v for k, v in apart.items()}


def main(argv: list[str]) -> None:
  """Embeds, chooses, measures, and prints the tables."""
  values = documents.new_flags(
    {
      'dataset_dir': 'Prepared dataset.',
      'class_split': 'Class split file of several splits.',
      'out': 'Folder for everything that is made.',
    }
  )
  flags.DEFINE_multi_string(
    'text',
    None,
    'Weights of a text encoder.',
    flag_values=values,
    required=True,
  )
  flags.DEFINE_string(
    'descriptions',
    '',
    'File of descriptions, or `shipped`.',
    flag_values=values,
  )
  flags.DEFINE_integer('views', 1, 'Of a clip.', flag_values=values)
  flags.DEFINE_bool(
    'first_frames', False, 'Measure that control too.', flag_values=values
  )
  cli.parse(values, argv, usage=__doc__)
  clips = pretrained_arrays.embed(
    values.dataset_dir,
    os.path.join(values.out, 'embeddings'),
    values.views,
    values.first_frames,
    terminal.say,
  )
  described = {}
  if values.descriptions:
    described = class_descriptions.find(values.descriptions, 'video_folder')
  texts = read_texts(
    values.text,
    clips.classes,
    described,
    os.path.join(values.out, 'embeddings'),
  )
  protocols = make_protocols(values.dataset_dir, values.class_split)
  tables = make_tables(clips, texts, protocols)
  tables['machine'] = [documents.machine()]
  documents.publish(tables, values.docs)


if __name__ == '__main__':
  cli.run(main)
