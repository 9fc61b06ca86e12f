"""Writes the model card (README.md) of exported encoders and their bank."""

from collections.abc import Mapping, Sequence
import json
import os
from typing import Any

from zsar_jax.evaluation import results as results_lib
from zsar_jax.evaluation import results_text
from zsar_jax.inference import confidence, encoders, prototype_bank
from zsar_jax.pretrained import hub
from zsar_jax.system import json_files

FILE = 'README.md'
# Longer than any likely run of backticks in a class name.
_FENCE = '`' * 6
# Names that a card lists without folding.
_FEW = 20


def make(
  recognizer: encoders.Recognizer,
  bank: prototype_bank.PrototypeBank,
  *,
  repository: str = '',
  licence: str = '',
  results: Mapping[str, Any] | None = None,
) -> str:
  """Writes a model card.

  Args:
    recognizer: the encoders.
    bank: bank of the encoders.
    repository: `org/name` of the upload; '' if unknown.
    licence: the Hub's identifier of the licence, such as 'apache-2.0'; '' if
      not stated.
    results: content of results.json; None without it.

  Returns:
    Markdown, with the Hub's metadata at the top.
  """
  parts = [
    _front(recognizer, licence),
    f'# {repository.rpartition("/")[2] or "Zero-shot action recognition"}',
    'Encoders and a prototype bank for zero-shot action recognition with '
    '`zsar_jax`. The model ranks class names that you choose for a video. A '
    'new class needs no videos and no training.',
    _usage(repository),
    '## Model',
    _facts(recognizer, bank, licence),
    _methods(recognizer, bank),
  ]
  if results is not None:
    parts += [
      '## Results',
      f'{_FENCE}\n{results_text.format_table(results)}\n{_FENCE}',
    ]
  left_out = prototype_bank.without(recognizer.trained_on, bank.seen_classes)
  if left_out:
    parts += [
      '## Left out of the bank',
      f'The encoder was trained on these {len(left_out)} classes too. The bank '
      'has no prototypes of them. They are no unseen classes: do not test '
      'zero-shot recognition on them.',
      _listed(left_out),
    ]
  parts += [
    f'## The {len(bank.seen_classes)} seen classes',
    _listed(bank.seen_classes),
  ]
  return '\n\n'.join(parts) + '\n'


def write(
  folder: str,
  recognizer: encoders.Recognizer,
  bank: prototype_bank.PrototypeBank,
  *,
  repository: str = '',
  licence: str = '',
) -> None:
  """Writes the card of a folder, with the results that lie in it.

  Args:
    folder: of the export; results.json may be missing.
    recognizer: see `make`.
    bank: see `make`.
    repository: see `make`.
    licence: see `make`.
  """
  measured = os.path.join(folder, results_lib.RESULTS_FILE)
  card = make(
    recognizer,
    bank,
    repository=repository,
    licence=licence,
    results=json_files.read(measured) if os.path.exists(measured) else None,
  )
  with open(os.path.join(folder, FILE), 'w') as f:
    f.write(card)


def _listed(names: Sequence[str]) -> str:
  """Lists class names in a code block; many of them can be unfolded."""
  block = '\n'.join([_FENCE, *names, _FENCE])
  if len(names) <= _FEW:
    return block
  return (
    f'<details>\n<summary>{len(names)} names</summary>\n\n{block}\n\n</details>'
  )


def _front(recognizer: encoders.Recognizer, licence: str) -> str:
  """Returns the Hub's metadata as YAML, in which JSON strings are valid."""
  fields = {'license': licence} if licence else {}
  fields |= {
    'library_name': 'zsar_jax',
    'pipeline_tag': 'video-classification',
    'tags': ['zero-shot', 'action-recognition'],
  }
  based_on = _base_models(recognizer.origin)
  if based_on:
    fields['base_model'] = based_on
  lines = [f'{key}: {json.dumps(value)}' for key, value in fields.items()]
  return '\n'.join(['---', *lines, '---'])


def _base_models(origin: str) -> list[str]:
  """Returns the Hub repositories that `Recognizer.origin` names."""
  ids = [part.partition('=')[2] for part in origin.split(', ')]
  names = [
    i.removeprefix(hub.PREFIX).partition('@')[0] for i in ids if hub.is_id(i)
  ]
  return list(dict.fromkeys(names))


def _usage(repository: str) -> str:
  # What was pushed is used where it is; nobody has to download it first.
  folder = f'{hub.PREFIX}{repository}' if repository else 'FOLDER'
  lines = [
    '## Use',
    '```',
    f'zsar predict --workdir={folder} --video=clip.mp4 \\',
    '  --classes="juggling,rowing" --explain',
    '```',
    '',
    '```python',
    'import zsar_jax',
    '',
    f"model = zsar_jax.load('{folder}').add_classes(['juggling', 'rowing'])",
    "print(model.predict('clip.mp4').ranking)",
    '```',
  ]
  return '\n'.join(lines)


def _facts(recognizer, bank, licence: str) -> str:
  columns = int((bank.counts == 0).sum())
  videos = int(bank.counts.sum())
  prep = recognizer.prep
  rows = {
    'public weights': recognizer.origin,
    'hash of the encoders': f'{recognizer.weights_hash}, step {bank.step}',
    'videos': (
      f'{prep.num_frames} frames, {prep.sampling} sampling, '
      f'{prep.size} x {prep.size} pixels'
    ),
    'prototypes': (
      f"{columns} from columns of a classifier's last layer, "
      f'{len(bank.counts) - columns} from {videos} videos'
    ),
    'trained on': bank.domain,
    'protocol': bank.protocol,
    'licence of the videos': bank.licence or 'not stated',
    'licence of this model': licence or 'not stated',
  }
  lines = [f'| {key} | {_cell(value)} |' for key, value in rows.items()]
  return '\n'.join(['| | |', '|---|---|', *lines])


def _cell(text: str) -> str:
  return text.replace('|', '\\|')


def _methods(recognizer, bank) -> str:
  joint = (
    'Videos and names share one space. So predictions also give the similarity '
    'of the video to each name.'
    if recognizer.joint
    else 'Videos and names do not share a space, so they are never compared '
    'directly.'
  )
  described = confidence.Confidence(bank.calibration, False).described
  return (
    'The prototype of a new class is composited from those of the seen '
    'classes, weighted by how related their names are (semantic transfer, '
    'after Lin et al., CVPR 2022). A seen class has its own prototype; '
    f'recognising it is not zero-shot. {joint}\n\n'
    f'Settings: `{json.dumps(dict(bank.settings))}`\n\n'
    f'Probabilities: {described}.'
  )
