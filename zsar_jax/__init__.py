"""Zero-shot action recognition in JAX: ranks class names for a video."""

__version__ = '0.1.0'


def load(path: str, workdir: str = ''):
  """Loads a trained model; see `action_model.load`."""
  # Imported here, so that `import zsar_jax` stays fast.
  from zsar_jax.inference import action_model

  return action_model.load(path, workdir)


def load_pretrained(weights: str, dtype: str = 'float32'):
  """Loads public CLIP weights; see `action_model.load_pretrained`."""
  from zsar_jax.inference import action_model

  return action_model.load_pretrained(weights, dtype)
