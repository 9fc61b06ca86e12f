"""Models for where this project is not: StableHLO and ONNX.

`write` makes a folder that names actions without zsar_jax and without Flax:

- `video.*` and `text.*`: both encoders, for any batch size. StableHLO runs with
  JAX alone, on CPU, GPU and TPU; ONNX runs with onnxruntime.
- `bank.npz`: the classes' prototypes, and what they were composited from.
- `export.json`: describes the files, the preprocessing and the calibration.
- `predict.py`: names the action in a video by these files.

The fusion stays behind: it ranks nothing that `predict` shows.
"""

from collections.abc import Iterable, Mapping, Sequence
import contextlib
import dataclasses
import io
import json
import logging
import os
import pathlib
import tempfile
from typing import Any
import warnings

import jax
from jax import export
import jax.numpy as jnp
import numpy as np

from zsar_jax.data import class_names
from zsar_jax.inference import (
  candidates,
  encoders,
  exported_predict,
  prototype_bank,
)

STABLEHLO, ONNX = FORMATS = ('stablehlo', 'onnx')
DESCRIPTION_FILE = 'export.json'
_FORMAT = 'zsar_jax exported model 1'
_BANK_FILE = 'bank.npz'
_PREDICT_FILE = 'predict.py'
_PLATFORMS = ('cpu', 'cuda', 'tpu')
# Largest difference of an embedding's values from those computed here.
_TOLERANCE = 1e-4
# What protobuf, and so a file of ONNX, can hold.
_MOST_BYTES = 2**31 - 1
_exact = jax.default_matmul_precision('highest')


def write(
  recognizer: encoders.Recognizer,
  bank: prototype_bank.PrototypeBank,
  names: Sequence[str],
  folder: str,
  kind: str,
) -> tuple[str, ...]:
  """Writes a model for elsewhere. The folder appears whole or not at all.

  Args:
    recognizer: the encoders.
    bank: made by them.
    names: classes to choose from, in any spelling; () takes the classes that
      were added to the bank, or its seen classes where there are none.
    folder: new.
    kind: one of `FORMATS`.

  Returns:
    The canonical names of the classes to choose from.

  Raises:
    FileExistsError: the folder is there already.
    ValueError: an unknown format, one whose package is not installed, an
      operation that it lacks, or results that differ from ours.
  """
  if kind not in FORMATS:
    raise ValueError(f'format {kind!r} is not one of {", ".join(FORMATS)}')
  if os.path.lexists(folder):
    raise FileExistsError(f'{folder} is there already: export writes a new one')
  if kind == ONNX:
    _require_onnx()
  chosen = _choose(recognizer, bank, names)
  files, sides = {}, {}
  for side, program in recognizer.programs.items():
    convert = {STABLEHLO: _to_stablehlo, ONNX: _to_onnx}[kind]
    try:
      own, sides[side] = convert(side, program)
    # What both converters raise for what they cannot convert.
    except (NotImplementedError, ValueError) as e:
      raise ValueError(
        f'the {side} encoder cannot become {kind}: {_one_line(e)}'
      ) from e
    files.update(own)
  files[_BANK_FILE] = _archive(_bank_arrays(bank, chosen))
  description = _describe(recognizer, bank, chosen, sides, kind)
  files[DESCRIPTION_FILE] = (json.dumps(description, indent=1) + '\n').encode()
  files[_PREDICT_FILE] = pathlib.Path(exported_predict.__file__).read_bytes()
  parent = os.path.dirname(os.path.abspath(folder))
  os.makedirs(parent, exist_ok=True)
  with tempfile.TemporaryDirectory(dir=parent) as scratch:
    unfinished = os.path.join(scratch, 'export')
    os.mkdir(unfinished)
    for name, content in files.items():
      pathlib.Path(unfinished, name).write_bytes(content)
    for side, program in recognizer.programs.items():
      _check(side, program, sides[side], unfinished)
    os.rename(unfinished, folder)
  return chosen.names


def _one_line(error: Exception) -> str:
  """The first paragraph of a message; JAX's have many."""
  return ' '.join(str(error).split('\n\n')[0].split())[:400]


def _choose(recognizer, bank, names: Sequence[str]) -> candidates.Candidates:
  """Composites the classes to choose from."""
  chosen = candidates.Candidates(recognizer, bank)
  if names:
    names = class_names.canonical_names(names, 'classes')
    chosen.clear()
  elif not chosen.names:
    names = bank.seen_classes
  if names:
    chosen.add(names, recognizer)
  return chosen


def _bank_arrays(bank, chosen: candidates.Candidates) -> dict[str, np.ndarray]:
  """What `export.json` calls the bank, all float32."""
  arrays = {
    'prototypes': chosen.prototypes,
    'class_embeddings': chosen.text,
    'transfer_weights': chosen.weights,
    'seen_prototypes': bank.seen_prototypes,
    'seen_class_embeddings': bank.class_embeddings,
  }
  return {name: np.asarray(x, np.float32) for name, x in arrays.items()}


def _archive(arrays: Mapping[str, np.ndarray]) -> bytes:
  """Arrays as the content of a .npz file, which nothing unpickles."""
  out = io.BytesIO()
  np.savez(out, **arrays)
  return out.getvalue()


def _describe(recognizer, bank, chosen, sides, kind: str) -> dict[str, Any]:
  """Returns the content of `export.json`."""
  views = recognizer.config.zeroshot
  texts = recognizer.texts
  return {
    'format': _FORMAT,
    'kind': kind,
    'jax': jax.__version__,
    'weights_hash': recognizer.weights_hash,
    'origin': recognizer.origin,
    'licence_of_the_videos': bank.licence,
    'preprocessing': {
      **dataclasses.asdict(recognizer.prep),
      'num_views': views.num_views,
      'num_crops': views.num_crops,
    },
    **sides,
    'texts': {
      'prompts': list(texts.templates),
      'vocabulary': texts.pieces,
      'descriptions': {
        name: list(texts.descriptions[name])
        for name in dict.fromkeys((*chosen.names, *bank.seen_classes))
        if name in texts.descriptions
      },
      'description_weight': texts.description_weight,
    },
    'bank': _BANK_FILE,
    'classes': list(chosen.names),
    'seen_classes': list(bank.seen_classes),
    'transfer': dict(bank.settings)
    or dataclasses.asdict(recognizer.transfer_settings),
    'calibration': bank.calibration,
  }


def _named(params: Any) -> dict[str, Any]:
  """Nested parameters by their path, 'video_encoder/block_0/...'."""
  return {
    jax.tree_util.keystr(path, simple=True, separator='/'): leaf
    for path, leaf in jax.tree_util.tree_leaves_with_path(params)
  }


def _side(inputs, width: int, **files: Any) -> dict[str, Any]:
  """Describes a side: its files, and what goes in and comes out."""
  return {
    **files,
    'inputs': [
      {'name': name, 'dtype': str(x.dtype), 'shape': ['b', *x.shape]}
      for name, x in inputs.items()
    ],
    'output': {'dtype': 'float32', 'shape': ['b', width]},
  }


def _to_stablehlo(side: str, program: encoders.Program):
  """Returns files by name, and their description."""
  structure = jax.tree.structure(program.params)
  params = _named(program.params)

  # A flat dict: who has JAX alone reads it with `numpy.load`.
  @_exact
  def run(kept, *inputs):
    leaves = [kept.get(name, x) for name, x in params.items()]
    return program.function(jax.tree.unflatten(structure, leaves), *inputs)

  one = [
    jax.ShapeDtypeStruct((1, *x.shape), x.dtype)
    for x in program.inputs.values()
  ]
  # Nobody reads the parameters of the other side and of the fusion.
  jaxpr = jax.make_jaxpr(run)(params, *one).jaxpr
  read = {id(x) for equation in jaxpr.eqns for x in equation.invars}
  kept = {
    name: np.asarray(params[name])
    # JAX flattens a dict by its sorted keys.
    for name, x in zip(sorted(params), jaxpr.invars, strict=False)
    if id(x) in read
  }
  (batch,) = export.symbolic_shape('b')
  shapes = [
    jax.ShapeDtypeStruct((batch, *x.shape), x.dtype)
    for x in program.inputs.values()
  ]
  made = export.export(jax.jit(run), platforms=_PLATFORMS)(kept, *shapes)
  files = {
    f'{side}.stablehlo': bytes(made.serialize()),
    f'{side}.npz': _archive(kept),
  }
  width = made.out_avals[0].shape[-1]
  return files, _side(
    program.inputs,
    width,
    program=f'{side}.stablehlo',
    parameters=f'{side}.npz',
    platforms=list(made.platforms),
  )


@contextlib.contextmanager
def _quietly():
  """Leaves out what jax2onnx logs; what it cannot convert it raises."""
  before = logging.root.manager.disable
  logging.disable(logging.CRITICAL)
  try:
    with warnings.catch_warnings():
      warnings.simplefilter('ignore')
      yield
  finally:
    logging.disable(before)


def _require_onnx() -> None:
  """Raises ValueError where ONNX cannot be written or checked."""
  try:
    with _quietly():
      import jax2onnx  # noqa: F401
      import onnxruntime  # noqa: F401
  except ImportError as e:
    raise ValueError(
      f'--format={ONNX} needs {e.name}: install zsar_jax[onnx], or use '
      f'--format={STABLEHLO}'
    ) from e


def _to_onnx(side: str, program: encoders.Program):
  """Returns files by name, and their description."""
  with _quietly():
    import jax2onnx

  params = jax.tree.map(jnp.asarray, program.params)
  shapes = [
    jax.ShapeDtypeStruct(('b', *x.shape), x.dtype)
    for x in program.inputs.values()
  ]
  try:
    with _quietly():
      made = jax2onnx.to_onnx(
        lambda *inputs: program.function(params, *inputs),
        shapes,
        model_name=f'zsar_jax {side}',
        input_names=list(program.inputs),
        output_names=['embedding'],
      )
  # Its plugins raise errors of every kind for what they cannot convert.
  except Exception as e:
    raise NotImplementedError(_one_line(e)) from e
  if made.ByteSize() > _MOST_BYTES:
    raise ValueError(f'{made.ByteSize()} bytes are more than a file can hold')
  width = made.graph.output[0].type.tensor_type.shape.dim[-1].dim_value
  return {f'{side}.onnx': made.SerializeToString()}, _side(
    program.inputs,
    width,
    program=f'{side}.onnx',
    opset=made.opset_import[0].version,
  )


def _samples(program: encoders.Program) -> Iterable[list[np.ndarray]]:
  """Random inputs of two batch sizes; of a mask the first half is True."""
  rng = np.random.default_rng(0)
  for batch in (1, 3):
    inputs = []
    for x in program.inputs.values():
      shape = (batch, *x.shape)
      if x.dtype == bool:
        first = np.arange(x.shape[-1]) < max(1, x.shape[-1] // 2)
        inputs.append(np.broadcast_to(first, shape).copy())
      else:
        # As ids these are few; every vocabulary has as many.
        most = 256 if x.dtype == np.uint8 else 8
        inputs.append(rng.integers(0, most, shape).astype(x.dtype))
    yield inputs


def _check(side: str, program: encoders.Program, description, folder) -> None:
  """Raises ValueError if the exported side computes something else."""
  theirs = exported_predict.load_encoder(description, folder)
  ours = jax.jit(_exact(program.function))
  for inputs in _samples(program):
    expected = np.asarray(ours(program.params, *inputs))
    try:
      found = theirs(*inputs)
    # A runtime has its own kinds of errors, for operations that do not run.
    except Exception as e:
      raise ValueError(
        f'the exported {side} encoder does not run: {_one_line(e)}'
      ) from e
    worst = np.abs(found - expected).max()
    # Not `>`, which a NaN would pass.
    if not worst <= _TOLERANCE:
      raise ValueError(
        f'the exported {side} encoder computes something else: embeddings of '
        f'random inputs differ by {worst:g}'
      )
