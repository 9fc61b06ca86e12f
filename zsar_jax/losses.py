"""Training losses, on seen classes only.

The paper does not publish its losses. These are our choice; each docstring
has the formula, and the source where there is one. Notation: z a video
embedding, t a class embedding, w a learnt class centre, all unit vectors;
q_ic the target mass of class c for clip i; alpha a learnt logit scale.
"""

import jax
import jax.numpy as jnp
import optax

_exact = jax.default_matmul_precision('highest')


def targets(
  labels: jax.Array, num_classes: int, label_smoothing: float = 0.0
) -> jax.Array:
  """Target mass q.

  Args:
    labels: int [b].
    num_classes: number of seen classes s.
    label_smoothing: mass spread evenly over all classes, in [0, 1).

  Returns:
    [b s] float32; rows sum to one.
  """
  one_hot = jax.nn.one_hot(labels, num_classes)
  return optax.smooth_labels(one_hot, label_smoothing)


@_exact
def visual_loss(
  video: jax.Array, centres: jax.Array, scale: jax.Array, q: jax.Array
) -> jax.Array:
  """Cosine classifier: - sum_c q_ic log softmax_c(alpha_v z_i . w_c).

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
  """Video to class name: - sum_c q_ic log softmax_c(alpha_t z_i . t_c).

  The softmax runs over all seen classes, not over those in the batch, so
  that the loss decomposes over clips.

  Args:
    video: z [b d].
    text: t [s d].
    scale: alpha_t.
    q: [b s].

  Returns:
    [b], one loss a clip.
  """
  return optax.softmax_cross_entropy(scale * video @ text.T, q)


def global_index_keys(key: jax.Array, index: jax.Array) -> jax.Array:
  """One random key an example, whatever device or host holds it.

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

  After ALBEF (Li et al. 2021). A class with any target mass is never drawn.
  The draw carries no gradient.

  Args:
    video: z [b d].
    text: t [s d].
    scale: alpha_t.
    q: [b s]; every row needs a class without mass.
    keys: random keys [b].

  Returns:
    int [b], the wrong classes.
  """
  logits = jax.lax.stop_gradient(scale * video @ text.T)
  logits = jnp.where(q > 0, -jnp.inf, logits)
  return jax.vmap(jax.random.categorical)(keys, logits)


def match_loss(
  positive_logits: jax.Array, negative_logits: jax.Array
) -> jax.Array:
  """Binary cross-entropy of fused logits, mean of a true and a wrong pair.

  Args:
    positive_logits: [b], of each clip with its own class.
    negative_logits: [b], of each clip with a wrong class.

  Returns:
    [b], one loss a clip.
  """
  return 0.5 * (
    jax.nn.softplus(-positive_logits) + jax.nn.softplus(negative_logits)
  )
