"""Your own clips: a folder that `python -m zsar_jax.prepare` has packed.

Two keys say what to train on:

python -m zsar_jax.main --config=configs/video_folder.py --workdir=runs/mine \
  --config.data.dataset_dir=DIR --config.data.class_split=split.json

DIR is the folder that prepare printed; split.json holds the lists "seen" and
"unseen". `configs/video_folder.py:smoke` shrinks the model and the schedule.
"""

import ml_collections

from zsar_jax import config_utils


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  args = config_utils.parse_arg(arg, 'smoke')
  c = config_utils.default_config()

  c.data.dataset_dir = 'set --config.data.dataset_dir'
  c.data.cache_mb = 4096
  c.data.num_threads = 2

  c.preprocessing.size = 64
  c.preprocessing.short_side = 72
  c.preprocessing.num_frames = 8
  # Colour and background tell the place, not the action.
  c.preprocessing.inputs = 'grey+difference'
  c.preprocessing.token_length = 24

  c.model.video.depth = 4
  c.model.video.tubelet_size = (2, 8, 8)

  c.train.batch_size = 32
  c.train.num_steps = 500
  c.zeroshot.temperature = 0.05

  if 'smoke' in args:
    c.preprocessing.size = 32
    c.preprocessing.short_side = 32
    config_utils.shorten(c, 20)
  return c
