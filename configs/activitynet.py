"""Zero-shot within ActivityNet v1.3: trained on half of its classes.

One of ten seeds draws the half to test on; the other half is trained on. The
protocol's result is the mean over all seeds: run each
--config.data.class_split_index, 0 to 9.

python -m zsar_jax.main --config=configs/activitynet.py --workdir=runs/anet \
  --config.data.dataset_dir=DIR

`configs/activitynet.py:smoke` shrinks all but the ResNet to run on a CPU. It
uses stick figures if there is no dataset_dir. Its accuracies mean nothing.
"""

import ml_collections

from zsar_jax import config_utils


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  args = config_utils.parse_arg(arg, 'smoke')
  c = config_utils.default_config()
  config_utils.full_size(c)

  c.data.protocol = 'activitynet/half-class-seed0-9'
  # The seed of the halves.
  c.data.class_split_index = 0

  # Our choice: little data needs strong augmentation.
  c.augmentation.crop_area = (0.25, 1.0)
  c.augmentation.randaugment_layers = 2
  c.augmentation.mixup_alpha = 0.8
  c.augmentation.cutmix_alpha = 1.0

  # The whole segment, often a minute, in 16 frames.
  c.preprocessing.sampling = 'segment'

  # 16 x 7 x 7 tokens a clip. A small Transformer, because there is little
  # data.
  c.model.video.backbone = 'rest18'
  c.model.video.update(width=512, depth=2, num_heads=8, mlp_dim=2048)

  # Our choice: about 140 passes.
  c.train.batch_size = 64
  c.train.num_steps = 20_000
  c.train.validate_every = 1000
  c.optim.warmup_steps = 1000
  c.optim.learning_rate = 5e-4

  if 'smoke' in args:
    config_utils.shrink_to_smoke(c)
    # The ResNet is not shrunk.
    c.preprocessing.num_frames = 2
    c.train.batch_size = 8
  return c
