"""Your own clips: a folder that `python -m zsar_jax.prepare` has packed.

Two keys say what to train on:

python -m zsar_jax.main --config=configs/video_folder.py --workdir=runs/mine \
  --config.data.dataset_dir=DIR --config.data.class_split=split.json

DIR is the folder that prepare printed; split.json holds the lists "seen" and
"unseen". By default the text side starts from random values and learns only
from the class names. With :frozen_text after the file's name, it is a public
BERT whose weights (--config.init.text=WEIGHTS_DIR) do not change. :smoke
shrinks the model and the schedule.
"""

import ml_collections

from zsar_jax import config_utils


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  args = config_utils.parse_arg(arg, 'frozen_text', 'smoke')
  c = config_utils.default_config()

  c.data.dataset_dir = 'set --config.data.dataset_dir'
  c.data.cache_mb = 4096
  c.data.num_threads = 2

  c.preprocessing.size = 48
  c.preprocessing.short_side = 48
  c.preprocessing.num_frames = 16
  # Light and background show the place, not the action.
  c.preprocessing.inputs = 'contrast+motion'
  c.preprocessing.token_length = 16

  # 64 tokens a clip, and small batches: many updates in little time.
  c.model.video.depth = 3
  c.model.video.mlp_dim = 256
  c.model.video.tubelet_size = (4, 12, 12)
  c.loss.label_smoothing = 0.1

  c.train.batch_size = 16
  c.train.num_steps = 600

  if 'frozen_text' in args:
    c.init.text = 'set --config.init.text'
    # A dozen names are too few to learn how names are related. So the names
    # stay fixed, and the videos learn to lie near them.
    c.optim.frozen = ('^text_encoder/', '^text_projection/')
    c.model.embedding_dim = 384

  if 'smoke' in args:
    c.preprocessing.size = 24
    c.preprocessing.short_side = 24
    config_utils.shorten(c, 20)
  return c
