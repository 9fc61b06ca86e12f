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

from benchmarks import model_table, parity_tools
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

_BERT_LENGTH = 512


def _run_bert(path: str) -> parity_tools.Outcome:
  config = transformers.BertConfig()
  peer = transformers.BertModel(config)
  parity_tools.perturb(peer)
  parity_tools.built(peer, path)
  with open(os.path.join(path, bert.VOCABULARY_FILE), 'w') as f:
    special = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]']
    words = (f'word{i}' for i in range(config.vocab_size - len(special)))
    f.writelines(f'{piece}\n' for piece in (*special, *words))
  ids, mask = parity_tools.tokens(
    _BERT_LENGTH, _BERT_LENGTH - 12, range(5, config.vocab_size)
  )
  theirs, rounding = parity_tools.run_torch(
    peer, **parity_tools.torch_text(ids, mask)
  )
  kwargs, params, _ = bert.load_text_encoder(
    directory.read_weights(path), _BERT_LENGTH
  )
  encoder = text_encoder.TextEncoder(**kwargs)
  ours = jax.jit(encoder.apply)({'params': params}, ids, mask)['tokens']
  return parity_tools.Outcome(
    model_table.count_parameters(params), ids.shape[1:], theirs, rounding, ours
  )


def _in_our_order(tokens: np.ndarray, frames: int) -> np.ndarray:
  """TimeSformer's tokens [b 1+(h w t) d] as [b 1+(t h w) d]."""
  b, n, d = tokens.shape
  grid = tokens[:, 1:].reshape(b, (n - 1) // frames, frames, d).swapaxes(1, 2)
  return np.concatenate([tokens[:, :1], grid.reshape(b, n - 1, d)], axis=1)


def _run_video(model_class: type, path: str) -> parity_tools.Outcome:
  peer = model_class(model_class.config_class())
  parity_tools.perturb(peer)
  parity_tools.built(peer, path)
  weights = directory.read_weights(path)
  frames = parity_tools.pixels(*video.native_clip(weights))
  pixels = torch.from_numpy(frames).permute(0, 1, 4, 2, 3)
  if peer.config.model_type == 'vit':
    pixels = pixels[:, 0]
  theirs, rounding = parity_tools.run_torch(peer, pixel_values=pixels)
  if peer.config.model_type == 'timesformer':
    theirs = _in_our_order(theirs, frames.shape[1])
  kwargs, params = video.load_video_encoder(weights)
  encoder = video_encoder.VideoEncoder(**kwargs)
  ours = jax.jit(encoder.apply)({'params': params}, frames)['tokens']
  return parity_tools.Outcome(
    model_table.count_parameters(params),
    frames.shape[1:],
    theirs,
    rounding,
    ours,
  )


def _run_dual(
  load: Callable[[Any], tuple[Any, Any]], peer: Any, part: str, path: str
) -> parity_tools.Outcome:
  """Both towers are saved and loaded, `part` ('text' or 'video') is run.

  `load` gives our model and its parameters.
  """
  parity_tools.perturb(peer)
  parity_tools.built(peer, path)
  if part == 'text':
    config = peer.config.text_config
    length = config.max_position_embeddings
    # SigLIP reads its padding, so it is given none.
    real = length if 'siglip' in config.model_type else length - 7
    ids, mask = parity_tools.tokens(
      length, real, range(3, config.vocab_size - 2)
    )
    inputs = (ids, mask)
    theirs, rounding = parity_tools.run_torch(
      peer.text_model, **parity_tools.torch_text(ids, mask)
    )
  else:
    inputs = (parity_tools.pixels(1, parity_tools.PIXELS, parity_tools.PIXELS),)
    pixels = torch.from_numpy(inputs[0][:, 0]).permute(0, 3, 1, 2)
    theirs, rounding = parity_tools.run_torch(
      peer.vision_model, pixel_values=pixels
    )
  model, params = load(directory.read_weights(path))
  encode = jax.jit(
    lambda params, *inputs: model.apply(
      {'params': params}, *inputs, method=f'encode_{part}'
    )
  )
  ours = encode(params, *inputs)['tokens']
  return parity_tools.Outcome(
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
) -> parity_tools.Outcome:
  """Runs the video side of a dual encoder of whole clips."""
  parity_tools.perturb(peer)
  parity_tools.built(peer, path)
  vision = peer.config.vision_config
  frames = parity_tools.pixels(vision.num_frames, *[vision.image_size] * 2)
  pixels = torch.from_numpy(frames).permute(0, 1, 4, 2, 3)
  embed = lambda peer, pixel_values: (
    peer.get_video_features(pixel_values).pooler_output
  )
  theirs, rounding = parity_tools.run_torch(
    parity_tools.Embeds(peer, embed), pixel_values=pixels
  )
  model, params = load(directory.read_weights(path))
  encode = lambda params, x: model.apply(
    {'params': params}, x, method='encode_video'
  )
  # Ours are unit vectors.
  length = np.linalg.norm(theirs, axis=-1, keepdims=True)
  ours = length * jax.jit(encode)(params, frames)['embedding']
  sides = {k: x for k, x in params.items() if not k.startswith('text')}
  return parity_tools.Outcome(
    model_table.count_parameters(sides),
    frames.shape[1:],
    theirs,
    rounding,
    ours,
  )


def _run_xclip(path: str) -> parity_tools.Outcome:
  peer = transformers.XCLIPModel(transformers.XCLIPConfig())
  with torch.no_grad():
    # transformers leaves it as memory had it.
    peer.mit.position_embedding.zero_()
  return _run_clips(_load_clip, peer, path)


def _run_videoprism(path: str) -> parity_tools.Outcome:
  config = transformers.VideoPrismConfig()
  config._attn_implementation = 'eager'
  peer = transformers.VideoPrismClipModel(config)
  return _run_clips(_load_videoprism, peer, path)


def _run_pe_video(part: str, path: str) -> parity_tools.Outcome:
  """Both sides are saved and loaded, `part` ('text' or 'video') is run.

  The other side has one layer, because both at full size take 14 GiB.
  """
  # The image tower is timm's; its head has PE-Core L's 1024 dimensions.
  vision = {'model_type': 'timm_wrapper', 'num_labels': 1024}
  vision['architecture'] = 'vit_pe_core_large_patch14_336'
  video, text = {'vision_config': vision}, {'model_type': 'modernbert'}
  if part == 'text':
    vision['model_args'] = {'depth': 1}
    video['num_hidden_layers'] = 1
    # Longer than the blocks that attend nearby reach.
    given = parity_tools.tokens(256, 250, range(3, 50280))
    inputs = parity_tools.torch_text(*given)
    sides = ('text_encoder', 'text_projection')
    embed = lambda peer, input_ids, attention_mask: peer.text_video_head(
      peer.text_model(input_ids, attention_mask)[0][:, 0]
    )
  else:
    text['num_hidden_layers'] = 1
    given = (parity_tools.pixels(4, 336, 336),)
    pixels = torch.from_numpy(given[0]).permute(0, 1, 4, 2, 3).contiguous()
    inputs = {'pixel_values_videos': pixels}
    sides = ('video_encoder', 'video_projection')
    embed = lambda peer, pixel_values_videos: peer.video_head(
      peer.video_encoder(pixel_values_videos).pooler_output
    )
  peer = transformers.PeVideoModel(
    transformers.PeVideoConfig(text_config=text, video_config=video)
  )
  parity_tools.perturb(peer)
  parity_tools.built(peer, path)
  theirs, rounding = parity_tools.run_torch(
    parity_tools.Embeds(peer, embed), **inputs
  )
  del peer
  kwargs, params = pe_video.load_pe_video(directory.read_weights(path))
  encode = lambda params, *args: pe_video_model.PeVideo(**kwargs).apply(
    {'params': params}, *args, method=f'encode_{part}'
  )
  return parity_tools.Outcome(
    model_table.count_parameters({side: params[side] for side in sides}),
    given[0].shape[1:],
    theirs,
    rounding,
    jax.jit(encode)(params, *given)['vector'],
  )


def _run_vjepa2(path: str) -> parity_tools.Outcome:
  config = transformers.VJEPA2Config(frames_per_clip=16)
  peer = transformers.VJEPA2ForVideoClassification(config)
  parity_tools.perturb(peer)
  parity_tools.built(peer, path)
  frames = parity_tools.pixels(config.frames_per_clip, *[config.crop_size] * 2)
  pixels = torch.from_numpy(frames).permute(0, 1, 4, 2, 3)
  theirs, rounding = parity_tools.run_torch(
    parity_tools.Embeds(
      peer,
      lambda peer, pixel_values: peer.pooler(
        peer.vjepa2(pixel_values, skip_predictor=True).last_hidden_state
      ),
    ),
    pixel_values=pixels,
  )
  kwargs, params = vjepa2.load_vjepa2(directory.read_weights(path))
  apply = jax.jit(vjepa2_model.VJepa2(**kwargs).apply)
  return parity_tools.Outcome(
    model_table.count_parameters(params),
    frames.shape[1:],
    theirs,
    rounding,
    apply({'params': params}, frames)['pooled'],
  )


def _run_resnet(depth: int, path: str) -> parity_tools.Outcome:
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
  parity_tools.randomise_batch_norms(peer)
  parity_tools.built(peer, path)
  images = parity_tools.pixels(parity_tools.PIXELS, parity_tools.PIXELS)
  pixels = torch.from_numpy(images).permute(0, 3, 1, 2)
  theirs, rounding = parity_tools.run_torch(peer, pixel_values=pixels)
  params = resnet.load_resnet(directory.read_weights(path), layout)
  module = resnet_model.ResNet(layout, 'frozen')
  return parity_tools.Outcome(
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
  run: Callable[[str], parity_tools.Outcome]


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
