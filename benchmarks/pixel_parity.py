"""Compares our pixels for public weights with the models' own processors.

python -m benchmarks.pixel_parity [--video=FILE]

Each processor of transformers is made with the settings of public weights,
saved, and read by `zsar_jax.pretrained.pixels`. Both process one frame: the
middle of a video, or an artificial one of 360 x 640 with smooth areas, edges
and noise. The differences are between the model's inputs, in levels of 255.
`averaging` is the difference if frames were resized by averaging areas and
cropped to the largest square, as in earlier versions. The processors of V-JEPA
2 and PE-Video need torchvision, which resizes with PyTorch's antialiased
interpolation: their rows compare with that. The script exits with 1 if a
difference is above its limit. It needs the extra `parity`.
"""

import argparse
import sys
import tempfile

import numpy as np
import torch
import transformers

from zsar_jax.data import decode, preprocessing, video_transforms
from zsar_jax.pretrained import directory, pixels

# Limits in levels, for processors that resize with Pillow, and with PyTorch,
# which rounds differently.
_BOUND, _TORCH_BOUND = 1e-3, 1.001
_CROPPED = {'size': {'shortest_edge': 224}, 'crop_size': 224}
_WHOLE = {'size': {'height': 224, 'width': 224}}
_IMAGENET = {
  'image_mean': [0.485, 0.456, 0.406],
  'image_std': [0.229, 0.224, 0.225],
}
# Settings of V-JEPA 2's weights.
_VJEPA2 = {
  'size': {'shortest_edge': 292},
  'crop_size': 256,
  'resample': 2,
  **_IMAGENET,
}
_PE_VIDEO = {
  'size': {'height': 336, 'width': 336},
  'resample': 2,
  'image_mean': [0.5] * 3,
  'image_std': [0.5] * 3,
}
# Model, its model type, its processor, and the settings of public weights.
_CASES = (
  ('CLIP, MetaCLIP 2', 'clip', 'CLIPImageProcessorPil', _CROPPED),
  ('SigLIP', 'siglip', 'SiglipImageProcessorPil', _WHOLE),
  ('SigLIP 2', 'siglip', 'SiglipImageProcessorPil', {**_WHOLE, 'resample': 2}),
  ('ViT', 'vit', 'ViTImageProcessorPil', _WHOLE),
  (
    'VideoMAE, X-CLIP',
    'videomae',
    'VideoMAEImageProcessorPil',
    {**_CROPPED, **_IMAGENET},
  ),
  (
    'TimeSformer',
    'timesformer',
    'VideoMAEImageProcessorPil',
    {**_CROPPED, 'image_mean': [0.45] * 3, 'image_std': [0.225] * 3},
  ),
  (
    'ViViT',
    'vivit',
    'VivitImageProcessor',
    {**_CROPPED, 'size': {'shortest_edge': 256}},
  ),
  ('V-JEPA 2', 'vjepa2', '', _VJEPA2),
  ('PE-Video', 'pe_video', '', _PE_VIDEO),
)


def _frame(path: str) -> np.ndarray:
  """Returns a frame uint8 [h w 3]: a video's middle, or an artificial one."""
  if path:
    info = decode.check_video(path, path)
    return decode.decode_frames(path, [len(info.timestamps) // 2], path)[0]
  rng = np.random.default_rng(0)
  y, x = np.mgrid[:360, :640]
  waves = np.sin(x[..., None] / (9, 5, 3)) * np.cos(y / 11)[..., None]
  frame = 120 + 80 * waves
  frame[90:200, 150:330] = (250, 10, 60)
  return (frame + rng.normal(0, 12, frame.shape)).clip(0, 255).astype(np.uint8)


def _ours(frame: np.ndarray, found: dict) -> np.ndarray:
  """Returns the inputs of the model [h w 3], by this project."""
  prep = preprocessing.Preprocessing(
    **found,
    num_frames=1,
    sampling='uniform',
    frame_stride=1,
    sample_fps=30.0,
    inputs='rgb',
    token_length=8,
    vocabulary_hash='',
  )
  view = video_transforms.eval_views(video_transforms.shrink(frame, prep), prep)
  return (view[0] / 255 - np.array(prep.mean)) / np.array(prep.std)


def _by_processor(processor, frame: np.ndarray) -> np.ndarray:
  """Returns the same [3 h w], by the model's own processor."""
  clips = type(processor).__name__.startswith(('VideoMAE', 'Vivit'))
  given = [[frame]] if clips else frame
  (out,) = processor(given, return_tensors='np').values()
  return np.asarray(out)


def _by_torch(given: dict, frame: np.ndarray) -> np.ndarray:
  """Returns the same [3 h w], by PyTorch's antialiased interpolation."""
  h, w = frame.shape[:2]
  if 'height' in given['size']:
    crop = given['size']['height']
    size = [crop, crop]
  else:
    short, crop = given['size']['shortest_edge'], given['crop_size']
    size = [int(short * n / min(h, w)) for n in (h, w)]
  pixels = torch.tensor(frame).permute(2, 0, 1)[None]
  pixels = torch.nn.functional.interpolate(
    pixels, size, mode='bilinear', antialias=True
  )[0].numpy()
  top, left = ((n - crop) // 2 for n in size)
  pixels = pixels[:, top : top + crop, left : left + crop] / 255
  column = lambda key: np.array(given[key])[:, None, None]
  return (pixels - column('image_mean')) / column('image_std')


def compare(
  title: str, kind: str, name: str, given: dict, frame: np.ndarray
) -> bool:
  """Compares a case of _CASES, prints its row, returns whether it is ok."""
  if name:
    processor = getattr(transformers, name)(**given)
    theirs = _by_processor(processor, frame)
    with tempfile.TemporaryDirectory() as path:
      processor.save_pretrained(path)
      given = directory.read_preprocessor(path)
  else:
    theirs = _by_torch(given, frame)
  side = theirs.shape[-1]
  theirs = theirs.reshape(3, side, side).transpose(1, 2, 0)
  weights = directory.Weights('', {'model_type': kind}, given, {}, {})
  found = pixels.read(weights, side)
  levels = np.array(found['std']) * 255
  ours = np.abs(_ours(frame, found) - theirs) * levels
  before = {**found, 'resize': 'area', 'crop': 'square'}
  averaging = np.abs(_ours(frame, before) - theirs) * levels
  ok = bool(ours.max() <= (_BOUND if name else _TORCH_BOUND))
  print(
    f'| {title} | {name or "PyTorch"} | {found["resize"]}, {found["crop"]} '
    f'| {ours.max():.1e} / {ours.mean():.1e} '
    f'| {averaging.max():.0f} / {averaging.mean():.1f} '
    f'| {"yes" if ok else "NO"} |'
  )
  return ok


def main(argv: list[str]) -> int:
  """Prints the table; returns the exit code."""
  parser = argparse.ArgumentParser(prog='pixel_parity')
  parser.add_argument('--video', default='')
  frame = _frame(parser.parse_args(argv).video)
  transformers.utils.logging.set_verbosity_error()
  print(f'transformers {transformers.__version__}, frame {frame.shape}\n')
  print('| model | processor | resize, crop | max / mean | averaging | ok |')
  print('| --- | --- | --- | --- | --- | --- |')
  return 0 if all([compare(*case, frame) for case in _CASES]) else 1


if __name__ == '__main__':
  sys.exit(main(sys.argv[1:]))
