"""The config's keys about the model, with their defaults."""

import ml_collections

# Computation dtypes of a model; parameters stay float32.
DTYPES = 'float32', 'bfloat16'


def model() -> ml_collections.ConfigDict:
  """Returns the settings of the encoders and the fusion."""
  c = ml_collections.ConfigDict()
  # Keyword arguments of `VideoEncoder` in zsar_jax/models/video_encoder.py.
  c.video = ml_collections.ConfigDict(
    dict(
      # Named sizes, such as 'B/16x2'. They replace width, depth, num_heads,
      # mlp_dim and tubelet_size; '' keeps those keys.
      variant='',
      # '' embeds tubelets. 'clip' runs CLIP's vision Transformer on every
      # frame. 'rest18', 'rest50' and 'rest101' run a ResNet on every frame.
      # Public weights also set 'siglip', 'xclip', 'videoprism', 'pe_video',
      # 'vjepa2' and 'i3d'. Of the keys below these read only `tower`, rates of
      # dropout and stochastic depth, `remat` and `attention_implementation`.
      backbone='',
      # Keyword arguments of these encoders; public weights fill it in.
      tower=ml_collections.ConfigDict(),
      # Norm of the ResNet: 'group' (for random weights) or 'frozen'.
      resnet_norm='group',
      width=128,
      depth=3,
      num_heads=4,
      mlp_dim=512,
      # Frames, height and width of a tubelet; the last two in pixels.
      tubelet_size=(2, 8, 8),
      # 'joint', 'factorised' or 'divided'.
      attention='joint',
      # Number of temporal blocks; only for factorised attention.
      depth_time=0,
      # 'mean', 'cls' or 'attention' (of a learnt query).
      pooling='mean',
      # 'separable', 'full' (both learnt), 'sincos' or 'rotary' (both fixed).
      positions='separable',
      # Tubelets (t, h, w) of the fixed positions, resampled to a clip's grid;
      # () computes them for the clip's grid.
      sincos_grid=(),
      activation='gelu_tanh',
      # Added to the variance in every norm.
      norm_epsilon=1e-6,
      # Initials of those of query, key and value that have a bias.
      qkv_bias='qkv',
      # 'tokens' (before pooling), 'pooled' (the pooled vector) or 'none'.
      final_norm='tokens',
      dropout_rate=0.0,
      # Rate at which training skips the last block for a clip. It grows
      # linearly from 0 at the first block.
      stochastic_depth_rate=0.0,
      # Recomputation in the backward pass, to save memory: see REMATS in
      # zsar_jax/models/space_time.py.
      remat='none',
      # Whether to compile one block for all, to compile faster.
      scan_blocks=False,
      # 'auto', 'einsum', 'cudnn' or 'flash'.
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
      # 'bert' or 'clip'. Public weights also set 'siglip', 'xclip',
      # 'videoprism' and 'pe_video', which read only `tower` and the dropout.
      architecture='bert',
      # Keyword arguments of these encoders; public weights fill it in.
      tower=ml_collections.ConfigDict(),
      # Id of the end token; only for 'clip'.
      end_id=-1,
      # 'end' or 'exact_end': see POOLED_TOKENS in zsar_jax/models/clip.py.
      # Only for 'clip'.
      pooled_token='end',
      activation='gelu',
      norm_epsilon=1e-12,
      dropout_rate=0.0,
      # Numbers of distances between tokens, each with a bias, in place of
      # BERT's types: MPNet has 32. 0 for none.
      relative=0,
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
      # Whether both sides share one projection to the fused width. Their
      # tokens must then be equally wide.
      shared_projection=False,
      dropout_rate=0.0,
    )
  )
  # Dimension of the embeddings of videos and classes.
  c.embedding_dim = 128
  c.dtype = 'float32'  # one of DTYPES
  return c
