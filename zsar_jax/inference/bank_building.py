"""Makes prototype banks."""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
from typing import Any

import numpy as np

from zsar_jax.data import clip_reader
from zsar_jax.data.protocols import class_split, overlap
from zsar_jax.evaluation import choosing, methods, protocol_evaluation, task
from zsar_jax.inference import (
  embedders,
  encoders,
  predictions,
  prototype_bank,
)


def check_unseen(
  recognizer: encoders.Recognizer, protocols: Sequence[class_split.Protocol]
) -> None:
  """Checks that no unseen class of a protocol was trained on.

  Args:
    recognizer: encoders; see `Recognizer.trained_on`.
    protocols: the splits. Their seen classes may be different ones.

  Raises:
    ValueError: an unseen class was trained on, and leaks are not allowed.
  """
  for protocol in protocols:
    # The protocol has already audited its own seen classes.
    others = [
      name
      for name in recognizer.trained_on
      if name not in protocol.seen_classes
    ]
    overlap.refuse(
      overlap.audit_names(others, protocol.unseen_classes),
      f'{protocol.name}, and what the model was trained on',
    )


def warn_of_unseen(
  recognizer: encoders.Recognizer,
  bank: prototype_bank.PrototypeBank,
  protocols: Sequence[class_split.Protocol],
  say: Callable[[str], Any],
) -> None:
  """Says which unseen classes the encoder was trained on, if any.

  Args:
    recognizer: encoders; see `Recognizer.trained_on`.
    bank: its bank, which leaves these classes out.
    protocols: the splits.
    say: called with the warning.
  """
  names = dict.fromkeys(n for p in protocols for n in p.unseen_classes)
  for warning in predictions.left_out_warnings(
    names, bank.seen_classes, recognizer.trained_on
  ):
    say(f'warning: {warning}')


def seen_of(bank: prototype_bank.PrototypeBank, joint: bool) -> task.Seen:
  """Returns a bank's seen classes, for an evaluation.

  Args:
    bank: the bank.
    joint: whether its encoders embed videos and names into one space.

  Returns:
    The seen classes. ConSE uses their prototypes as a classifier.
  """
  classes = task.Classes(bank.seen_classes, bank.class_embeddings)
  return task.Seen(classes, bank.seen_prototypes, joint=joint)


def make_bank(
  recognizer: encoders.Recognizer,
  protocol: class_split.Protocol,
  seen: task.Seen,
  settings: methods.TransferSettings,
  calibration: Mapping[str, Any] | None = None,
  licence: str = '',
) -> prototype_bank.PrototypeBank:
  """Makes the prototype bank of a protocol's seen classes.

  Args:
    recognizer: the encoders of the prototypes and class embeddings.
    protocol: names the seen classes.
    seen: the seen classes with their prototypes.
    settings: of the transfer.
    calibration: from `calibration.Calibration.to_dict`, or None.
    licence: licence of the training videos.

  Returns:
    The bank.
  """
  return prototype_bank.PrototypeBank(
    seen_classes=protocol.seen_classes,
    seen_prototypes=seen.prototypes,
    class_embeddings=np.asarray(seen.classes.text, np.float32),
    counts=seen.sums.counts,
    domain=protocol.domain,
    protocol=protocol.name,
    protocol_hash=protocol.hash,
    preprocessing=recognizer.prep.to_json(),
    weights_hash=recognizer.weights_hash,
    step=recognizer.step,
    licence=licence,
    origin=recognizer.origin,
    settings=dataclasses.asdict(settings),
    calibration=None if calibration is None else dict(calibration),
    left_out=prototype_bank.without(
      recognizer.trained_on, protocol.seen_classes
    ),
  )


def build_bank(
  recognizer: encoders.Recognizer,
  protocol: class_split.Protocol,
  cache: clip_reader.VideoCache | None = None,
  *,
  embeddings_dir: str = '',
  licence: str = '',
  say: Callable[[str], Any] = lambda text: None,
) -> prototype_bank.PrototypeBank:
  """Makes the bank of a protocol's seen classes from its training videos.

  Args:
    recognizer: the encoders.
    protocol: has the seen classes and their training videos.
    cache: decoded videos.
    embeddings_dir: parent of the embedding caches; '' for none.
    licence: licence of the training videos.
    say: called with a line before each slow part.

  Returns:
    The bank. It is calibrated on held-out videos if there are any.
  """
  embed = embedders.make_embedder(recognizer, cache, embeddings_dir, say=say)
  without = dataclasses.replace(protocol, test=None, unseen_classes=())
  evaluation = protocol_evaluation.evaluate_protocols(
    [without], embed, recognizer.transfer_settings
  )
  settings = recognizer.transfer_settings
  fitted = choosing.calibrate_on_seen(evaluation, settings, protocol.name)
  return make_bank(
    recognizer,
    protocol,
    evaluation.seen,
    settings,
    fitted and fitted.to_dict(),
    licence,
  )
