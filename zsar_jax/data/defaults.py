"""The config's keys about data, with their defaults."""

import ml_collections


def data() -> ml_collections.ConfigDict:
  """Which dataset, which split, and how it is read."""
  c = ml_collections.ConfigDict()
  # Folder of a prepared dataset, as `zsar_jax.prepare` prints it; '' renders
  # stick_figures with the arguments below, under data_dir.
  c.dataset_dir = ''
  # '' is TFDS's own default.
  c.data_dir = ''
  c.stick_figures = ml_collections.ConfigDict(
    dict(
      nuisance=1.0,
      num_seen=24,
      clips_per_class=24,
      test_clips_per_class=20,
      split_seed=0,
    )
  )
  # JSON file with `seen` and `unseen` (or a list `splits` of such). A dataset
  # that has its own split needs none.
  c.class_split = ''
  # Id of a registered protocol, in place of class_split:
  # `python -m zsar_jax.protocols list`.
  c.protocol = ''
  # Which split of the file or the protocol.
  c.class_split_index = 0
  # Prepared dataset that the unseen classes are in; '' is dataset_dir.
  c.test_dataset_dir = ''
  # A seen class or video that leaks into the test is refused; these leave it
  # out of training, or go on all the same, and then every result says so.
  c.drop_leaking = False
  c.allow_leaks = False
  # Ids of further protocols that nothing may leak into: those that the run
  # is to be evaluated by later.
  c.strict_for = ()
  # Train on every class and measure nothing zero-shot: `zsar_jax.evaluate`
  # does so later.
  c.train_only = False
  # Share of each seen class's videos (whole groups) held out of training.
  # Half of them watch training, half are the seen videos of GZSL.
  c.validation_fraction = 0.2
  # From 0: this draw of seen classes plays unseen, to choose settings by; -1
  # trains on all seen classes.
  c.inner_draw = -1
  c.inner_share = 0.4
  # What is sampled equally often: '', 'class', 'source' or 'source+class'.
  c.balance = ''
  # Training stops where more records than this share are unreadable.
  c.max_failed_share = 0.01
  c.num_threads = 4
  # Decoded videos kept in memory, MiB; 0 decodes every time.
  c.cache_mb = 0
  return c


def augmentation() -> ml_collections.ConfigDict:
  """What training changes in its clips."""
  # Of training clips. What is per frame is done by the loader, what is cheap
  # per pixel on the device.
  c = ml_collections.ConfigDict(
    dict(
      # Random crops cover this share of the frame (low, high), and are this
      # wide for their height.
      crop_area=(0.6, 1.0),
      crop_aspect=(3 / 4, 4 / 3),
      # Random mirroring; never of a class whose name has a side.
      mirror=True,
      # Operations on each clip, and how strong they are, from 0 to 10.
      randaugment_layers=0,
      randaugment_magnitude=9.0,
      # Beta(alpha, alpha) of the share that a clip keeps; 0 is off. With both
      # on, each step is one of them.
      mixup_alpha=0.0,
      cutmix_alpha=0.0,
    )
  )
  # See zsar_jax/models/pixel_ops.py.
  c.colour_jitter = ml_collections.ConfigDict(
    dict(brightness=0.0, contrast=0.0, saturation=0.0, hue=0.0)
  )
  return c


def names() -> ml_collections.ConfigDict:
  """What the text encoder reads of a class."""
  # What the text encoder reads of a class: its name in each prompt, and what
  # a JSON file {name: [description, ...]} says of it.
  c = ml_collections.ConfigDict(dict(prompts=('{}',), descriptions=''))
  return c


def preprocessing() -> ml_collections.ConfigDict:
  """How frames become clips; it goes with the weights."""
  # Goes with the weights: see zsar_jax/data/preprocessing.py.
  c = ml_collections.ConfigDict(
    dict(
      size=48,
      short_side=56,
      mean=(0.5, 0.5, 0.5),
      std=(0.25, 0.25, 0.25),
      num_frames=8,
      sampling='segment',
      frame_stride=2,
      sample_fps=12.0,
      inputs='rgb',
      token_length=32,
    )
  )
  return c
