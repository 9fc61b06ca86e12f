"""The paper's runs: ResT_18 and ResT_101 on 664 classes of Kinetics-700.

The 664 are those that overlap no class of the test sets (Brattoli et al.
2020). `arg` names the backbone, rest18 where it is left out:

python -m zsar_jax.main --config=configs/k700_664.py:rest101 \
  --workdir=runs/rest101 --config.data.dataset_dir=DIR \
  --config.data.class_split=split.json

`:rest101,smoke` shrinks all but the ResNet to run on a CPU, on stick figures
where no dataset_dir is given; its accuracies mean nothing.
"""

import ml_collections

from zsar_jax import config_utils


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  args = config_utils.parse_arg(arg, 'rest18', 'rest101', 'smoke')
  if {'rest18', 'rest101'} <= args:
    raise ValueError('config argument: rest18 or rest101, not both')
  large = 'rest101' in args
  c = config_utils.default_config()

  c.data.dataset_dir = 'set --config.data.dataset_dir'
  c.data.num_threads = 16

  # 16 frames, every second at 25 frames/s: 1.2 s of the 10.
  c.preprocessing.size = 224
  c.preprocessing.short_side = 256
  c.preprocessing.num_frames = 16
  c.preprocessing.sampling = 'dense'
  c.preprocessing.frame_stride = 2
  c.preprocessing.sample_fps = 25.0

  # 16 x 7 x 7 tokens a clip. The size of the Transformer is our choice, and
  # so is the norm: see zsar_jax/models/resnet.py.
  c.model.video.backbone = 'rest101' if large else 'rest18'
  c.model.video.update(width=512, depth=4, num_heads=8, mlp_dim=2048)
  # The shape of MiniLM-L6, whose weights --config.init.text=DIR starts from.
  c.model.text.update(width=384, depth=6, num_heads=12, mlp_dim=1536)
  c.model.fusion.update(width=512, depth=2, num_heads=8, mlp_dim=2048)
  c.model.embedding_dim = 512
  c.model.dtype = 'bfloat16'

  # The paper's schedule is not published. Ours: about 50 passes.
  c.train.batch_size = 128 if large else 256
  c.train.num_steps = 200_000 if large else 100_000
  c.train.log_every = 100
  c.train.validate_every = 5000
  c.train.checkpoint_every = 1000
  c.optim.learning_rate = 2.5e-4 if large else 5e-4
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
    c.preprocessing.num_frames = 2
    for part in (c.model.video, c.model.text, c.model.fusion):
      part.update(width=64, depth=1, num_heads=2, mlp_dim=128)
    c.train.batch_size = 8
    c.train.num_steps = 10
    c.train.log_every = 5
    c.train.validate_every = 10
    c.train.checkpoint_every = 10
    c.optim.warmup_steps = 2
    c.zeroshot.num_views = 1
  return c
