"""The config's keys about the model, with their defaults."""

import ml_collections


def model() -> ml_collections.ConfigDict:
  """Sizes of the encoders and the fusion."""
  c = ml_collections.ConfigDict()
  # Keyword arguments of models/video_encoder.py; see there for their values.
  c.video = ml_collections.ConfigDict(
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
  c.text = ml_collections.ConfigDict(
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
  c.fusion = ml_collections.ConfigDict(
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
  c.embedding_dim = 128
  # Computation dtype: 'float32' or 'bfloat16'; parameters stay float32.
  c.dtype = 'float32'
  return c
