"""Zero-shot action recognition in JAX: name actions, point at a video."""

__version__ = '0.1.0'


def load(path: str, workdir: str = ''):
  """Loads a trained model to name actions with; see `action_model.load`."""
  # Here, so that importing a part of the package stays quick.
  from zsar_jax.inference import action_model

  return action_model.load(path, workdir)


def load_pretrained(weights: str):
  """Loads public weights without a bank; see `action_model.load_pretrained`."""
  from zsar_jax.inference import action_model

  return action_model.load_pretrained(weights)
