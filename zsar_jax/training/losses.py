"""Training losses, on seen classes only.

The paper does not publish its losses. These are our choice. Each docstring has
the formula, and the source if there is one.

Notation: z is a video embedding, t a class embedding, w a learnt class centre,
all unit vectors. q_ic is the target mass of class c for clip i. alpha is a
learnt logit scale. A clip that is mixed with another has target mass on both
classes.
"""

import jax
import jax.numpy as jnp
import optax

_exact = jax.default_matmul_precision('highest')


def targets(
  labels: jax.Array,
  num_classes: int,
  label_smoothing: float = 0.0,
  mass: jax.Array | None = None,
) -> jax.Array:
  """Computes the target mass q.

  Args:
    labels: int [b]; with `mass`, [b k]: the labels of the k clips in a mixed
      clip, which may be equal.
    num_classes: number of seen classes s.
    label_smoothing: mass spread evenly over all classes, in [0, 1).
    mass: [b k], of each of these labels; rows sum to one.

  Returns:
    [b s] float32; rows sum to one.
  """
  q = jax.nn.one_hot(labels, num_classes)
  if mass is not None:
    q = (mass[..., None] * q).sum(axis=1)
  return optax.smooth_labels(q, label_smoothing)


@_exact
def visual_loss(
  video: jax.Array, centres: jax.Array, scale: jax.Array, q: jax.Array
) -> jax.Array:
  """Returns a cosine classifier loss.

  It is - sum_c q_ic log softmax_c(alpha_v z_i . w_c).

  Args:
    video: z [b d].
    centres: w [s d].
    scale: alpha_v.
    q: [b s].

  Returns:
    [b], one loss a clip.
  """
  return optax.softmax_cross_entropy(scale * video @ centres.T, q)


@_exact
def contrast_loss(
  video: jax.Array, text: jax.Array, scale: jax.Array, q: jax.Array
) -> jax.Array:
  """Returns the loss of matching a video to its class name.

  It is - sum_c q_ic log softmax_c(alpha_t z_i . t_c).

  The softmax runs over all seen classes, not over those in the batch. So the
  loss is a sum over clips.

  Args:
    video: z [b d].
    text: t [s d].
    scale: alpha_t.
    q: [b s].

  Returns:
    [b], one loss a clip.
  """
  return optax.softmax_cross_entropy(scale * video @ text.T, q)


@_exact
def transfer_loss(
  video: jax.Array,
  text: jax.Array,
  centres: jax.Array,
  scale: jax.Array,
  q: jax.Array,
  temperature: float,
) -> jax.Array:
  """Returns the loss of inferring seen classes as if they were unseen (ours).

  Every seen class c is composited from the *other* seen centres, as if it
  had no videos of its own. Clips must choose their own class's composite:

    p'_c = n(sum_{s != c} softmax_{s != c}(r_cs / tau) w_s),
    - sum_c q_ic log softmax_c(alpha_v z_i . p'_c),

  where r is the cosine of class embeddings after their mean is subtracted, as
  in `zeroshot.semantic_transfer.relatedness`.

  Args:
    video: z [b d].
    text: t [s d].
    centres: w [s d].
    scale: alpha_v.
    q: [b s].
    temperature: tau.

  Returns:
    [b], one loss a clip.
  """
  unit = lambda x: x * jax.lax.rsqrt((x * x).sum(-1, keepdims=True) + 1e-12)
  rows = unit(text - text.mean(axis=0))
  itself = jnp.eye(len(text), dtype=bool)
  related = jnp.where(itself, -jnp.inf, rows @ rows.T / temperature)
  composites = unit(jax.nn.softmax(related) @ centres)
  return optax.softmax_cross_entropy(scale * video @ composites.T, q)


@_exact
def regression_loss(
  video: jax.Array, text: jax.Array, q: jax.Array
) -> jax.Array:
  """Returns the squared distance to the class name, sum_c q_ic |z_i - t_c|^2.

  After Brattoli et al. 2020, whose text side is fixed. A trained text side
  would move all names to one point.

  Args:
    video: z [b d].
    text: t [s d]; carries no gradient.
    q: [b s].

  Returns:
    [b], one loss a clip.
  """
  text = jax.lax.stop_gradient(text)
  # Both are unit vectors, and rows of q sum to one.
  return 2 - 2 * (q * (video @ text.T)).sum(axis=1)


def global_index_keys(key: jax.Array, index: jax.Array) -> jax.Array:
  """Returns one random key per example, the same on any device or host.

  Args:
    key: the step's key.
    index: int [b], position of each example in the global stream.

  Returns:
    keys [b].
  """
  return jax.vmap(lambda i: jax.random.fold_in(key, i))(index)


@_exact
def hard_negatives(
  video: jax.Array,
  text: jax.Array,
  scale: jax.Array,
  q: jax.Array,
  keys: jax.Array,
) -> jax.Array:
  """Draws one wrong class a clip, in proportion to exp(alpha_t z_i . t_c).

  After ALBEF (Li et al. 2021). Classes with any target mass are never drawn.
  The draw carries no gradient.

  Args:
    video: z [b d].
    text: t [s d].
    scale: alpha_t.
    q: [b s]; each row needs a class without mass.
    keys: random keys [b].

  Returns:
    int [b], the wrong classes.
  """
  logits = jax.lax.stop_gradient(scale * video @ text.T)
  logits = jnp.where(q > 0, -jnp.inf, logits)
  return jax.vmap(jax.random.categorical)(keys, logits)


def match_loss(
  positive_logits: jax.Array,
  negative_logits: jax.Array,
  mass: jax.Array | None = None,
) -> jax.Array:
  """Computes binary cross-entropy, mean of a true and a wrong pair's logits.

  A mixed clip has several true pairs. Its loss is their mean, weighted by their
  mass m, all against the same wrong pair n:

    1/2 (sum_k m_ik softplus(-p_ik) + softplus(n_i)).

  Args:
    positive_logits: [b], of each clip with its own class; with `mass`, [b k],
      with each class in the mixed clip.
    negative_logits: [b], of each clip with a wrong class.
    mass: [b k], of the true pairs; rows sum to one.

  Returns:
    [b], one loss a clip.
  """
  positive = jax.nn.softplus(-positive_logits)
  if mass is not None:
    positive = (mass * positive).sum(axis=1)
  return 0.5 * (positive + jax.nn.softplus(negative_logits))
