"""The config's keys about training, with their defaults."""

import ml_collections


def loss() -> ml_collections.ConfigDict:
  """Returns the weights of the losses."""
  # 0 turns a loss off. Formulas: zsar_jax/training/losses.py.
  c = ml_collections.ConfigDict(
    dict(
      # Weight of the cosine classifier of the seen classes.
      visual=1.0,
      # Weight of the loss that compares videos with class names.
      contrast=1.0,
      # Weight of the loss on the fusion's match logits.
      match=1.0,
      # Weight of the transfer loss: it composites each seen class from the
      # others, as inference composites unseen classes.
      transfer=0.0,
      # Temperature of the transfer weights in this loss.
      transfer_temperature=0.1,
      # Weight of the squared distance to the class name (Brattoli et al. 2020).
      regression=0.0,
      # Share of the target mass that is spread over all classes.
      label_smoothing=0.0,
    )
  )
  return c


def optim() -> ml_collections.ConfigDict:
  """Returns the settings of the optimiser and its schedule."""
  c = ml_collections.ConfigDict(
    dict(
      # Learning rate after the warm-up.
      learning_rate=1e-3,
      # Steps over which the learning rate rises linearly from zero.
      warmup_steps=100,
      # Weight decay of AdamW.
      weight_decay=0.05,
      # Largest global norm of a gradient.
      clip_norm=1.0,
      # Decay of the second moment in AdamW.
      b2=0.999,
      # Learning rate after the warm-up: 'cosine' (down to zero) or 'constant'.
      schedule='cosine',
      # Decay of the moving average of the parameters; 0 keeps no average. If
      # there is an average, evaluation uses it.
      ema_decay=0.0,
      # Ratio of the learning rates of an encoder's block and the next block; 1
      # gives all blocks the same rate.
      layer_decay=1.0,
      # Patterns of parameters that training does not change, such as
      # 'video_encoder/resnet'.
      frozen=(),
    )
  )
  return c


def train() -> ml_collections.ConfigDict:
  """Returns the settings of batches, steps, logging and checkpoints."""
  c = ml_collections.ConfigDict()
  # Clips in a batch, over all devices.
  c.batch_size = 32
  # Number of parts of a batch. Each step handles them one after the other,
  # which saves memory.
  c.accumulate = 1
  # Number of chunks in which the fusion handles each part, to save memory.
  c.fusion_chunks = 1
  # Number of training steps.
  c.num_steps = 1000
  # The run skips updates that are not finite. It stops after more than this.
  c.max_skipped = 10
  # Steps between two lines of metrics, validations and checkpoints.
  c.log_every = 20
  c.validate_every = 250
  c.checkpoint_every = 250
  # Number of newest checkpoints that are kept.
  c.keep_checkpoints = 2
  # Number of steps in the profiler trace in the workdir; 0 writes none.
  c.profile_steps = 0
  # Whether to write TensorBoard files beside metrics.jsonl; needs TensorFlow.
  c.tensorboard = True
  return c
