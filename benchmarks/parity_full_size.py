"""Parity with PyTorch at full size.

python -m benchmarks.parity_full_size [--models=NAME,...]

The tests compare small networks. This compares those whose sizes public
weights have: each is built by transformers from a fixed seed, saved, loaded
by `zsar_jax.pretrained`, and run here and there in float32 on the CPU on the
same random input of batch size 1. A row is ok where the last hidden states
differ by at most 1e-4; the exit code is 1 if any row is not. It needs the
extra `parity`.

Random weights are not as transformers leaves them: a Transformer's all get
noise, so that a bias, norm, class token or position that starts at zero or one
cannot hide in a wrong place. A ResNet's norms get random scales and biases,
and the statistics of random images, off by random amounts: with arbitrary ones
the activations of a deep network would grow without bound. The last norm of
each residual branch is scaled down (Goyal et al. 2017 start it at zero). With
_BRANCH_SCALE = 1 a random ResNet amplifies rounding so much that the deeper
two cannot meet the tolerance: at depths 18, 50 and 101 PyTorch's float32 then
differs from its own float64 by 6e-5, 7e-4 and 3e-3, ours from it by 5e-5, 7e-4
and 4e-3, and the two in float32 from each other by 5e-5, 7e-4 and 3e-3.

`Mparam` are the millions of parameters of our encoder, without heads, poolers
and stored statistics (the word tables are padded to a multiple of 128 rows);
`std` is the standard deviation of PyTorch's output, the scale that the
difference is to be seen against; `rounding` is the max abs difference between
PyTorch in float32 and in float64, the size of difference that is no fault.

2026-11-23, 2 cores, AMD EPYC, CPU; Python 3.11.7, torch 2.13.0+cpu,
transformers 5.23.0, jax 0.10.2, flax 0.12.8; all in 2 to 3 minutes:

| model | Mparam | input | std | rounding | max abs difference | ok |
| --- | --- | --- | --- | --- | --- | --- |
| BERT-base | 108.95 | 512 | 1.01 | 3.0e-06 | 4.9e-06 | yes |
| ViT-B/16 | 85.80 | 1x224x224x3 | 1.01 | 3.2e-06 | 4.8e-06 | yes |
| VideoMAE-B/16x2 | 86.23 | 16x224x224x3 | 3.23 | 1.3e-05 | 1.8e-05 | yes |
| ViViT-B/16x2 | 88.65 | 32x224x224x3 | 1.01 | 5.3e-06 | 6.4e-06 | yes |
| TimeSformer-B/16 | 121.26 | 8x224x224x3 | 1.01 | 3.6e-06 | 5.1e-06 | yes |
| CLIP ViT-B/32, text | 63.17 | 77 | 1.01 | 2.2e-06 | 4.3e-06 | yes |
| CLIP ViT-B/32, vision | 87.46 | 1x224x224x3 | 3.02 | 1.2e-05 | 1.5e-05 | yes |
| ResNet-18 | 11.18 | 224x224x3 | 0.78 | 1.0e-05 | 1.3e-05 | yes |
| ResNet-50 | 23.51 | 224x224x3 | 0.78 | 2.2e-05 | 2.0e-05 | yes |
| ResNet-101 | 42.50 | 224x224x3 | 0.90 | 5.0e-05 | 4.7e-05 | yes |
"""

import argparse
from collections.abc import Callable
import dataclasses
import gc
import os
import sys
import tempfile

import flax
import jax
import numpy as np
import torch
import transformers

from benchmarks import model_table
from zsar_jax.models import clip as clip_model
from zsar_jax.models import resnet as resnet_model
from zsar_jax.models import text_encoder, video_encoder
from zsar_jax.pretrained import bert, clip, directory, resnet, video

TOLERANCE = 1e-4
SEED = 0
_PIXELS = 224
_BERT_LENGTH = 512
# Of the residual branches of a ResNet.
_BRANCH_SCALE = 0.2


@dataclasses.dataclass(frozen=True)
class Outcome:
  """What a comparison needs of a model.

  Attributes:
    parameters: how many our encoder has.
    shape: of the input, without the batch.
    theirs: PyTorch's last hidden state, in our order.
    rounding: max abs difference of it to PyTorch's in float64.
    ours: our last hidden state.
  """

  parameters: int
  shape: tuple[int, ...]
  theirs: np.ndarray
  rounding: float
  ours: np.ndarray


def _perturb(model: torch.nn.Module) -> None:
  """Adds noise to all parameters, small enough to keep outputs near 1."""
  with torch.no_grad():
    for parameter in model.parameters():
      std = 0.1 if parameter.ndim <= 1 else 0.02
      parameter.add_(std * torch.randn(parameter.shape))


def _randomise_batch_norms(model: torch.nn.Module) -> None:
  """Gives batch norms random scales, biases and statistics."""
  norms = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
  with torch.no_grad():
    for norm in norms:
      norm.weight.uniform_(0.5, 1.5)
      norm.bias.normal_(0, 0.2)
      norm.momentum = 1.0  # The statistics become those of the next batch.
    for block in model.modules():
      if hasattr(block, 'shortcut'):
        block.layer[-1].normalization.weight.mul_(_BRANCH_SCALE)
    model.train()(torch.randn(2, 3, _PIXELS, _PIXELS))
    for norm in norms:
      shift = torch.randn(norm.running_mean.shape)
      norm.running_mean.add_(0.2 * shift * norm.running_var.sqrt())
      norm.running_var.mul_(torch.empty_like(shift).uniform_(0.7, 1.4))
  model.eval()


def _built(model: torch.nn.Module, path: str) -> torch.nn.Module:
  """Saves a model for `directory.read_weights`, and returns it."""
  model.eval().save_pretrained(path, safe_serialization=True)
  return model


def _run_torch(
  model: torch.nn.Module, **inputs: torch.Tensor
) -> tuple[np.ndarray, float]:
  """Last hidden state and its rounding; leaves the model in float64."""
  double = {
    name: x.double() if x.is_floating_point() else x
    for name, x in inputs.items()
  }
  with torch.no_grad():
    found = model(**inputs).last_hidden_state
    exact = model.double()(**double).last_hidden_state
  return found.numpy(), (found - exact).abs().max().item()


def _pixels(*shape: int) -> np.ndarray:
  """A random image [1 h w 3] or clip [1 t h w 3] of normalised pixels."""
  rng = np.random.default_rng(SEED)
  return rng.normal(size=(1, *shape, 3)).astype(np.float32)


def _tokens(
  length: int, real: int, ids: range
) -> tuple[np.ndarray, np.ndarray]:
  """Returns a random text [1 l] with padding behind it, and its mask."""
  drawn = np.random.default_rng(SEED).integers(ids.start, ids.stop, length)
  mask = np.arange(length) < real
  return np.where(mask, drawn, 0).astype(np.int32)[None], mask[None]


def _torch_text(ids: np.ndarray, mask: np.ndarray) -> dict[str, torch.Tensor]:
  return {
    'input_ids': torch.from_numpy(ids).long(),
    'attention_mask': torch.from_numpy(mask).long(),
  }


def _run_bert(path: str) -> Outcome:
  config = transformers.BertConfig()
  peer = transformers.BertModel(config)
  _perturb(peer)
  _built(peer, path)
  with open(os.path.join(path, bert.VOCABULARY_FILE), 'w') as f:
    special = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]']
    words = (f'word{i}' for i in range(config.vocab_size - len(special)))
    f.writelines(f'{piece}\n' for piece in (*special, *words))
  ids, mask = _tokens(
    _BERT_LENGTH, _BERT_LENGTH - 12, range(5, config.vocab_size)
  )
  theirs, rounding = _run_torch(peer, **_torch_text(ids, mask))
  kwargs, params, _ = bert.load_text_encoder(
    directory.read_weights(path), _BERT_LENGTH
  )
  encoder = text_encoder.TextEncoder(**kwargs)
  ours = jax.jit(encoder.apply)({'params': params}, ids, mask)['tokens']
  return Outcome(
    model_table.count_parameters(params), ids.shape[1:], theirs, rounding, ours
  )


def _in_our_order(tokens: np.ndarray, frames: int) -> np.ndarray:
  """TimeSformer's tokens [b 1+(h w t) d] as [b 1+(t h w) d]."""
  b, n, d = tokens.shape
  grid = tokens[:, 1:].reshape(b, (n - 1) // frames, frames, d).swapaxes(1, 2)
  return np.concatenate([tokens[:, :1], grid.reshape(b, n - 1, d)], axis=1)


def _run_video(model_class: type, path: str) -> Outcome:
  peer = model_class(model_class.config_class())
  _perturb(peer)
  _built(peer, path)
  weights = directory.read_weights(path)
  frames = _pixels(*video.native_clip(weights))
  pixels = torch.from_numpy(frames).permute(0, 1, 4, 2, 3)
  if peer.config.model_type == 'vit':
    pixels = pixels[:, 0]
  theirs, rounding = _run_torch(peer, pixel_values=pixels)
  if peer.config.model_type == 'timesformer':
    theirs = _in_our_order(theirs, frames.shape[1])
  kwargs, params = video.load_video_encoder(weights)
  encoder = video_encoder.VideoEncoder(**kwargs)
  ours = jax.jit(encoder.apply)({'params': params}, frames)['tokens']
  return Outcome(
    model_table.count_parameters(params),
    frames.shape[1:],
    theirs,
    rounding,
    ours,
  )


def _run_clip(part: str, path: str) -> Outcome:
  """Both towers are saved and loaded, `part` ('text' or 'video') is run."""
  peer = transformers.CLIPModel(transformers.CLIPConfig())
  _perturb(peer)
  _built(peer, path)
  if part == 'text':
    config = peer.config.text_config
    length = config.max_position_embeddings
    ids, mask = _tokens(length, length - 7, range(config.vocab_size - 2))
    inputs = (ids, mask)
    theirs, rounding = _run_torch(peer.text_model, **_torch_text(ids, mask))
  else:
    inputs = (_pixels(1, _PIXELS, _PIXELS),)
    pixels = torch.from_numpy(inputs[0][:, 0]).permute(0, 3, 1, 2)
    theirs, rounding = _run_torch(peer.vision_model, pixel_values=pixels)
  kwargs, params = clip.load_clip(directory.read_weights(path))
  model = clip_model.Clip(**kwargs)
  encode = jax.jit(
    lambda params, *inputs: model.apply(
      {'params': params}, *inputs, method=f'encode_{part}'
    )
  )
  ours = encode(params, *inputs)['tokens']
  return Outcome(
    model_table.count_parameters(params[f'{part}_encoder']),
    inputs[0].shape[1:],
    theirs,
    rounding,
    ours,
  )


def _run_resnet(depth: int, path: str) -> Outcome:
  layout = resnet_model.LAYOUTS[depth]
  wider = 4 if layout.bottleneck else 1
  stages = range(len(layout.stage_depths))
  peer = transformers.ResNetModel(
    transformers.ResNetConfig(
      depths=list(layout.stage_depths),
      layer_type='bottleneck' if layout.bottleneck else 'basic',
      hidden_sizes=[layout.width * wider * 2**i for i in stages],
    )
  )
  _randomise_batch_norms(peer)
  _built(peer, path)
  images = _pixels(_PIXELS, _PIXELS)
  pixels = torch.from_numpy(images).permute(0, 3, 1, 2)
  theirs, rounding = _run_torch(peer, pixel_values=pixels)
  params = resnet.load_resnet(directory.read_weights(path), layout)
  module = resnet_model.ResNet(layout, 'frozen')
  return Outcome(
    model_table.count_parameters(params),
    images.shape[1:],
    theirs.transpose(0, 2, 3, 1),
    rounding,
    jax.jit(module.apply)({'params': params}, images),
  )


@dataclasses.dataclass(frozen=True)
class Case:
  """A model to compare.

  Attributes:
    title: its name in the table.
    run: takes an empty folder and compares.
  """

  title: str
  run: Callable[[str], Outcome]


def _video_case(title: str, class_name: str) -> Case:
  return Case(
    title, lambda path: _run_video(getattr(transformers, class_name), path)
  )


CASES = {
  'bert': Case('BERT-base', _run_bert),
  'vit': _video_case('ViT-B/16', 'ViTModel'),
  'videomae': _video_case('VideoMAE-B/16x2', 'VideoMAEModel'),
  'vivit': _video_case('ViViT-B/16x2', 'VivitModel'),
  'timesformer': _video_case('TimeSformer-B/16', 'TimesformerModel'),
  'clip_text': Case(
    'CLIP ViT-B/32, text', lambda path: _run_clip('text', path)
  ),
  'clip_vision': Case(
    'CLIP ViT-B/32, vision', lambda path: _run_clip('video', path)
  ),
  'resnet18': Case('ResNet-18', lambda path: _run_resnet(18, path)),
  'resnet50': Case('ResNet-50', lambda path: _run_resnet(50, path)),
  'resnet101': Case('ResNet-101', lambda path: _run_resnet(101, path)),
}


def compare(case: Case) -> bool:
  """Runs a case, prints its row and says whether it is ok.

  Args:
    case: a value of CASES.

  Returns:
    Whether the last hidden states agree.

  Raises:
    ValueError: they are of different shapes.
  """
  torch.manual_seed(SEED)
  with tempfile.TemporaryDirectory() as path:
    outcome = case.run(path)
  theirs, ours = outcome.theirs, np.asarray(outcome.ours)
  if theirs.shape != ours.shape:
    raise ValueError(f'{case.title}: shapes {theirs.shape} and {ours.shape}')
  difference = np.abs(theirs - ours).max()
  # A NaN is not ok either.
  ok = bool(difference <= TOLERANCE)
  print(
    f'| {case.title} | {outcome.parameters / 1e6:.2f} '
    f'| {"x".join(map(str, outcome.shape))} '
    f'| {theirs.std():.2f} | {outcome.rounding:.1e} | {difference:.1e} '
    f'| {"yes" if ok else "NO"} |',
    flush=True,
  )
  return ok


def main(argv: list[str]) -> int:
  """Prints the table; returns the exit code."""
  parser = argparse.ArgumentParser(prog='parity_full_size')
  parser.add_argument(
    '--models',
    default=','.join(CASES),
    help='comma-separated, of %(default)s',
  )
  names = parser.parse_args(argv).models.split(',')
  unknown = sorted(set(names) - set(CASES))
  if unknown:
    parser.error(f'unknown models {unknown}, known are {list(CASES)}')
  # Other devices may multiply float32 less exactly.
  jax.config.update('jax_platforms', 'cpu')
  transformers.utils.logging.disable_progress_bar()
  versions = (torch, transformers, jax, flax)
  print(', '.join(f'{m.__name__} {m.__version__}' for m in versions) + '\n')
  print('| model | Mparam | input | std | rounding | max abs difference | ok |')
  print('| --- | --- | --- | --- | --- | --- | --- |', flush=True)
  ok = True
  for name in names:
    ok = compare(CASES[name]) and ok
    jax.clear_caches()
    gc.collect()
  return 0 if ok else 1


if __name__ == '__main__':
  sys.exit(main(sys.argv[1:]))
