"""Tasks for tests of `isolated`, which behave like bad videos."""

import ctypes
import errno
import os
import sys
import time

import numpy as np

from zsar_jax.data import decode


def echo(**kwargs):
  print('this must not get into the answer')
  array = np.arange(6, dtype=np.int64).reshape(2, 3)
  return {'got': kwargs, 'pid': os.getpid()}, [b'abc', array, b'']


def read(path):
  with open(path) as f:
    return {'text': f.read()}, []


def modules():
  return {'modules': sorted(sys.modules)}, []


def sleep(seconds):
  time.sleep(seconds)
  return {}, []


def abort():
  os.abort()


def crash():
  ctypes.string_at(0)


def leave():
  os._exit(3)


def take(num_bytes):
  block = np.ones(num_bytes, np.uint8)
  return {'sum': int(block[-1])}, []


def refuse(name):
  raise decode.VideoError(name, 'is a test')


def fill_disk(path):
  raise OSError(errno.ENOSPC, 'No space left on device', path)


def babble(num_bytes):
  for fd in range(3, 20):
    try:
      os.write(fd, b'x' * num_bytes + b'\n')
    except OSError:
      continue
  return {}, []


def stumble():
  raise KeyError('a bug')
