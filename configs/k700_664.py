"""The paper's runs: ResT_18 and ResT_101 on 664 classes of Kinetics-700.

The 664 overlap no class of UCF101 and HMDB51 (Brattoli et al. 2020). Two keys
name the prepared datasets to train and to test on. data.protocol says how to
test. The argument after the colon names the backbone, by default rest18:

python -m zsar_jax.main --config=configs/k700_664.py:rest101 \
  --workdir=runs/rest101 --config.data.dataset_dir=K700_664_DIR \
  --config.data.test_dataset_dir=UCF101_DIR

`:rest101,smoke` shrinks all but the ResNet to run on a CPU. It uses stick
figures if there is no dataset_dir. Its accuracies mean nothing.
"""

import ml_collections

from zsar_jax import config_utils


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  args = config_utils.parse_arg(arg, 'rest18', 'rest101', 'smoke')
  if {'rest18', 'rest101'} <= args:
    raise ValueError('config argument: rest18 or rest101, not both')
  large = 'rest101' in args
  c = config_utils.default_config()
  config_utils.full_size(c)

  # The paper also uses 'hmdb51/half-class-seed0-9'.
  c.data.protocol = 'ucf101/half-class-seed0-9'
  c.data.test_dataset_dir = 'set --config.data.test_dataset_dir'
  # Nine of the 664 classes are in a test set by a plain comparison of words
  # (docs/protocols.md). They are left out. drop_leaking=False with
  # allow_leaks=True trains on all 664, and every result says so.
  c.data.strict_for = (
    'ucf101/all-classes-all-videos',
    'hmdb51/all-classes-all-videos',
  )
  c.data.drop_leaking = True

  # Our choice, usual for ResNets on this dataset.
  c.augmentation.crop_area = (0.35, 1.0)
  c.augmentation.colour_jitter.update(
    brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1
  )

  # 16 frames, every second at 25 frames/s: 1.2 s of the 10.
  c.preprocessing.frame_stride = 2

  # 16 x 7 x 7 tokens a clip. The size of the Transformer is our choice, and
  # so is the norm: see zsar_jax/models/resnet.py.
  c.model.video.backbone = 'rest101' if large else 'rest18'
  c.model.video.update(width=512, depth=4, num_heads=8, mlp_dim=2048)

  # The paper's schedule is not published. Ours: about 50 passes.
  c.train.batch_size = 128 if large else 256
  c.train.num_steps = 200_000 if large else 100_000
  c.optim.learning_rate = 2.5e-4 if large else 5e-4

  if 'smoke' in args:
    config_utils.shrink_to_smoke(c)
    # The ResNet is not shrunk.
    c.preprocessing.num_frames = 2
    c.train.batch_size = 8
  return c
