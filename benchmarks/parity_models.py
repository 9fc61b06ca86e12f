"""The models that `parity_full_size` compares, and how each is run.

A case takes an empty folder, builds a model by transformers, saves it there,
loads it by `zsar_jax.pretrained` and runs both.
"""

from collections.abc import Callable
import dataclasses
import os
from typing import Any

import jax
import numpy as np
import torch
import transformers

from benchmarks import model_table
from zsar_jax.models import clip as clip_model
from zsar_jax.models import pe_video as pe_video_model
from zsar_jax.models import resnet as resnet_model
from zsar_jax.models import siglip as siglip_model
from zsar_jax.models import text_encoder, video_encoder
from zsar_jax.models import videoprism as videoprism_model
from zsar_jax.models import vjepa2 as vjepa2_model
from zsar_jax.pretrained import (
  bert,
  clip,
  directory,
  pe_video,
  resnet,
  siglip,
  video,
  videoprism,
  vjepa2,
)

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


class _Embeds(torch.nn.Module):
  """A model whose last hidden state is what a function makes of inputs."""

  def __init__(
    self,
    model: torch.nn.Module,
    embed: Callable[..., torch.Tensor],
  ):
    super().__init__()
    self.model, self.embed = model, embed

  def forward(self, *args: torch.Tensor, **kwargs: torch.Tensor):
    """Calls the function with the inputs, such as clips [b t c h w]."""
    out = self.embed(self.model, *args, **kwargs)
    return transformers.modeling_outputs.BaseModelOutput(out)


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


def _run_dual(
  load: Callable[[Any], tuple[Any, Any]], peer: Any, part: str, path: str
) -> Outcome:
  """Both towers are saved and loaded, `part` ('text' or 'video') is run.

  `load` gives our model and its parameters.
  """
  _perturb(peer)
  _built(peer, path)
  if part == 'text':
    config = peer.config.text_config
    length = config.max_position_embeddings
    # SigLIP reads its padding, so it is given none.
    real = length if 'siglip' in config.model_type else length - 7
    ids, mask = _tokens(length, real, range(3, config.vocab_size - 2))
    inputs = (ids, mask)
    theirs, rounding = _run_torch(peer.text_model, **_torch_text(ids, mask))
  else:
    inputs = (_pixels(1, _PIXELS, _PIXELS),)
    pixels = torch.from_numpy(inputs[0][:, 0]).permute(0, 3, 1, 2)
    theirs, rounding = _run_torch(peer.vision_model, pixel_values=pixels)
  model, params = load(directory.read_weights(path))
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
    np.asarray(ours).reshape(theirs.shape),
  )


def _load_clip(weights: directory.Weights) -> tuple[Any, Any]:
  kwargs, params = clip.load_clip(weights)
  return clip_model.Clip(**kwargs), params


def _load_siglip(weights: directory.Weights) -> tuple[Any, Any]:
  kwargs, params = siglip.load_siglip(weights)
  return siglip_model.Siglip(**kwargs), params


def _load_videoprism(weights: directory.Weights) -> tuple[Any, Any]:
  kwargs, params = videoprism.load_videoprism(weights)
  return videoprism_model.VideoPrism(**kwargs), params


def _run_clips(
  load: Callable[[Any], tuple[Any, Any]], peer: Any, path: str
) -> Outcome:
  """Runs the video side of a dual encoder of whole clips."""
  _perturb(peer)
  _built(peer, path)
  vision = peer.config.vision_config
  frames = _pixels(vision.num_frames, *[vision.image_size] * 2)
  pixels = torch.from_numpy(frames).permute(0, 1, 4, 2, 3)
  embed = lambda peer, pixel_values: (
    peer.get_video_features(pixel_values).pooler_output
  )
  theirs, rounding = _run_torch(_Embeds(peer, embed), pixel_values=pixels)
  model, params = load(directory.read_weights(path))
  encode = lambda params, x: model.apply(
    {'params': params}, x, method='encode_video'
  )
  # Ours are unit vectors.
  length = np.linalg.norm(theirs, axis=-1, keepdims=True)
  ours = length * jax.jit(encode)(params, frames)['embedding']
  sides = {k: x for k, x in params.items() if not k.startswith('text')}
  return Outcome(
    model_table.count_parameters(sides),
    frames.shape[1:],
    theirs,
    rounding,
    ours,
  )


def _run_xclip(path: str) -> Outcome:
  peer = transformers.XCLIPModel(transformers.XCLIPConfig())
  with torch.no_grad():
    # transformers leaves it as memory had it.
    peer.mit.position_embedding.zero_()
  return _run_clips(_load_clip, peer, path)


def _run_videoprism(path: str) -> Outcome:
  config = transformers.VideoPrismConfig()
  config._attn_implementation = 'eager'
  peer = transformers.VideoPrismClipModel(config)
  return _run_clips(_load_videoprism, peer, path)


def _run_pe_video(part: str, path: str) -> Outcome:
  """Both sides are saved and loaded, `part` ('text' or 'video') is run."""
  # The image tower is timm's; its head has PE-Core L's 1024 dimensions.
  vision = {'model_type': 'timm_wrapper', 'num_labels': 1024}
  vision['architecture'] = 'vit_pe_core_large_patch14_336'
  peer = transformers.PeVideoModel(
    transformers.PeVideoConfig(video_config={'vision_config': vision})
  )
  _perturb(peer)
  _built(peer, path)
  weights = directory.read_weights(path)
  if part == 'text':
    # Longer than the blocks that attend nearby reach.
    size = peer.config.text_config.vocab_size
    given = _tokens(256, 250, range(3, size))
    inputs, sides = _torch_text(*given), ('text_encoder', 'text_head')
    embed = lambda peer, input_ids, attention_mask: peer.text_video_head(
      peer.text_model(input_ids, attention_mask)[0][:, 0]
    )
  else:
    given = (_pixels(8, 336, 336),)
    pixels = torch.from_numpy(given[0]).permute(0, 1, 4, 2, 3).contiguous()
    inputs = {'pixel_values_videos': pixels}
    sides = ('frame_encoder', 'video_encoder', 'video_head')
    embed = lambda peer, pixel_values_videos: peer.video_head(
      peer.video_encoder(pixel_values_videos).pooler_output
    )
  theirs, rounding = _run_torch(_Embeds(peer, embed), **inputs)
  del peer
  kwargs, params = pe_video.load_pe_video(weights)
  encode = lambda params, *args: pe_video_model.PeVideo(**kwargs).apply(
    {'params': params}, *args, method=f'encode_{part}'
  )
  return Outcome(
    model_table.count_parameters({side: params[side] for side in sides}),
    given[0].shape[1:],
    theirs,
    rounding,
    jax.jit(encode)(params, *given)['vector'],
  )


def _run_vjepa2(path: str) -> Outcome:
  config = transformers.VJEPA2Config(frames_per_clip=16)
  peer = transformers.VJEPA2ForVideoClassification(config)
  _perturb(peer)
  _built(peer, path)
  frames = _pixels(config.frames_per_clip, *[config.crop_size] * 2)
  pixels = torch.from_numpy(frames).permute(0, 1, 4, 2, 3)
  theirs, rounding = _run_torch(
    _Embeds(
      peer,
      lambda peer, pixel_values: peer.pooler(
        peer.vjepa2(pixel_values, skip_predictor=True).last_hidden_state
      ),
    ),
    pixel_values=pixels,
  )
  kwargs, params = vjepa2.load_vjepa2(directory.read_weights(path))
  apply = jax.jit(vjepa2_model.VJepa2(**kwargs).apply)
  return Outcome(
    model_table.count_parameters(params),
    frames.shape[1:],
    theirs,
    rounding,
    apply({'params': params}, frames)['pooled'],
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


def _dual_cases(
  key: str, title: str, name: str, load: Callable[[Any], tuple[Any, Any]]
) -> dict[str, Case]:
  """Both sides of `transformers`' model of that name, at its default size."""

  def run(part, path):
    config = getattr(transformers, f'{name}Config')()
    peer = getattr(transformers, f'{name}Model')(config)
    return _run_dual(load, peer, part, path)

  return {
    f'{key}_text': Case(f'{title}, text', lambda path: run('text', path)),
    f'{key}_vision': Case(f'{title}, vision', lambda path: run('video', path)),
  }


CASES = {
  'bert': Case('BERT-base', _run_bert),
  'vit': _video_case('ViT-B/16', 'ViTModel'),
  'videomae': _video_case('VideoMAE-B/16x2', 'VideoMAEModel'),
  'vivit': _video_case('ViViT-B/16x2', 'VivitModel'),
  'timesformer': _video_case('TimeSformer-B/16', 'TimesformerModel'),
  'videoprism': Case('VideoPrism-LvT B, clips', _run_videoprism),
  'vjepa2': Case('V-JEPA 2 L/16x2 with pooler', _run_vjepa2),
  **_dual_cases('clip', 'CLIP ViT-B/32', 'CLIP', _load_clip),
  **_dual_cases('metaclip2', 'MetaCLIP 2 B/32', 'MetaClip2', _load_clip),
  **_dual_cases('siglip', 'SigLIP B/16', 'Siglip', _load_siglip),
  'xclip': Case('X-CLIP B/32, clips', _run_xclip),
  'pe_video_text': Case(
    'PE-Video L, text', lambda path: _run_pe_video('text', path)
  ),
  'pe_video': Case(
    'PE-Video L/14, clips', lambda path: _run_pe_video('video', path)
  ),
  'resnet18': Case('ResNet-18', lambda path: _run_resnet(18, path)),
  'resnet50': Case('ResNet-50', lambda path: _run_resnet(50, path)),
  'resnet101': Case('ResNet-101', lambda path: _run_resnet(101, path)),
}
