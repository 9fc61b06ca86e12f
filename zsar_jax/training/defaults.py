"""The config's keys about training, with their defaults."""

import ml_collections


def loss() -> ml_collections.ConfigDict:
  """Weights of the losses."""
  # Weights of the losses, see zsar_jax/training/losses.py.
  c = ml_collections.ConfigDict(
    dict(
      visual=1.0,
      contrast=1.0,
      match=1.0,
      # Each class composited from the others, as unseen ones will be.
      transfer=0.0,
      transfer_temperature=0.1,
      # Distance to the class name, as older methods have it.
      regression=0.0,
      label_smoothing=0.0,
    )
  )
  return c


def optim() -> ml_collections.ConfigDict:
  """The optimiser and its schedule."""
  c = ml_collections.ConfigDict(
    dict(
      learning_rate=1e-3,
      warmup_steps=100,
      weight_decay=0.05,
      clip_norm=1.0,
      b2=0.999,
      # After the warm-up: 'cosine' down to zero, or 'constant'.
      schedule='cosine',
      # Moving average of the parameters, which is then what is evaluated; 0
      # for none.
      ema_decay=0.0,
      # Learning rate of each block of an encoder, over that of the next.
      layer_decay=1.0,
      # Patterns of parameters that keep their values, such as
      # 'video_encoder/resnet'.
      frozen=(),
    )
  )
  return c


def train() -> ml_collections.ConfigDict:
  """Batches, steps, and what is written when."""
  c = ml_collections.ConfigDict()
  c.batch_size = 32
  # Parts that a batch goes through in, one after the other, in less memory.
  c.accumulate = 1
  # Parts of each of them that the fusion goes through in, likewise.
  c.fusion_chunks = 1
  c.num_steps = 1000
  # Updates that are not finite are left out; more than this stop the run.
  c.max_skipped = 10
  c.log_every = 20
  c.validate_every = 250
  c.checkpoint_every = 250
  c.keep_checkpoints = 2
  # Writes a profiler trace of this many steps into the workdir.
  c.profile_steps = 0
  # TensorBoard files beside metrics.jsonl (needs TensorFlow).
  c.tensorboard = True
  return c
