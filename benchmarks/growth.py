"""How does the cost of a clip grow with frames, size, and the model?

python -m benchmarks.growth

Nothing is computed or allocated: the video encoder is traced on abstract
arrays. GMAC and activations are those of `benchmarks.model_table`, of one clip.
The columns `x` are relative to ViT-B/16x2 at 16 frames of 224 pixels.
"""

import sys

import jax
import jax.numpy as jnp

from benchmarks import model_table, module_cost
from zsar_jax.evaluation import results_text
from zsar_jax.models import video_encoder

# Variant, frames, pixels a side; the first is what others are compared with.
_CASES = (
  ('B/16x2', 16, 224),
  ('B/16x2', 8, 224),
  ('B/16x2', 32, 224),
  ('B/16x2', 16, 112),
  ('B/16x2', 16, 288),
  ('S/16x2', 16, 224),
  ('L/16x2', 16, 224),
)


def cost(variant: str, frames: int, size: int) -> tuple[int, int, int]:
  """Returns tokens, multiply-adds and activation bytes of one clip.

  Args:
    variant: see `video_encoder.variant`.
    frames: frames of the clip.
    size: pixels a side.
  """
  module = video_encoder.VideoEncoder(
    **video_encoder.variant(variant), dtype=jnp.bfloat16
  )
  clip = jax.ShapeDtypeStruct((1, frames, size, size, 3), jnp.float32)
  params = model_table.parameter_shapes(module, (clip,))
  t, h, w = module.tubelet_size
  return (
    (frames // t) * (size // h) * (size // w),
    module_cost.forward_macs(module, params, (clip,)),
    module_cost.activation_bytes(module, params, (clip,)),
  )


def table(cases=_CASES) -> list[str]:
  """Lines of the table; costs relative to those of the first case."""
  costs = [cost(*case) for case in cases]
  _, macs, activations = costs[0]
  rows = [
    (
      f'ViT-{variant}',
      str(frames),
      str(size),
      str(tokens),
      f'{of_case[0] / 1e9:.0f}',
      f'{of_case[0] / macs:.2f}',
      f'{of_case[1] / 1e6:.0f}',
      f'{of_case[1] / activations:.2f}',
    )
    for (variant, frames, size), (tokens, *of_case) in zip(
      cases, costs, strict=True
    )
  ]
  header = (
    'model',
    'frames',
    'pixels',
    'tokens',
    'GMAC',
    'x',
    'activations, MB',
    'x',
  )
  return results_text.columns(header, rows)


if __name__ == '__main__':
  if len(sys.argv) > 1:
    sys.exit(__doc__)
  print('\n'.join(table()))
