"""Compares prediction speed with PyTorch: videos/s, from files to rankings.

```
python -m benchmarks.inference [--batches=1,8,32] [--videos=32] [--rounds=2] \
  [--dtypes=float32,bfloat16]
```

The models are a VideoMAE-B and a CLIP-B/16 with random weights, made by
transformers, and this project's shipped model, which has no peer. Both sides
read the same files (10 s, 340x256, H.264), decode the same frames, preprocess
and encode them, and rank the same 400 classes or names.

The peer follows transformers' documentation: PyAV decodes the file, the model's
own processor makes tensors of the frames, PyTorch computes, with the same
number of threads, or on the GPU where there is one. Ours is
`ActionModel.predict_many`. The sides take turns.

Predicted before the first run, for two cores with AVX-512: VideoMAE at 0.8 to
0.9 of the peer's speed, because matrix products are most of the work and XLA's
are slower; CLIP at 1.0; both better at batch 8 than at 1, where nothing
overlaps.

Predicted for bfloat16 on two cores with AMX, both sides in it: ours at 1.5
times its own float32 with VideoMAE, 1.2 times with CLIP, where decoding is more
of the work; 0.8 and 0.95 of the peer.
"""

import argparse
from collections.abc import Callable, Sequence
import json
import os
import shutil
import statistics
import string
import tempfile
import time

import numpy as np

from benchmarks import arguments, moving_texture, train_step
from zsar_jax.models import defaults

# Ti is small, to try out the script.
_SIZES = {'Ti': (192, 2, 3), 'B': (768, 12, 12)}
_CLASSES = [f'action number {i}' for i in range(400)]
_PIECES = string.ascii_lowercase + string.digits
# Files with videos of their own; the others are copies.
_DISTINCT = 8
_FRAMES = {'videomae': 16, 'clip': 8}
_MODELS = ('stick_figures', *reversed(_FRAMES))
_OWN = defaults.DTYPES[0]


def write_videomae(folder: str, size: str) -> None:
  """Writes a VideoMAE classifier with random weights, and its processor."""
  import transformers

  width, depth, heads = _SIZES[size]
  config = transformers.VideoMAEConfig(
    hidden_size=width,
    num_hidden_layers=depth,
    num_attention_heads=heads,
    intermediate_size=4 * width,
    num_frames=_FRAMES['videomae'],
    id2label=dict(enumerate(_CLASSES)),
    label2id={name: i for i, name in enumerate(_CLASSES)},
  )
  model = transformers.VideoMAEForVideoClassification(config)
  model.save_pretrained(folder)
  transformers.VideoMAEImageProcessor().save_pretrained(folder)


def write_clip(folder: str, size: str) -> None:
  """Writes a CLIP with random weights, and a byte tokenizer."""
  import tokenizers
  import transformers

  width, depth, heads = _SIZES[size]
  letters = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
  pieces = [*letters, *(f'{x}</w>' for x in letters)]
  pieces += ['<|startoftext|>', '<|endoftext|>']
  os.makedirs(folder, exist_ok=True)
  with open(os.path.join(folder, 'vocab.json'), 'w') as f:
    json.dump({piece: i for i, piece in enumerate(pieces)}, f)
  with open(os.path.join(folder, 'merges.txt'), 'w') as f:
    f.write('#version: 0.2\n')
  text = dict(
    vocab_size=len(pieces),
    eos_token_id=len(pieces) - 1,
    bos_token_id=len(pieces) - 2,
    hidden_size=512 if size == 'B' else 64,
    intermediate_size=2048 if size == 'B' else 128,
    num_hidden_layers=depth,
    num_attention_heads=8,
  )
  vision = dict(
    hidden_size=width,
    intermediate_size=4 * width,
    num_hidden_layers=depth,
    num_attention_heads=heads,
    patch_size=16,
    image_size=224,
  )
  config = transformers.CLIPConfig(
    text_config=text, vision_config=vision, projection_dim=512
  )
  transformers.CLIPModel(config).save_pretrained(folder)
  transformers.CLIPImageProcessor().save_pretrained(folder)


def write_text(folder: str) -> None:
  """Writes a small BERT with random weights, for the banks of classifiers."""
  import transformers

  os.makedirs(folder)
  pieces = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', *_PIECES]
  with open(os.path.join(folder, 'vocab.txt'), 'w') as f:
    f.write('\n'.join([*pieces, *(f'##{x}' for x in _PIECES)]))
  config = transformers.BertConfig(
    vocab_size=len(pieces) + len(_PIECES),
    hidden_size=128,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=512,
  )
  transformers.BertModel(config).save_pretrained(folder)
  with open(os.path.join(folder, 'tokenizer_config.json'), 'w') as f:
    json.dump({'do_lower_case': True, 'tokenizer_class': 'BertTokenizer'}, f)


def frames_of(path: str, prep) -> list[np.ndarray]:
  """Decodes a file with PyAV; returns the same frames as our side."""
  import av

  from zsar_jax.data import clips, decode

  info = decode.check_video(path, path)
  wanted = clips.sample_indices(
    info.timestamps, info.duration, prep.clip_sampling, view=0, num_views=1
  )
  found = {}
  with av.open(path) as container:
    container.streams.video[0].thread_type = 'AUTO'
    for i, frame in enumerate(container.decode(video=0)):
      if i in wanted:
        found[i] = frame.to_ndarray(format='rgb24')
      if i >= max(wanted):
        break
  return [found[i] for i in wanted]


def peer(
  kind: str, folder: str, prep, dtype: str
) -> Callable[[Sequence[str]], object]:
  """Returns the peer: a function from files to the best class of each."""
  import torch
  import transformers

  device = 'cuda' if torch.cuda.is_available() else 'cpu'
  place = lambda x: x.to(device, getattr(torch, dtype))
  cast = lambda inputs: place(inputs['pixel_values'])
  if kind == 'videomae':
    processor = transformers.VideoMAEImageProcessor.from_pretrained(folder)
    load = transformers.VideoMAEForVideoClassification.from_pretrained
    model = place(load(folder, attn_implementation='sdpa').eval())

    def answer(paths):
      videos = [frames_of(path, prep) for path in paths]
      inputs = cast(processor(videos, return_tensors='pt'))
      with torch.inference_mode():
        return model(inputs).logits.argmax(-1).tolist()

    return answer
  processor = transformers.CLIPImageProcessor.from_pretrained(folder)
  load = transformers.CLIPModel.from_pretrained
  model = place(load(folder, attn_implementation='sdpa').eval())
  # Both sides embed the names once.
  names = place(torch.nn.functional.normalize(torch.randn(400, 512), dim=-1))

  def answer(paths):
    images = [frame for path in paths for frame in frames_of(path, prep)]
    inputs = cast(processor(images, return_tensors='pt'))
    with torch.inference_mode():
      found = model.get_image_features(inputs)
      # Newer versions return the tower's outputs.
      found = getattr(found, 'pooler_output', found)
      found = torch.nn.functional.normalize(found, dim=-1)
      found = found.reshape(len(paths), -1, found.shape[-1]).mean(1)
      return (found @ names.T).argmax(-1).tolist()

  return answer


def ours(kind: str, folder: str, text: str, work: str, dtype: str):
  """Returns a model of the Python API that ranks 400 classes."""
  import zsar_jax
  from zsar_jax import bank
  from zsar_jax.inference import action_model

  if kind == 'stick_figures':
    return zsar_jax.load(kind).add_classes(['waving', 'walking', 'jumping'])
  if kind == 'clip':
    return action_model.load_pretrained(folder, dtype).add_classes(_CLASSES)
  built = os.path.join(work, f'{kind}_bank_{dtype}')
  command = ['bank', 'build', f'--video={folder}', f'--text={text}']
  bank.main([*command, f'--dtype={dtype}', f'--output={built}'])
  # The same classes as the classifier.
  return zsar_jax.load(built).add_classes(_CLASSES)


def rate(answer: Callable, paths: Sequence[str], batch: int) -> float:
  """Returns videos per second, with all files in batches of `batch`."""
  began = time.perf_counter()
  for first in range(0, len(paths), batch):
    answer(paths[first : first + batch])
  return len(paths) / (time.perf_counter() - began)


def compare(
  model, other: Callable | None, paths: Sequence[str], batch: int, rounds: int
) -> tuple[list[float], list[float]]:
  """Returns videos per second of both sides, in turns."""
  # Our side gets all files at once, and decodes the next ones meanwhile.
  whole = lambda files: list(model.predict_many(files, batch_size=batch))
  sides = {'ours': (whole, len(paths))}
  if other:
    sides['theirs'] = (other, batch)
  found = {'ours': [], 'theirs': []}
  for number in range(rounds + 1):
    for side in sides if number % 2 else reversed(sides):
      answer, size = sides[side]
      value = rate(answer, paths, size)
      if number:  # The first compiles.
        found[side].append(value)
  return found['ours'], found['theirs']


def row(
  name: str, batch: int, ours: Sequence[float], theirs: Sequence[float]
) -> str:
  """Returns the line of a table; `theirs` may be empty."""
  line = f'{name} batch {batch:3}  {statistics.median(ours):7.2f} videos/s'
  if theirs:
    seconds = [[1 / x for x in side] for side in (ours, theirs)]
    ratio, low, high = train_step.ratio_interval(*seconds)
    line += f'  PyTorch {statistics.median(theirs):7.2f}'
    line += f'  speed of ours to it {ratio:.2f} ({low:.2f} - {high:.2f})'
  return line


def videos(folder: str, count: int) -> Sequence[str]:
  """Writes videos to predict on; returns their paths."""
  paths = [os.path.join(folder, f'{i:03}.mp4') for i in range(count)]
  for i, path in enumerate(paths):
    if i < _DISTINCT:
      moving_texture.write_clip(path, i)
    else:
      shutil.copy(paths[i % _DISTINCT], path)
  return paths


def parse(argv: list[str] | None = None) -> argparse.Namespace:
  """Parses the command line."""
  numbers = lambda text: [arguments.positive(x) for x in text.split(',')]
  parser = argparse.ArgumentParser()
  parser.add_argument('--text', help='folder of BERT weights; random without')
  parser.add_argument('--models', type=_models, default=[*_MODELS])
  parser.add_argument('--dtypes', type=_dtypes, default=['float32'])
  parser.add_argument('--size', choices=_SIZES, default='B')
  parser.add_argument('--batches', type=numbers, default=[1, 8, 32])
  parser.add_argument('--videos', type=arguments.positive, default=32)
  parser.add_argument('--rounds', type=arguments.positive, default=2)
  parser.add_argument(
    '--threads', type=arguments.positive, default=os.cpu_count()
  )
  args = parser.parse_args(argv)
  if args.text and not os.path.isdir(args.text):
    parser.error(f'--text={args.text} is no folder')
  return args


def _models(text: str) -> list[str]:
  return _among(text, _MODELS)


def _dtypes(text: str) -> list[str]:
  return _among(text, defaults.DTYPES)


def _among(text: str, known: Sequence[str]) -> list[str]:
  given = text.split(',')
  unknown = [x for x in given if x not in known]
  if unknown:
    raise argparse.ArgumentTypeError(f'{unknown} are not among {known}')
  return given


def main(argv: list[str] | None = None) -> None:
  """Prints a line for each model, number format and batch size."""
  args = parse(argv)
  import torch

  torch.set_num_threads(args.threads)
  writers = {'videomae': write_videomae, 'clip': write_clip}
  with tempfile.TemporaryDirectory() as work:
    os.makedirs(os.path.join(work, 'videos'))
    files = videos(os.path.join(work, 'videos'), args.videos)
    text = args.text or os.path.join(work, 'text')
    if not args.text:
      write_text(text)
    for kind in args.models:
      folder = os.path.join(work, kind)
      if kind in writers:
        writers[kind](folder, args.size)
      # The shipped model keeps the dtype of its training.
      for dtype in args.dtypes if kind in writers else [_OWN]:
        model = ours(kind, folder, text, work, dtype)
        other = None
        if kind in writers:
          other = peer(kind, folder, model.recognizer.prep, dtype)
        for batch in args.batches:
          rates = compare(model, other, files, batch, args.rounds)
          print(row(f'{kind:14}{dtype:9}', batch, *rates), flush=True)


if __name__ == '__main__':
  main()
