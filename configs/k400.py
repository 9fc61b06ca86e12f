"""ViT-B over tubelets, trained on Kinetics-400 from random weights.

Two keys say what to train on; `zsar_jax.prepare` makes the folder:

python -m zsar_jax.main --config=configs/k400.py --workdir=runs/k400 \
  --config.data.dataset_dir=DIR --config.data.class_split=split.json

`configs/k400.py:smoke` shrinks everything to run on a CPU, on stick figures
where no dataset_dir is given; its accuracies mean nothing.
"""

import ml_collections

from zsar_jax import config_utils


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  args = config_utils.parse_arg(arg, 'smoke')
  c = config_utils.default_config()

  c.data.dataset_dir = 'set --config.data.dataset_dir'
  c.data.num_threads = 16

  # 16 frames, every fourth at 25 frames/s: 2.4 s of the 10.
  c.preprocessing.size = 224
  c.preprocessing.short_side = 256
  c.preprocessing.num_frames = 16
  c.preprocessing.sampling = 'dense'
  c.preprocessing.frame_stride = 4
  c.preprocessing.sample_fps = 25.0

  # ViT-B, 8 x 14 x 14 tokens a clip.
  c.model.video.update(width=768, depth=12, num_heads=12, mlp_dim=3072)
  c.model.video.tubelet_size = (2, 16, 16)
  # The shape of MiniLM-L6, whose weights --config.init.text=DIR starts from.
  c.model.text.update(width=384, depth=6, num_heads=12, mlp_dim=1536)
  c.model.fusion.update(width=512, depth=2, num_heads=8, mlp_dim=2048)
  c.model.embedding_dim = 512
  c.model.dtype = 'bfloat16'

  # The paper's schedule is not published. Ours: about 100 passes.
  c.train.batch_size = 256
  c.train.num_steps = 90_000
  c.train.log_every = 100
  c.train.validate_every = 5000
  c.train.checkpoint_every = 1000
  c.optim.learning_rate = 5e-4
  c.optim.warmup_steps = 5000
  c.loss.label_smoothing = 0.1
  c.zeroshot.num_views = 4

  if 'smoke' in args:
    c.data.dataset_dir = ''
    c.data.num_threads = 2
    c.data.stick_figures.clips_per_class = 4
    c.data.stick_figures.test_clips_per_class = 2
    c.preprocessing.size = 32
    c.preprocessing.short_side = 32
    c.preprocessing.num_frames = 4
    for part in (c.model.video, c.model.text, c.model.fusion):
      part.update(width=64, depth=1, num_heads=2, mlp_dim=128)
    c.train.batch_size = 16
    c.train.num_steps = 10
    c.train.log_every = 5
    c.train.validate_every = 10
    c.train.checkpoint_every = 10
    c.optim.warmup_steps = 2
    c.zeroshot.num_views = 1
  return c
