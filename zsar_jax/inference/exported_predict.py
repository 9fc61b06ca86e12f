"""Recognises the action in a video, with an exported model.

python predict.py VIDEO

It needs NumPy, PyAV, and JAX (for `--format=stablehlo`) or onnxruntime (for
`--format=onnx`). It does not need zsar_jax or Flax. `export.json` describes the
files beside it.
"""

import json
import pathlib
import sys

import av
import numpy as np

_FOLDER = pathlib.Path(__file__).parent


def load_encoder(side, folder=_FOLDER):
  """Returns a function: the `inputs` of a side in export.json -> embeddings."""
  program = pathlib.Path(folder) / side['program']
  if program.suffix == '.onnx':
    import onnxruntime

    session = onnxruntime.InferenceSession(
      program, providers=['CPUExecutionProvider']
    )
    names = [x['name'] for x in side['inputs']]
    run = lambda *x: session.run(None, dict(zip(names, x, strict=True)))
    return lambda *inputs: run(*inputs)[0]
  import jax
  from jax import export

  exported = export.deserialize(bytearray(program.read_bytes()))
  with np.load(program.with_name(side['parameters'])) as arrays:
    params = jax.device_put(dict(arrays))
  call = jax.jit(exported.call)
  return lambda *inputs: np.asarray(call(params, *inputs))


def sample(path, prep):
  """Chooses frames by their times; returns indices [views num_frames]."""
  with av.open(str(path)) as container:
    stream = container.streams.best('video')
    packets = [p for p in container.demux(stream) if p.size]
    packets = [p for p in packets if not p.is_discard]
    untimed = any(p.pts is None for p in packets)
    ticks = np.sort([p.dts if untimed else p.pts for p in packets])
    seconds = (ticks - ticks[0]) * float(stream.time_base)
    last = float((packets[0].duration or 0) * stream.time_base)
  if len(seconds) > 1:
    last = float(np.median(np.diff(seconds)))
  duration, views = seconds[-1] + last, prep['num_views']
  view, k = np.arange(views)[:, None], np.arange(prep['num_frames'])
  if prep['sampling'] == 'dense':
    step = prep['frame_stride'] / prep['sample_fps']
    room = max(duration - len(k) * step, 0)
    start = room * (view / (views - 1) if views > 1 else view + 0.5)
    instants = start + (k + 0.5) * step
  elif prep['sampling'] == 'ends':
    steps = k if len(k) > 1 else np.array([0.5])
    instants = steps + (view + 0.5) / views - 0.5
    instants = instants * seconds[-1] / max(len(k) - 1, 1)
  else:
    instants = (k + (view + 0.5) / views) * duration / len(k)
  # A frame is shown until the next one begins; 1e-6 s absorbs rounding.
  at = np.searchsorted(seconds, instants + 1e-6, 'right') - 1
  return np.clip(at, 0, len(seconds) - 1)


def _shrink(frame, height, width):
  """Averages the area of each new pixel, and rounds like OpenCV."""

  def shares(old, new):  # share of each old pixel in each new one, [new old]
    ends, at = np.arange(new + 1) * (old / new), np.arange(old)
    low, high = (
      np.maximum(ends[:-1, None], at),
      np.minimum(ends[1:, None], at + 1),
    )
    return (np.maximum(high - low, 0) * (new / old)).astype(np.float32)

  h, w = frame.shape[:2]
  rows = np.tensordot(shares(h, height), frame.astype(np.float32), 1)
  out = np.einsum('hwc,vw->hvc', rows, shares(w, width))
  # OpenCV rounds .5 up if it halves both sides, else to the even neighbour.
  halved = (h, w) == (2 * height, 2 * width)
  return (np.floor(out + 0.5) if halved else np.rint(out)).astype(np.uint8)


def _enlarge(frame, height, width):
  """Interpolates linearly with fixed-point weights of 1/2048, like OpenCV."""

  def taps(old, new):  # the two nearest pixels, and the weight of the second
    at = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
    first = at.astype(int)
    share = np.rint((at - first) * 2048).astype(int)
    return first, np.minimum(first + 1, old - 1), share[:, None]

  h, w = frame.shape[:2]
  a, b, share = taps(w, width)
  x = frame.astype(int)
  x = (x[:, a] * (2048 - share) + x[:, b] * share) >> 4
  a, b, share = taps(h, height)
  share = share[..., None]
  x = ((x[a] * (2048 - share)) >> 16) + ((x[b] * share) >> 16)
  return ((x + 2) >> 2).astype(np.uint8)


def _filter(frame, height, width, method):
  """Resizes with antialiasing and weights of 2**-22, like Pillow."""

  def weights(old, new):  # [new old]
    scale = old / new
    wide = max(scale, 1.0)
    middle = (np.arange(new)[:, None] + 0.5) * scale
    x = np.abs(np.arange(old) + 0.5 - middle) / wide
    if method == 'bilinear':
      w = np.maximum(1 - x, 0)
    else:  # Keys' cubic with a = -0.5
      near = (1.5 * x - 2.5) * x * x + 1
      far = -0.5 * (((x - 5) * x + 8) * x - 4)
      w = np.where(x < 1, near, np.where(x < 2, far, 0))
    return np.rint(w / w.sum(axis=1, keepdims=True) * 2**22)

  rounded = lambda x: np.clip(np.floor(x / 2**22 + 0.5), 0, 255)
  h, w = frame.shape[:2]
  x = rounded(np.einsum('hwc,vw->hvc', frame.astype(float), weights(w, width)))
  x = rounded(np.tensordot(weights(h, height), x, 1))
  return x.astype(np.uint8)


def resize(frame, height, width, method):
  """Resizes a frame, uint8 [h w 3]."""
  h, w = frame.shape[:2]
  if (h, w) == (height, width):
    return frame
  if method != 'area':
    return _filter(frame, height, width, method)
  shrinks = height <= h and width <= w
  return (_shrink if shrinks else _enlarge)(frame, height, width)


def crops(frame, prep):
  """Cuts squares along the longer side, uint8 [crops size size 3]."""
  size, method, n = prep['size'], prep['resize'], prep['num_crops']
  if prep['crop'] == 'whole':
    return np.stack([resize(frame, size, size, method)] * n)
  h, w = frame.shape[:2]
  short = prep['short_side']
  long = int(short * max(h, w) / min(h, w) + (method == 'area') * 0.5)
  h, w = (short, long) if h <= w else (long, short)
  frame = resize(frame, h, w, method)
  side = size if prep['crop'] == 'centre' else short
  found = []
  for where in np.linspace(0, 1, n) if n > 1 else [0.5]:
    down, right = (where, 0.5) if h > w else (0.5, where)
    top, left = int((h - side) * down), int((w - side) * right)
    square = frame[top : top + side, left : left + side]
    found.append(resize(square, size, size, method))
  return np.stack(found)


def read_clips(path, prep):
  """Reads the clips of a video, uint8 [views*crops num_frames size size 3]."""
  numbers = sample(path, prep)
  wanted, inverse = np.unique(numbers, return_inverse=True)
  kept = {}
  with av.open(str(path)) as container:
    stream = container.streams.best('video')
    for number, frame in enumerate(container.decode(stream)):
      if number in wanted:
        rgb = frame.reformat(format='rgb24', interpolation='POINT').to_ndarray()
        upright = np.rot90(rgb, round(frame.rotation / 90) % 4)
        kept[number] = crops(np.ascontiguousarray(upright), prep)
      if number >= wanted[-1]:
        break
  if len(kept) < len(wanted):
    raise ValueError(f'{path} is cut off or damaged: some frames do not decode')
  frames = np.stack([kept[i] for i in wanted])[inverse.reshape(numbers.shape)]
  clips = frames.swapaxes(1, 2)  # [views crops num_frames size size 3]
  return clips.reshape(-1, *clips.shape[2:])


def probabilities(scores, calibration):
  """Computes class probabilities [c]; the rest to 1 is "none of these"."""
  logs = np.log(calibration['candidates'])
  temperature, slope, intercept = (
    np.interp(np.log(len(scores)), logs, calibration[key])
    for key in ('temperatures', 'slopes', 'intercepts')
  )
  known = 1 / (1 + np.exp(-(slope * scores.max() + intercept)))
  shares = np.exp((scores - scores.max()) / temperature)
  return known * shares / shares.sum()


def main(path):
  """Prints the best ten classes."""
  export = json.loads((_FOLDER / 'export.json').read_text())
  encode = load_encoder(export['video'])
  embeddings = encode(read_clips(path, export['preprocessing']))
  with np.load(_FOLDER / export['bank']) as bank:
    scores = (embeddings @ bank['prototypes'].T).mean(axis=0)
  chances = None
  if export['calibration']:
    chances = probabilities(scores.astype(np.float64), export['calibration'])
  for i in np.argsort(-scores, kind='stable')[:10]:
    chance = '' if chances is None else f'  {chances[i]:6.1%}'
    print(f'{scores[i]:+.6f}{chance}  {export["classes"][i]}')
  if chances is not None:
    print(f'none of these: {1 - chances.sum():.1%}')


if __name__ == '__main__':
  if len(sys.argv) != 2:
    sys.exit(__doc__)
  try:
    main(sys.argv[1])
  except (av.FFmpegError, OSError, ValueError) as e:
    sys.exit(f'{sys.argv[1]} cannot be read: {e}')
