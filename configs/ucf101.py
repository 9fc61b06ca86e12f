"""Zero-shot within UCF101: trained on some classes, tested on the others.

The split is TruZe's (Gowda et al. 2021). Its unseen classes are not in
Kinetics-400, so weights trained on Kinetics-400 do not leak.

python -m zsar_jax.main --config=configs/ucf101.py --workdir=runs/ucf101 \
  --config.data.dataset_dir=DIR

Other protocols: --config.data.protocol='ucf101/half-class-seed0-9' and
--config.data.class_split_index=0 to 9.

`configs/ucf101.py:smoke` shrinks all but the ResNet to run on a CPU. It uses
stick figures if there is no dataset_dir. Its accuracies mean nothing.
"""

import ml_collections

from zsar_jax import config_utils


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  args = config_utils.parse_arg(arg, 'smoke')
  c = config_utils.default_config()
  config_utils.full_size(c)

  c.data.protocol = 'ucf101/truze'

  # Our choice: little data needs strong augmentation.
  c.augmentation.crop_area = (0.25, 1.0)
  c.augmentation.randaugment_layers = 2
  c.augmentation.mixup_alpha = 0.8
  c.augmentation.cutmix_alpha = 1.0

  # 16 frames, every second at 25 frames/s: 1.2 s of about 7.
  c.preprocessing.frame_stride = 2

  # 16 x 7 x 7 tokens a clip. A small Transformer, because there is little
  # data.
  c.model.video.backbone = 'rest18'
  c.model.video.update(width=512, depth=2, num_heads=8, mlp_dim=2048)

  # Our choice: about 170 passes.
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
