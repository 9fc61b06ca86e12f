"""The demo: stick figures, minutes on two CPU cores.

`configs/demo.py:smoke` shrinks everything to about a minute, to see that all
parts run. Its accuracies mean nothing.
"""

import ml_collections

from zsar_jax import config_utils


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  args = config_utils.parse_arg(arg, 'smoke')
  c = config_utils.default_config()

  c.data.cache_mb = 2048
  c.data.num_threads = 2
  c.augmentation.crop_area = (0.8, 1.0)
  # Two thirds of the names have left or right, so nothing is mirrored.
  c.augmentation.mirror = False

  c.preprocessing.size = 48
  c.preprocessing.short_side = 48
  c.preprocessing.num_frames = 8
  c.preprocessing.inputs = 'grey+difference'
  c.preprocessing.token_length = 12

  # 64 tokens a clip: coarse, and twice as many steps in the same time.
  c.model.video.tubelet_size = (2, 12, 12)

  c.train.batch_size = 32
  c.train.num_steps = 800
  c.train.validate_every = 200
  c.train.checkpoint_every = 200
  c.zeroshot.temperature = 0.2
  c.zeroshot.batch_size = 48

  if 'smoke' in args:
    c.data.stick_figures.clips_per_class = 4
    c.data.stick_figures.test_clips_per_class = 2
    config_utils.shorten(c, 20)
  return c
