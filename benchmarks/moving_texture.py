"""Makes videos that are about as hard to decode as filmed ones."""

import av
import cv2
import numpy as np


def write_clip(path: str, seed: int, gop: int = 250) -> None:
  """Writes 10 seconds of a moving texture, 340x256, 25 frames/s, H.264."""
  rng = np.random.default_rng(seed)
  # Coarse and fine detail gives JPEGs of about 30 kB. Filmed videos of this
  # size have 17 to 35 kB.
  coarse = rng.integers(0, 220, (40, 50, 3), np.uint8)
  texture = cv2.resize(coarse, (800, 640), interpolation=cv2.INTER_CUBIC)
  texture = texture + rng.integers(0, 16, (640, 800, 1))
  texture = np.clip(texture, 0, 255).astype(np.uint8)
  with av.open(path, 'w') as container:
    stream = container.add_stream('libx264', rate=25)
    stream.width, stream.height, stream.pix_fmt = 340, 256, 'yuv420p'
    stream.codec_context.gop_size = gop
    stream.codec_context.options = {'preset': 'veryfast', 'crf': '23'}
    for i in range(250):
      top = int(150 + 140 * np.sin(i / 30 + seed))
      left = int(200 + 190 * np.cos(i / 40))
      frame = texture[top : top + 256, left : left + 340]
      frame = av.VideoFrame.from_ndarray(
        np.ascontiguousarray(frame), format='rgb24'
      )
      container.mux(stream.encode(frame))
    container.mux(stream.encode())
