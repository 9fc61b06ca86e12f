"""The config: every key with its default and meaning, and its checks.

A config file starts from `default_config()` and changes what it needs. The
config is locked, so a misspelt key fails where it is written.
"""

import difflib
import json
from typing import Any

import ml_collections

from zsar_jax import config_checks

_CHECK_MESSAGE = 'config keys are listed in zsar_jax/config_utils.py'


def default_config() -> ml_collections.ConfigDict:
  """All keys, with defaults that suit a small model."""
  c = ml_collections.ConfigDict()
  c.seed = 0

  c.data = ml_collections.ConfigDict()
  # Folder of a prepared dataset, as `zsar_jax.prepare` prints it; '' renders
  # stick_figures with the arguments below, under data_dir.
  c.data.dataset_dir = ''
  # '' is TFDS's own default.
  c.data.data_dir = ''
  c.data.stick_figures = ml_collections.ConfigDict(
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
  c.data.class_split = ''
  # Id of a registered protocol, in place of class_split:
  # `python -m zsar_jax.protocols list`.
  c.data.protocol = ''
  # Which split of the file or the protocol.
  c.data.class_split_index = 0
  # Prepared dataset that the unseen classes are in; '' is dataset_dir.
  c.data.test_dataset_dir = ''
  # A seen class or video that leaks into the test is refused; these leave it
  # out of training, or go on all the same, and then every result says so.
  c.data.drop_leaking = False
  c.data.allow_leaks = False
  # Ids of further protocols that nothing may leak into: those that the run
  # is to be evaluated by later.
  c.data.strict_for = ()
  # Train on every class and measure nothing zero-shot: `zsar_jax.evaluate`
  # does so later.
  c.data.train_only = False
  # Share of each seen class's videos (whole groups) held out of training.
  # Half of them watch training, half are the seen videos of GZSL.
  c.data.validation_fraction = 0.2
  # From 0: this draw of seen classes plays unseen, to choose settings by; -1
  # trains on all seen classes.
  c.data.inner_draw = -1
  c.data.inner_share = 0.4
  # What is sampled equally often: '', 'class', 'source' or 'source+class'.
  c.data.balance = ''
  # Training stops where more records than this share are unreadable.
  c.data.max_failed_share = 0.01
  c.data.num_threads = 4
  # Decoded videos kept in memory, MiB; 0 decodes every time.
  c.data.cache_mb = 0

  # Of training clips. What is per frame is done by the loader, what is cheap
  # per pixel on the device.
  c.augmentation = ml_collections.ConfigDict(
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
  c.augmentation.colour_jitter = ml_collections.ConfigDict(
    dict(brightness=0.0, contrast=0.0, saturation=0.0, hue=0.0)
  )

  # What the text encoder reads of a class: its name in each prompt, and what
  # a JSON file {name: [description, ...]} says of it.
  c.names = ml_collections.ConfigDict(dict(prompts=('{}',), descriptions=''))

  # Goes with the weights: see zsar_jax/data/preprocessing.py.
  c.preprocessing = ml_collections.ConfigDict(
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
  # Path of a vocab.txt; '' is the one that ships.
  c.vocabulary = ''

  c.model = ml_collections.ConfigDict()
  # Keyword arguments of models/video_encoder.py; see there for their values.
  c.model.video = ml_collections.ConfigDict(
    dict(
      # Sizes by name, such as 'B/16x2'; they take the place of width, depth,
      # num_heads, mlp_dim and tubelet_size.
      variant='',
      # '' is tubelets, 'clip' CLIP's vision Transformer on every frame;
      # 'rest18', 'rest50' and 'rest101' put a ResNet on every frame, whose
      # norm is 'group' (from random weights) or 'frozen'.
      backbone='',
      resnet_norm='group',
      width=128,
      depth=3,
      num_heads=4,
      mlp_dim=512,
      tubelet_size=(2, 8, 8),
      attention='joint',
      depth_time=0,
      pooling='mean',
      positions='separable',
      sincos_grid=(),
      activation='gelu_tanh',
      norm_epsilon=1e-6,
      qkv_bias='qkv',
      final_norm='tokens',
      dropout_rate=0.0,
      stochastic_depth_rate=0.0,
      # Memory and speed: what the backward pass computes again, one compiled
      # block instead of many, and who computes attention.
      remat='none',
      scan_blocks=False,
      attention_implementation='auto',
    )
  )
  c.model.text = ml_collections.ConfigDict(
    dict(
      width=128,
      depth=1,
      num_heads=4,
      mlp_dim=256,
      pooling='mean',
      # 'bert', or 'clip' with the id of its end token.
      architecture='bert',
      end_id=-1,
      activation='gelu',
      norm_epsilon=1e-12,
      dropout_rate=0.0,
    )
  )
  c.model.fusion = ml_collections.ConfigDict(
    dict(
      width=128,
      depth=1,
      num_heads=4,
      mlp_dim=256,
      # 'text', 'video' or 'both': see zsar_jax/models/fusion.py.
      query_side='text',
      shared_projection=False,
      dropout_rate=0.0,
    )
  )
  c.model.embedding_dim = 128
  # Computation dtype: 'float32' or 'bfloat16'; parameters stay float32.
  c.model.dtype = 'float32'

  # Public weights to start from: directories with config.json and
  # model.safetensors; '' is random. What they bring (sizes, vocabulary,
  # normalisation) takes the place of the keys above. `clip` is for both sides.
  c.init = ml_collections.ConfigDict(dict(text='', video='', clip=''))
  # How 2-D patch kernels become tubelets: 'centre' or 'average'.
  c.init.inflation = 'centre'
  # Which weights were read; training fills it in.
  c.init.loaded = ''

  # Weights of the losses, see zsar_jax/training/losses.py.
  c.loss = ml_collections.ConfigDict(
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
  c.optim = ml_collections.ConfigDict(
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

  c.train = ml_collections.ConfigDict()
  c.train.batch_size = 32
  # Parts that a batch goes through in, one after the other, in less memory.
  c.train.accumulate = 1
  # Parts of each of them that the fusion goes through in, likewise.
  c.train.fusion_chunks = 1
  c.train.num_steps = 1000
  # Updates that are not finite are left out; more than this stop the run.
  c.train.max_skipped = 10
  c.train.log_every = 20
  c.train.validate_every = 250
  c.train.checkpoint_every = 250
  c.train.keep_checkpoints = 2
  # Writes a profiler trace of this many steps into the workdir.
  c.train.profile_steps = 0
  # TensorBoard files beside metrics.jsonl (needs TensorFlow).
  c.train.tensorboard = True

  # Sizes of the mesh axes; one may be -1 and takes the devices left. A preset,
  # 'dp', 'fsdp' or 'fsdp_tp', takes their place and fits any devices: see
  # zsar_jax/parallel/sharding.py.
  c.mesh = ml_collections.ConfigDict(dict(preset='', data=-1, fsdp=1, tensor=1))

  # Inference: see zsar_jax/zeroshot/semantic_transfer.py.
  # What each key does: zsar_jax/evaluation/methods.py, TransferSettings.
  c.zeroshot = ml_collections.ConfigDict(
    dict(
      temperature=0.1,
      top_k=0,
      centre_text=True,
      weighting='softmax',
      ridge=0.1,
      relatedness_source='trained',
      prototype_source='videos',
      conse_top=10,
      text_ridge=0.01,
      ensemble_beta=0.5,
      ensemble_transfer_temperature=0.05,
      ensemble_match_temperature=1.0,
      transductive=False,
    )
  )
  # Clips of a test video: temporal views, and crops of each along its longer
  # side.
  c.zeroshot.num_views = 1
  c.zeroshot.num_crops = 1
  c.zeroshot.batch_size = 32
  return c.lock()


def full_size(c: ml_collections.ConfigDict) -> None:
  """Sets what full-size runs on public datasets share.

  Args:
    c: from `default_config`; changed.
  """
  c.data.dataset_dir = 'set --config.data.dataset_dir'
  c.data.num_threads = 16

  c.preprocessing.size = 224
  c.preprocessing.short_side = 256
  c.preprocessing.num_frames = 16
  c.preprocessing.sampling = 'dense'
  c.preprocessing.sample_fps = 25.0

  # The shape of MiniLM-L6, whose weights --config.init.text=DIR starts from.
  c.model.text.update(width=384, depth=6, num_heads=12, mlp_dim=1536)
  c.model.fusion.update(width=512, depth=2, num_heads=8, mlp_dim=2048)
  c.model.embedding_dim = 512
  c.model.dtype = 'bfloat16'

  c.train.log_every = 100
  c.train.validate_every = 5000
  c.train.checkpoint_every = 1000
  c.optim.warmup_steps = 5000
  c.loss.label_smoothing = 0.1
  c.zeroshot.num_views = 4


def shorten(c: ml_collections.ConfigDict, num_steps: int) -> None:
  """Sets a schedule that only shows that all parts run.

  Args:
    c: changed.
    num_steps: in place of the whole training.
  """
  c.train.num_steps = num_steps
  c.optim.warmup_steps = num_steps // 4
  c.train.log_every = 5
  c.train.validate_every = 10
  c.train.checkpoint_every = 10
  c.model.video.depth = 1


def shrink_to_smoke(c: ml_collections.ConfigDict) -> None:
  """Shrinks a full-size config to run on a CPU, on stick figures.

  The backbone and the augmentation stay.

  Args:
    c: changed.
  """
  # The registry's protocols are of no rendered dataset.
  c.data.update(dataset_dir='', test_dataset_dir='', protocol='', num_threads=2)
  c.data.stick_figures.clips_per_class = 4
  c.data.stick_figures.test_clips_per_class = 2
  c.preprocessing.size = 32
  c.preprocessing.short_side = 32
  c.preprocessing.num_frames = 4
  for part in (c.model.video, c.model.text, c.model.fusion):
    part.update(width=64, depth=1, num_heads=2, mlp_dim=128)
  c.train.batch_size = 16
  c.zeroshot.num_views = 1
  shorten(c, 10)


def parse_arg(arg: str | None, *known: str) -> frozenset[str]:
  """The argument string of a config file, `configs/x.py:one,other`.

  Args:
    arg: what stands after the colon, or None.
    *known: arguments that the config understands.

  Returns:
    The arguments given; none for None.

  Raises:
    ValueError: an unknown argument.
  """
  given = arg.split(',') if arg else []
  for part in given:
    if part not in known:
      raise ValueError(
        f'config argument {part!r} is not known; known: {sorted(known)}'
      )
  return frozenset(given)


def _flat(config: Any, prefix: str = '') -> dict[str, Any]:
  items = {}
  for key, value in config.items():
    if isinstance(value, ml_collections.ConfigDict | dict):
      items.update(_flat(value, f'{prefix}{key}.'))
    else:
      items[prefix + key] = value
  return items


def check_config(config: ml_collections.ConfigDict) -> None:
  """Refuses keys and values that cannot work, before anything starts.

  Args:
    config: from a config file.

  Raises:
    ValueError: names an unknown key and the nearest known one, or a missing
      or ill-typed key, or see `config_checks.check_values`.
  """
  known, given = _flat(default_config()), _flat(config)
  for key in given:
    if key not in known:
      near = difflib.get_close_matches(key, known, n=1)
      hint = f'did you mean {near[0]!r}? ' if near else ''
      raise ValueError(f'unknown config key {key!r}; {hint}{_CHECK_MESSAGE}')
  for key, default in known.items():
    if key not in given:
      raise ValueError(f'config key {key!r} is missing; {_CHECK_MESSAGE}')
    value = given[key]
    number = isinstance(default, float) and type(value) is int
    sequence = isinstance(default, tuple) and isinstance(value, list | tuple)
    if not (number or sequence or type(value) is type(default)):
      raise ValueError(
        f'config key {key!r} must be {type(default).__name__}, got {value!r}'
      )
  config_checks.check_values(config)


# Keys that change how fast or how chatty a run is, never what it computes.
_HARMLESS = (
  'data.data_dir',
  'data.num_threads',
  'data.cache_mb',
  'data.max_failed_share',
  'model.video.attention_implementation',
  'model.video.remat',
  'train.log_every',
  'train.keep_checkpoints',
  'train.profile_steps',
  'train.tensorboard',
)


def to_dict(config: ml_collections.ConfigDict) -> dict[str, Any]:
  """The config as plain JSON values (tuples become lists)."""
  return json.loads(json.dumps(config.to_dict()))


def from_dict(values: dict[str, Any]) -> ml_collections.ConfigDict:
  """The inverse of `to_dict`."""
  config = ml_collections.ConfigDict(values)
  config = config.copy_and_resolve_references()
  return config.lock()


def differences(a: dict[str, Any], b: dict[str, Any]) -> list[str]:
  """Keys on which two plain configs differ in what they compute.

  Args:
    a: from `to_dict`.
    b: likewise.

  Returns:
    One 'key: value in a -> value in b' each.
  """
  flat_a, flat_b = _flat(a), _flat(b)
  return [
    f'{key}: {flat_a.get(key)!r} -> {flat_b.get(key)!r}'
    for key in sorted(set(flat_a) | set(flat_b))
    if flat_a.get(key) != flat_b.get(key) and key not in _HARMLESS
  ]
