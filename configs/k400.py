"""ViT-B over tubelets, trained on Kinetics-400 from random weights.

Two keys say what to train on. `zsar_jax.prepare` makes the folder:

python -m zsar_jax.main --config=configs/k400.py --workdir=runs/k400 \
  --config.data.dataset_dir=DIR --config.data.class_split=split.json

Without a split file, `--config.data.train_only=True` trains on all 400 classes,
and `zsar_jax.evaluate` tests elsewhere. Many of the classes are in UCF101 and
HMDB51 too, under the same or another name: see docs/protocols.md.

`configs/k400.py:smoke` shrinks everything to run on a CPU. It uses stick
figures if there is no dataset_dir. Its accuracies mean nothing.
"""

import ml_collections

from zsar_jax import config_utils


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  args = config_utils.parse_arg(arg, 'smoke')
  c = config_utils.default_config()

  config_utils.full_size(c)

  # Our choice, usual for Transformers on this dataset.
  c.augmentation.crop_area = (0.08, 1.0)
  c.augmentation.randaugment_layers = 4
  c.augmentation.randaugment_magnitude = 7.0
  c.augmentation.mixup_alpha = 0.8
  c.augmentation.cutmix_alpha = 1.0

  # 16 frames, every fourth at 25 frames/s: 2.4 s of the 10.
  c.preprocessing.frame_stride = 4

  # ViT-B, 8 x 14 x 14 tokens a clip.
  c.model.video.update(width=768, depth=12, num_heads=12, mlp_dim=3072)
  c.model.video.tubelet_size = (2, 16, 16)

  # The paper's schedule is not published. Ours: about 100 passes.
  c.train.batch_size = 256
  c.train.num_steps = 90_000
  c.optim.learning_rate = 5e-4

  if 'smoke' in args:
    config_utils.shrink_to_smoke(c)
  return c
