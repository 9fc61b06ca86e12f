"""Computes the loss of a training step from a batch and the class names."""

from collections.abc import Callable, Mapping
import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from zsar_jax.data import preprocessing
from zsar_jax.models import pixel_ops
from zsar_jax.parallel import sharding
from zsar_jax.training import losses

Batch = Mapping[str, jax.Array]
LOSSES = ('visual', 'contrast', 'match', 'transfer', 'regression')
# The keys of a batch that the step reads.
BATCH_KEYS = ('video', 'label', 'index')


@dataclasses.dataclass(frozen=True)
class LossWeights:
  """Weight of each loss; a zero leaves its computation out.

  Attributes:
    visual: cosine classifier over class centres.
    contrast: video to class name.
    match: fused logit of true and wrong pairs.
    transfer: compositing each class from the others.
    regression: squared distance to the class name.
    label_smoothing: of the targets of all but `match`.
    transfer_temperature: tau of `transfer`.
  """

  visual: float = 1.0
  contrast: float = 1.0
  match: float = 1.0
  transfer: float = 0.0
  regression: float = 0.0
  label_smoothing: float = 0.0
  transfer_temperature: float = 0.1

  def __post_init__(self):
    if min(dataclasses.astuple(self)) < 0 or self.label_smoothing >= 1:
      raise ValueError(f'loss weights must not be negative: {self}')
    if self.transfer_temperature <= 0:
      raise ValueError('loss.transfer_temperature must be positive')
    if not any(getattr(self, name) for name in LOSSES):
      raise ValueError('all loss weights are zero: nothing to train')


@dataclasses.dataclass(frozen=True)
class Augmentation:
  """Changes to clips inside the step; by default none.

  Attributes:
    jitter: colour jitter; it comes first.
    mixing: mixup and cutmix; they come second.
  """

  jitter: pixel_ops.ColourJitter = dataclasses.field(
    default_factory=pixel_ops.ColourJitter
  )
  mixing: pixel_ops.Mixing = dataclasses.field(default_factory=pixel_ops.Mixing)


NO_AUGMENTATION = Augmentation()


def least_classes(weights: LossWeights, augmentation: Augmentation) -> int:
  """Returns how many seen classes training needs.

  To tell classes apart takes two. `match` draws a wrong class. A mixed clip may
  have two true classes, so it needs a third. `transfer` with two classes
  composites each from the other, so it needs a third too.
  """
  mixed = weights.match and augmentation.mixing
  return 3 if mixed or weights.transfer else 2


@dataclasses.dataclass(frozen=True)
class Objective:
  """The loss that a step minimises.

  Attributes:
    model: `models.zsar_model.ZsarModel`.
    prep: how pixels are normalised.
    weights: weight of each loss.
    augmentation: changes the clips first.
    fusion_chunks: number of parts of the batch, or of each accumulated part,
      for the fusion. They run one after the other, in less memory.
  """

  model: Any
  prep: preprocessing.Preprocessing
  weights: LossWeights = LossWeights()
  augmentation: Augmentation = NO_AUGMENTATION
  fusion_chunks: int = 1


def compute_loss(
  params: Any, objective: Objective, batch: Batch, text: Batch, key: jax.Array
) -> tuple[jax.Array, dict[str, jax.Array]]:
  """Returns the weighted sum of the losses, mean over the global batch.

  Args:
    params: model parameters.
    objective: what to minimise.
    batch: `video` uint8 [b t h w 3], `label` int [b] among the seen classes,
      `index` int [b], position in the global stream of examples.
    text: `ids` int [s l] and `mask` bool [s l] of all seen classes. Where the
      text encoder is frozen it may also hold its `tokens` [s l e] and `pooled`
      [s e]; then the encoder does not run.
    key: the step's random key.

  Returns:
    The loss, and scalar metrics by name.

  Raises:
    ValueError: there are fewer seen classes than `least_classes`.
  """
  check_classes(objective, text)
  clips = prepare_clips(objective, batch, key)
  return loss_of_clips(params, objective, clips, text, key)


def check_classes(objective: Objective, text: Batch) -> None:
  """Raises ValueError if there are fewer classes than `least_classes`."""
  num_classes = text['ids'].shape[0]
  least = least_classes(objective.weights, objective.augmentation)
  if num_classes < least:
    raise ValueError(
      f'{num_classes} seen classes; these losses and this augmentation need '
      f'at least {least}'
    )


def prepare_clips(
  objective: Objective, batch: Batch, key: jax.Array
) -> dict[str, jax.Array]:
  """Augments a batch. Mixing takes clips from the whole batch.

  Args:
    objective: has the augmentation.
    batch: see `compute_loss`.
    key: the step's random key.

  Returns:
    `video` [b t h w 3], `labels` int [b k] and their `mass` [b k], `index`.
  """
  clip, labels, mass = _augmented(batch, objective.augmentation, key)
  return {
    'video': clip,
    'labels': labels,
    'mass': mass,
    'index': batch['index'],
  }


def _augmented(
  batch: Batch, augmentation: Augmentation, key: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Returns clips [b t h w 3], their labels [b k] and their mass [b k]."""
  clip, labels = batch['video'], batch['label'][:, None]
  mass = jnp.ones(labels.shape, jnp.float32)
  # Keys 0 and 1 equal those of `jax.random.split`, used elsewhere.
  jitter_key, mixing_key = (jax.random.fold_in(key, i) for i in (2, 3))
  if augmentation.jitter:
    keys = losses.global_index_keys(jitter_key, batch['index'])
    clip = pixel_ops.colour_jitter(clip, augmentation.jitter, keys)
  if augmentation.mixing:
    keys = losses.global_index_keys(mixing_key, batch['index'])
    clip, shift, share = pixel_ops.mix(
      clip, augmentation.mixing, mixing_key, keys
    )
    others = pixel_ops.partner(labels, shift)
    labels = jnp.concatenate([labels, others], axis=1)
    mass = jnp.stack([share, 1 - share], axis=1)
  return clip, labels, mass


def loss_of_clips(
  params: Any,
  objective: Objective,
  clips: Batch,
  text: Batch,
  key: jax.Array,
) -> tuple[jax.Array, dict[str, jax.Array]]:
  """Returns the weighted sum of the losses, mean over some prepared clips.

  Args:
    params: model parameters.
    objective: what to minimise.
    clips: from `prepare_clips`, all of them or a part.
    text: see `compute_loss`.
    key: the step's random key.

  Returns:
    The loss, and scalar metrics by name. `train_top1` compares with the class
    that has the most mass.
  """
  model, prep, weights = objective.model, objective.prep, objective.weights
  dropout_key, negative_key = jax.random.split(key)
  apply = functools.partial(
    model.apply,
    {'params': params},
    deterministic=False,
    rngs={'dropout': dropout_key},
  )
  inputs = pixel_ops.to_inputs(clips['video'], prep.mean, prep.std, prep.inputs)
  video = apply(inputs, method='encode_video')
  names = _encode_names(apply, text)
  heads = model.apply({'params': params}, method='heads')
  q = losses.targets(
    clips['labels'],
    text['ids'].shape[0],
    weights.label_smoothing,
    clips['mass'],
  )
  z, t = video['embedding'], names['embedding']
  terms = _embedding_terms(z, t, heads, q, weights)
  if weights.match:
    tokens = (video['tokens'], names['tokens'], text['mask'])
    pairs = _pairs(z, t, heads, clips, negative_key)
    logits = _match_pairs(apply, *tokens, pairs, objective.fusion_chunks)
    terms['match'] = losses.match_loss(
      logits[:, :-1], logits[:, -1], clips['mass']
    )

  means = {name: term.mean() for name, term in terms.items()}
  loss = sum(getattr(weights, name) * term for name, term in means.items())
  named = (z @ heads['class_centres'].T).argmax(-1)
  return loss, {
    'loss': loss,
    'train_top1': (named == q.argmax(-1)).mean(),
    **{name: heads[name] for name in ('visual_scale', 'text_scale')},
    **{f'loss_{name}': value for name, value in means.items()},
  }


def _embedding_terms(z, t, heads, q, weights) -> dict[str, jax.Array]:
  """Returns the losses that read embeddings alone, [b] each, by name."""
  centres, scale = heads['class_centres'], heads['visual_scale']
  terms = {}
  if weights.visual:
    terms['visual'] = losses.visual_loss(z, centres, scale, q)
  if weights.contrast:
    terms['contrast'] = losses.contrast_loss(z, t, heads['text_scale'], q)
  if weights.transfer:
    terms['transfer'] = losses.transfer_loss(
      z, t, centres, scale, q, weights.transfer_temperature
    )
  if weights.regression:
    terms['regression'] = losses.regression_loss(z, t, q)
  return terms


def _pairs(z, t, heads, clips, key) -> jax.Array:
  """Returns the classes to compare each clip with: its own, and a wrong one."""
  labels, mass = clips['labels'], clips['mass']
  wrong = losses.hard_negatives(
    z,
    t,
    heads['text_scale'],
    # Smoothed mass does not mean that a pair is true.
    losses.targets(labels, t.shape[0], mass=mass),
    losses.global_index_keys(key, clips['index']),
  )
  return jnp.concatenate([labels, wrong[:, None]], axis=1)  # [b k+1]


def _encode_names(apply: Callable[..., Any], text: Batch) -> dict[str, Any]:
  """Embeds the class names; each device encodes its share of them.

  The outputs of a frozen encoder are known already. There may be more names
  than a device has clips. If there are fewer names than devices, each device
  encodes all of them, and their gradients need no exchange.
  """
  if 'pooled' in text:
    known = {name: text[name] for name in ('tokens', 'pooled')}
    return apply(known, method='embed_encoded_text')
  count = text['ids'].shape[0]
  shards = sharding.current_batch_shards()
  if shards == 1 or count < shards:
    return apply(text['ids'], text['mask'], method='encode_text')
  padded = {
    name: sharding.constrain_batch(
      jnp.pad(x, [(0, -count % shards), (0, 0)], mode='edge')
    )
    for name, x in text.items()
  }
  out = apply(padded['ids'], padded['mask'], method='encode_text')
  # Every clip may need any of the names.
  whole = lambda x: jax.lax.with_sharding_constraint(x, sharding.P())
  return {name: whole(x[:count]) for name, x in out.items()}


def _match_pairs(apply, video_tokens, text_tokens, mask, pairs, chunks):
  """Computes match logits [b k] of clips with the names `pairs` int [b k].

  It works in chunks of clips. Only one chunk's tokens of names, queries and
  scores are in memory at a time. The backward pass computes each chunk again.
  """

  def match(tokens, pairs):
    return apply(tokens, text_tokens[pairs], mask[pairs], method='match')

  if chunks == 1:
    return match(video_tokens, pairs)
  again = jax.checkpoint(lambda chunk: match(*chunk))
  logits = jax.lax.map(
    again, (split_batch(video_tokens, chunks), split_batch(pairs, chunks))
  )
  return logits.swapaxes(0, 1).reshape(pairs.shape)


def split_batch(x: jax.Array, parts: int) -> jax.Array:
  """Reshapes [b ...] to [parts b/parts ...]; devices keep their own rows."""
  x = x.reshape(x.shape[0] // parts, parts, *x.shape[1:]).swapaxes(0, 1)
  if sharding.current_batch_shards() == 1:
    return x
  spec = sharding.P(None, *sharding.BATCH_SPEC)
  return jax.lax.with_sharding_constraint(x, spec)
