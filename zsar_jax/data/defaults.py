"""The config's keys about data, with their defaults."""

import ml_collections


def data() -> ml_collections.ConfigDict:
  """Returns the settings of the dataset, its split and its reader."""
  c = ml_collections.ConfigDict()
  # Folder of a prepared dataset, as `zsar_jax.prepare` prints it; '' renders
  # stick_figures with the arguments below, under data_dir.
  c.dataset_dir = ''
  # Folder where TFDS keeps datasets; '' is TFDS's own default.
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
  # `zsar protocols list`.
  c.protocol = ''
  # Index of the split in the file or the protocol, from 0.
  c.class_split_index = 0
  # Prepared dataset that the unseen classes are in; '' is dataset_dir.
  c.test_dataset_dir = ''
  # Training refuses a seen class or video that leaks into the test.
  # drop_leaking leaves it out of training. allow_leaks trains on it, and every
  # result then says so.
  c.drop_leaking = False
  c.allow_leaks = False
  # Ids of further protocols, for later evaluations. Nothing may leak into them.
  c.strict_for = ()
  # Trains on every class and measures nothing zero-shot. `zsar_jax.evaluate`
  # can measure later.
  c.train_only = False
  # Share of each seen class's videos (whole groups) held out of training.
  # Half of them watch training, half are the seen videos of GZSL.
  c.validation_fraction = 0.2
  # Index (from 0) of a draw of seen classes that play the unseen classes, to
  # choose settings; -1 trains on all seen classes.
  c.inner_draw = -1
  # Share of the seen classes in such a draw.
  c.inner_share = 0.4
  # Samples these equally often: '', 'class', 'source' or 'source+class'.
  c.balance = ''
  # Training stops if more than this share of the records is unreadable.
  c.max_failed_share = 0.01
  # Threads that read and decode videos.
  c.num_threads = 4
  # Decoded videos kept in memory, MiB; 0 decodes every time.
  c.cache_mb = 0
  return c


def augmentation() -> ml_collections.ConfigDict:
  """Returns the settings of the augmentation of training clips."""
  # Training clips only. The loader does the work per frame; the device does the
  # cheap work per pixel.
  c = ml_collections.ConfigDict(
    dict(
      # Share of the frame that a random crop covers (low, high).
      crop_area=(0.6, 1.0),
      # Width of a crop over its height (low, high).
      crop_aspect=(3 / 4, 4 / 3),
      # Random mirroring, except of classes whose name has a side (left, right).
      mirror=True,
      # Number of RandAugment operations on each clip.
      randaugment_layers=0,
      # Strength of the operations, from 0 to 10.
      randaugment_magnitude=9.0,
      # A clip keeps a share drawn from Beta(alpha, alpha); 0 turns it off. If
      # both are on, each step uses one of them.
      mixup_alpha=0.0,
      cutmix_alpha=0.0,
    )
  )
  # Strengths of the colour jitter: see zsar_jax/models/pixel_ops.py.
  c.colour_jitter = ml_collections.ConfigDict(
    dict(brightness=0.0, contrast=0.0, saturation=0.0, hue=0.0)
  )
  return c


def names() -> ml_collections.ConfigDict:
  """Returns the settings of the texts of a class."""
  # The text encoder reads the class name in each prompt, and the descriptions
  # from a JSON file {name: [description, ...]}, or those that ship ('shipped');
  # '' uses no descriptions.
  c = ml_collections.ConfigDict(dict(prompts=('{}',), descriptions=''))
  return c


def preprocessing() -> ml_collections.ConfigDict:
  """Returns the settings that turn frames into clips."""
  # Must match the weights: see zsar_jax/data/preprocessing.py for each key.
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
      resize='area',
      crop='square',
    )
  )
  return c
