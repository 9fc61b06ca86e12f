"""One training step as a pure function, and the state it carries.

`make_train_step` returns a jitted, donating function on global arrays; where
they lie is decided by the shardings of the arguments (sharding.py).
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax

from zsar_jax.data import preprocessing as preprocessing_lib
from zsar_jax.models import pixel_ops
from zsar_jax.parallel import sharding
from zsar_jax.training import losses, optim

Batch = Mapping[str, jax.Array]
LOSSES = ('visual', 'contrast', 'match', 'transfer', 'regression')
# What the step reads of a batch.
BATCH_KEYS = ('video', 'label', 'index')


@functools.partial(
  jax.tree_util.register_dataclass,
  data_fields=['step', 'params', 'opt_state', 'ema', 'skipped'],
  meta_fields=[],
)
@dataclasses.dataclass
class TrainState:
  """All that changes during training; the step is the loader's state too.

  Attributes:
    step: int32, batches seen: also those whose update was skipped.
    params: model parameters.
    opt_state: optimiser state.
    ema: exponential moving average of the parameters; {} without one.
    skipped: int32, updates left out because they were not finite.
  """

  step: jax.Array
  params: Any
  opt_state: Any
  ema: Any = dataclasses.field(default_factory=dict)
  skipped: Any = None

  @property
  def best_params(self) -> Any:
    """What to evaluate: the average where there is one."""
    return self.ema or self.params


@dataclasses.dataclass(frozen=True)
class LossWeights:
  """Weight of each loss; a zero leaves its computation out.

  Attributes:
    visual: cosine classifier over class centres.
    contrast: video to class name.
    match: fused logit of true and wrong pairs.
    transfer: every class composited from the others.
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
  """What is done to clips inside the step; the default is nothing.

  Attributes:
    jitter: colour jitter, first.
    mixing: mixup and cutmix, after.
  """

  jitter: pixel_ops.ColourJitter = dataclasses.field(
    default_factory=pixel_ops.ColourJitter
  )
  mixing: pixel_ops.Mixing = dataclasses.field(default_factory=pixel_ops.Mixing)


NO_AUGMENTATION = Augmentation()


def least_classes(weights: LossWeights, augmentation: Augmentation) -> int:
  """How many seen classes training needs.

  Two, to tell apart; `match` draws a wrong class, of which a mixed clip has
  one only beyond the two that it may be mixed of; `transfer` composites each
  of two from the other, and only a third makes them differ in kind.
  """
  mixed = weights.match and augmentation.mixing
  return 3 if mixed or weights.transfer else 2


def init_state(
  model: Any,
  optimizer: optax.GradientTransformation,
  example: Mapping[str, jax.ShapeDtypeStruct],
  key: jax.Array,
  mesh: jax.sharding.Mesh,
  with_ema: bool = False,
) -> TrainState:
  """Creates the state already sharded.

  Args:
    model: `models.zsar_model.ZsarModel`.
    optimizer: from `optim.make_optimizer`.
    example: shapes of the model's arguments `video`, `ids` and `mask`.
    key: random key.
    mesh: from `sharding.make_mesh`.
    with_ema: keep a moving average of the parameters, too.

  Returns:
    The state at step 0.
  """
  create = functools.partial(_create, model, optimizer, example, with_ema)
  shardings = sharding.tree_shardings(jax.eval_shape(create, key), mesh)
  with jax.set_mesh(mesh):
    return jax.jit(create, out_shardings=shardings)(key)


def abstract_state(
  model: Any,
  optimizer: optax.GradientTransformation,
  example: Mapping[str, jax.ShapeDtypeStruct],
  mesh: jax.sharding.Mesh,
  with_ema: bool = False,
) -> TrainState:
  """The shapes and shardings of `init_state`, on devices that may be absent."""
  create = functools.partial(_create, model, optimizer, example, with_ema)
  shapes = jax.eval_shape(create, jax.random.key(0))
  return jax.tree.map(
    lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
    shapes,
    sharding.tree_shardings(shapes, mesh),
  )


def _create(model, optimizer, example, with_ema, key) -> TrainState:
  zeros = {k: jnp.zeros(v.shape, v.dtype) for k, v in example.items()}
  params = model.init(key, **zeros)['params']
  zero = jnp.zeros((), jnp.int32)
  ema = jax.tree.map(jnp.copy, params) if with_ema else {}
  return TrainState(zero, params, optimizer.init(params), ema, zero)


def _augmented(
  batch: Batch, augmentation: Augmentation, key: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Clips [b t h w 3], the labels they are made of and their mass, [b k]."""
  clip, labels = batch['video'], batch['label'][:, None]
  mass = jnp.ones(labels.shape, jnp.float32)
  # 0 and 1 are the keys that splitting gives.
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


def compute_loss(
  params: Any,
  model: Any,
  batch: Batch,
  text: Batch,
  key: jax.Array,
  weights: LossWeights,
  prep: preprocessing_lib.Preprocessing,
  augmentation: Augmentation = NO_AUGMENTATION,
  fusion_chunks: int = 1,
) -> tuple[jax.Array, dict[str, jax.Array]]:
  """Weighted sum of the losses, mean over the global batch.

  Args:
    params: model parameters.
    model: `models.zsar_model.ZsarModel`.
    batch: `video` uint8 [b t h w 3], `label` int [b] among the seen classes,
      `index` int [b], position in the global stream of examples.
    text: `ids` int [s l] and `mask` bool [s l] of all seen classes; where the
      text encoder is frozen, its `tokens` [s l e] and `pooled` [s e] may be
      there too, and it is not run.
    key: the step's random key.
    weights: weight of each loss.
    prep: how pixels are normalised.
    augmentation: what is done to the clips first.
    fusion_chunks: parts of the batch that the fusion goes through in, one
      after the other, in less memory.

  Returns:
    The loss, and scalar metrics by name.

  Raises:
    ValueError: fewer seen classes than `least_classes`.
  """
  _check_classes(text, weights, augmentation)
  return _loss_of_clips(
    params,
    model,
    _prepare(batch, augmentation, key),
    text,
    key,
    weights,
    prep,
    fusion_chunks,
  )


def _check_classes(text, weights, augmentation) -> None:
  num_classes = text['ids'].shape[0]
  least = least_classes(weights, augmentation)
  if num_classes < least:
    raise ValueError(
      f'{num_classes} seen classes; these losses and this augmentation need '
      f'at least {least}'
    )


def _prepare(batch, augmentation, key) -> dict[str, jax.Array]:
  """The batch after augmentation, which mixes clips of the whole of it."""
  clip, labels, mass = _augmented(batch, augmentation, key)
  return {
    'video': clip,
    'labels': labels,
    'mass': mass,
    'index': batch['index'],
  }


def _loss_of_clips(
  params: Any,
  model: Any,
  batch: Batch,
  text: Batch,
  key: jax.Array,
  weights: LossWeights,
  prep: preprocessing_lib.Preprocessing,
  chunks: int,
) -> tuple[jax.Array, dict[str, jax.Array]]:
  """Weighted sum of the losses, mean over some clips of the batch.

  Args:
    params: model parameters.
    model: `models.zsar_model.ZsarModel`.
    batch: of `_prepare`.
    text: `ids` int [s l] and `mask` bool [s l] of all seen classes.
    key: the step's random key.
    weights: weight of each loss.
    prep: how pixels are normalised.
    chunks: see `_match_pairs`.

  Returns:
    The loss, and scalar metrics by name. `train_top1` is against the class
    that has the most mass.
  """
  num_classes = text['ids'].shape[0]
  dropout_key, negative_key = jax.random.split(key)
  apply = functools.partial(
    model.apply,
    {'params': params},
    deterministic=False,
    rngs={'dropout': dropout_key},
  )
  labels, mass = batch['labels'], batch['mass']
  clip = pixel_ops.to_inputs(batch['video'], prep.mean, prep.std, prep.inputs)
  video = apply(clip, method='encode_video')
  names = _encode_names(apply, text)
  heads = model.apply({'params': params}, method='heads')
  q = losses.targets(labels, num_classes, weights.label_smoothing, mass)
  z, t = video['embedding'], names['embedding']

  terms = {}
  if weights.visual:
    terms['visual'] = losses.visual_loss(
      z, heads['class_centres'], heads['visual_scale'], q
    )
  if weights.contrast:
    terms['contrast'] = losses.contrast_loss(z, t, heads['text_scale'], q)
  if weights.transfer:
    terms['transfer'] = losses.transfer_loss(
      z,
      t,
      heads['class_centres'],
      heads['visual_scale'],
      q,
      weights.transfer_temperature,
    )
  if weights.regression:
    terms['regression'] = losses.regression_loss(z, t, q)
  if weights.match:
    wrong = losses.hard_negatives(
      z,
      t,
      heads['text_scale'],
      # Smoothing is no claim that a pair is true.
      losses.targets(labels, num_classes, mass=mass),
      losses.global_index_keys(negative_key, batch['index']),
    )
    pairs = jnp.concatenate([labels, wrong[:, None]], axis=1)  # [b k+1]
    logits = _match_pairs(
      apply, video['tokens'], names['tokens'], text['mask'], pairs, chunks
    )
    terms['match'] = losses.match_loss(logits[:, :-1], logits[:, -1], mass)

  means = {name: term.mean() for name, term in terms.items()}
  loss = sum(getattr(weights, name) * term for name, term in means.items())
  named = (z @ heads['class_centres'].T).argmax(-1)
  metrics = {
    'loss': loss,
    'train_top1': (named == q.argmax(-1)).mean(),
    'visual_scale': heads['visual_scale'],
    'text_scale': heads['text_scale'],
    **{f'loss_{name}': value for name, value in means.items()},
  }
  return loss, metrics


def _encode_names(apply: Callable[..., Any], text: Batch) -> dict[str, Any]:
  """The class names' embeddings, each device encoding its share of them.

  What a frozen encoder gave is known already. There may be more names than a
  device has clips. Fewer names than devices are encoded whole by each: their
  gradients then need no exchange.
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
  # Every clip may need any of them.
  whole = lambda x: jax.lax.with_sharding_constraint(x, sharding.P())
  return {name: whole(x[:count]) for name, x in out.items()}


def _match_pairs(apply, video_tokens, text_tokens, mask, pairs, chunks):
  """Match logits [b k] of clips with the names `pairs` int [b k].

  In chunks of clips only one chunk's tokens of names, queries and scores are
  in memory at a time: the backward pass computes each chunk again.
  """

  def match(tokens, pairs):
    return apply(tokens, text_tokens[pairs], mask[pairs], method='match')

  if chunks == 1:
    return match(video_tokens, pairs)
  again = jax.checkpoint(lambda chunk: match(*chunk))
  logits = jax.lax.map(
    again, (_split(video_tokens, chunks), _split(pairs, chunks))
  )
  return logits.swapaxes(0, 1).reshape(pairs.shape)


def _split(x: jax.Array, parts: int) -> jax.Array:
  """[b ...] -> [parts b/parts ...]; every device keeps its own rows."""
  x = x.reshape(x.shape[0] // parts, parts, *x.shape[1:]).swapaxes(0, 1)
  if sharding.current_batch_shards() == 1:
    return x
  spec = sharding.P(None, *sharding.BATCH_SPEC)
  return jax.lax.with_sharding_constraint(x, spec)


def make_train_step(
  model: Any,
  optimizer: optax.GradientTransformation,
  schedule: optax.Schedule,
  weights: LossWeights,
  prep: preprocessing_lib.Preprocessing,
  seed: int,
  mesh: jax.sharding.Mesh,
  augmentation: Augmentation = NO_AUGMENTATION,
  *,
  accumulate: int = 1,
  fusion_chunks: int = 1,
  ema_decay: float = 0.0,
  frozen: Sequence[str] = (),
) -> Callable[[TrainState, Batch, Batch], tuple[TrainState, dict]]:
  """Builds the jitted training step.

  An update whose loss or gradient is not finite is left out inside the step:
  its parameters are gone when the host could see it, because the state is
  donated. It is counted in `skipped`.

  Args:
    model: `models.zsar_model.ZsarModel`.
    optimizer: from `optim.make_optimizer`.
    schedule: the learning rate, for the metrics.
    weights: weight of each loss.
    prep: how pixels are normalised.
    seed: of the randomness inside the step; with the step number it gives
      the step's key, so that a resumed run draws the same numbers.
    mesh: from `sharding.make_mesh`.
    augmentation: what is done to the clips first.
    accumulate: parts that the batch goes through in one after the other, in
      less memory. Without dropout gradients equal those of the whole batch
      up to rounding: no loss looks across examples, and clips are mixed
      before. A model with batch statistics would see those of a part.
    fusion_chunks: see `compute_loss`; of each part of the batch.
    ema_decay: of the moving average, in [0, 1); 0 for none.
    frozen: patterns of parameters that the optimiser leaves alone, see
      `optim.frozen_labels`: no gradient is computed for them, and none counts
      in `gradient_norm`.

  Returns:
    (state, batch, text) -> (state, metrics). The state is donated.
  """

  def gradients(params, batch, text, key):
    # Constants of the differentiated function: the backward pass stops there.
    held = optim.frozen_labels(params, frozen)
    hold = lambda params: jax.tree.map(
      lambda x, label: jax.lax.stop_gradient(x) if label == 'frozen' else x,
      params,
      held,
    )
    whole_loss = lambda params, *rest: compute_loss(hold(params), *rest)
    part_loss = lambda params, *rest: _loss_of_clips(hold(params), *rest)
    if accumulate == 1:
      return jax.grad(whole_loss, has_aux=True)(
        params,
        model,
        batch,
        text,
        key,
        weights,
        prep,
        augmentation,
        fusion_chunks,
      )
    _check_classes(text, weights, augmentation)
    whole = _prepare(batch, augmentation, key)
    differentiate = jax.grad(part_loss, has_aux=True)
    part = lambda clips, key: differentiate(
      params, model, clips, text, key, weights, prep, fusion_chunks
    )
    parts = jax.tree.map(lambda x: _split(x, accumulate), whole)

    def add(total, clips):
      # One key for all parts: wrong classes are drawn by the global index.
      return jax.tree.map(jnp.add, total, part(clips, key)), None

    first = jax.tree.map(lambda x: x[0], parts)
    shapes = jax.eval_shape(part, first, key)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    total, _ = jax.lax.scan(add, zeros, parts)
    return jax.tree.map(lambda x: x / accumulate, total)

  def step(state: TrainState, batch: Batch, text: Batch):
    key = jax.random.fold_in(jax.random.key(seed), state.step)
    grads, metrics = gradients(state.params, batch, text, key)
    norm = optax.global_norm(grads)
    finite = jnp.isfinite(metrics['loss']) & jnp.isfinite(norm)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    keep = lambda new, old: jnp.where(finite, new, old)
    params = jax.tree.map(keep, params, state.params)
    opt_state = jax.tree.map(keep, opt_state, state.opt_state)
    ema = state.ema
    if ema_decay:
      average = lambda e, p: ema_decay * e + (1 - ema_decay) * p
      ema = jax.tree.map(keep, jax.tree.map(average, ema, params), ema)
    skipped = state.skipped + ~finite
    metrics['gradient_norm'] = norm
    metrics['learning_rate'] = schedule(state.step)
    metrics['skipped'] = skipped
    new = TrainState(state.step + 1, params, opt_state, ema, skipped)
    shardings = sharding.tree_shardings(new, mesh)
    return jax.lax.with_sharding_constraint(new, shardings), metrics

  return sharding.on_mesh(jax.jit(step, donate_argnums=0), mesh)
