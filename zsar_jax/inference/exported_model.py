"""Exports models as StableHLO, ONNX or ONNX in int8, for other programs.

`write` makes a folder that recognises actions without zsar_jax and Flax:

- `video.*` and `text.*`: both encoders, for any batch size. StableHLO needs
  only JAX, on CPU, GPU or TPU; ONNX needs onnxruntime.
- `bank.npz`: prototypes of the classes, and their transfer weights.
- `export.json`: describes the files, the preprocessing and the calibration.
- `predict.py`: a script that recognises the action in a video.

The fusion is not exported: it does not change the ranking of `predict`.
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
from zsar_jax.models import products
from zsar_jax.system import whole_folders

STABLEHLO, ONNX, ONNX_INT8 = FORMATS = ('stablehlo', 'onnx', 'onnx-int8')
DESCRIPTION_FILE = 'export.json'
_FORMAT = 'zsar_jax exported model 1'
_BANK_FILE = 'bank.npz'
_PREDICT_FILE = 'predict.py'
_PLATFORMS = ('cpu', 'cuda', 'tpu')
# Largest accepted difference between exported and original embeddings.
_TOLERANCE = 1e-4
# Smallest accepted cosine between int8 and original embeddings (our choice).
_INT8_COSINE = 0.99
# Largest file of protobuf, and so of ONNX.
_MOST_BYTES = 2**31 - 1
_exact = jax.default_matmul_precision('highest')


def write(
  recognizer: encoders.Recognizer,
  bank: prototype_bank.PrototypeBank,
  names: Sequence[str],
  folder: str,
  kind: str,
) -> tuple[str, ...]:
  """Exports a model. The folder appears whole or not at all.

  Args:
    recognizer: the encoders.
    bank: bank of these encoders.
    names: classes to choose from, in any spelling; () takes the added classes
      of the bank, or its seen classes if there are none.
    folder: folder to make.
    kind: one of `FORMATS`.

  Returns:
    The canonical names of the classes to choose from.

  Raises:
    FileExistsError: the folder exists.
    ValueError: the format is unknown, its package is not installed, it lacks
      an operation, or the exported model computes other embeddings.
  """
  if kind not in FORMATS:
    raise ValueError(f'format {kind!r} is not one of {", ".join(FORMATS)}')
  whole_folders.check_new(folder)
  if kind != STABLEHLO:
    _require_onnx(kind)
  chosen = _choose(recognizer, bank, names)
  files, sides = {}, {}
  for side, program in recognizer.programs.items():
    convert = _to_stablehlo if kind == STABLEHLO else _to_onnx
    try:
      with products.portable():
        own, sides[side] = convert(side, program)
      if kind == ONNX_INT8:
        own = {name: _quantised(content) for name, content in own.items()}
    # Both converters raise these for operations that they lack.
    except (NotImplementedError, ValueError) as e:
      raise ValueError(
        f'the {side} encoder cannot be exported as {kind}: {_one_line(e)}'
      ) from e
    files.update(own)
  files[_BANK_FILE] = _archive(_bank_arrays(bank, chosen))
  description = _describe(recognizer, bank, chosen, sides, kind)
  files[DESCRIPTION_FILE] = (json.dumps(description, indent=1) + '\n').encode()
  files[_PREDICT_FILE] = pathlib.Path(exported_predict.__file__).read_bytes()
  with whole_folders.making(folder) as unfinished:
    for name, content in files.items():
      pathlib.Path(unfinished, name).write_bytes(content)
    for side, program in recognizer.programs.items():
      _check(side, program, sides[side], unfinished, kind)
  return chosen.names


def _one_line(error: Exception) -> str:
  """Returns the first paragraph of a message in one line."""
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
  """Returns the arrays of bank.npz, float32."""
  arrays = {
    'prototypes': chosen.prototypes,
    'class_embeddings': chosen.text,
    'transfer_weights': chosen.weights,
    'seen_prototypes': bank.seen_prototypes,
    'seen_class_embeddings': bank.class_embeddings,
  }
  return {name: np.asarray(x, np.float32) for name, x in arrays.items()}


def _archive(arrays: Mapping[str, np.ndarray]) -> bytes:
  """Returns arrays as the bytes of a .npz file."""
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
  """Returns path (such as 'video_encoder/block_0/...') -> parameter."""
  return {
    jax.tree_util.keystr(path, simple=True, separator='/'): leaf
    for path, leaf in jax.tree_util.tree_leaves_with_path(params)
  }


def _side(inputs, width: int, **files: Any) -> dict[str, Any]:
  """Describes an encoder: its files, inputs and output."""
  return {
    **files,
    'inputs': [
      {'name': name, 'dtype': str(x.dtype), 'shape': ['b', *x.shape]}
      for name, x in inputs.items()
    ],
    'output': {'dtype': 'float32', 'shape': ['b', width]},
  }


def _to_stablehlo(side: str, program: encoders.Program):
  """Returns name -> content of the files, and their description."""
  structure = jax.tree.structure(program.params)
  params = _named(program.params)

  # Parameters are a flat dict, because numpy.load reads one.
  @_exact
  def run(kept, *inputs):
    leaves = [kept.get(name, x) for name, x in params.items()]
    return program.function(jax.tree.unflatten(structure, leaves), *inputs)

  one = [
    jax.ShapeDtypeStruct((1, *x.shape), x.dtype)
    for x in program.inputs.values()
  ]
  # Leave out parameters that this encoder does not use.
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
  """Context manager that silences the logs and warnings of jax2onnx."""
  before = logging.root.manager.disable
  logging.disable(logging.CRITICAL)
  try:
    with warnings.catch_warnings():
      warnings.simplefilter('ignore')
      yield
  finally:
    logging.disable(before)


def _require_onnx(kind: str) -> None:
  """Raises ValueError if a package for ONNX is missing."""
  try:
    with _quietly():
      import jax2onnx  # noqa: F401
      import onnxruntime  # noqa: F401
  except ImportError as e:
    raise ValueError(
      f'--format={kind} needs {e.name}: install zsar_jax[onnx], or use '
      f'--format={STABLEHLO}'
    ) from e


def _to_onnx(side: str, program: encoders.Program):
  """Returns name -> content of the files, and their description."""
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
  # Its plugins raise any kind of error for operations that they lack.
  except Exception as e:
    raise NotImplementedError(_one_line(e)) from e
  if made.ByteSize() > _MOST_BYTES:
    raise ValueError(f'{made.ByteSize()} bytes are too large for one ONNX file')
  width = made.graph.output[0].type.tensor_type.shape.dim[-1].dim_value
  return {f'{side}.onnx': made.SerializeToString()}, _side(
    program.inputs,
    width,
    program=f'{side}.onnx',
    opset=made.opset_import[0].version,
  )


def _quantised(content: bytes) -> bytes:
  """Quantises the weights of matrix products to int8.

  Each output channel has its own scale. onnxruntime also quantises the inputs
  of these products, by the range of each batch. Convolutions and word tables
  stay in float32: with int8 word tables, a sentence encoder's cosine falls
  below 0.99.
  """
  with _quietly():
    import onnx
    from onnxruntime import quantization

    with tempfile.TemporaryDirectory() as scratch:
      path = os.path.join(scratch, 'int8.onnx')
      quantization.quantize_dynamic(
        onnx.load_from_string(content),
        path,
        per_channel=True,
        weight_type=quantization.QuantType.QInt8,
        op_types_to_quantize=['MatMul', 'Gemm'],
      )
      return pathlib.Path(path).read_bytes()


def _samples(program: encoders.Program) -> Iterable[list[np.ndarray]]:
  """Yields random inputs of two batch sizes. Masks begin with True."""
  rng = np.random.default_rng(0)
  for batch in (1, 3):
    inputs = []
    for x in program.inputs.values():
      shape = (batch, *x.shape)
      if x.dtype == bool:
        first = np.arange(x.shape[-1]) < max(1, x.shape[-1] // 2)
        inputs.append(np.broadcast_to(first, shape).copy())
      else:
        # Token ids below 8 exist in every vocabulary.
        most = 256 if x.dtype == np.uint8 else 8
        inputs.append(rng.integers(0, most, shape).astype(x.dtype))
    yield inputs


def _check(side: str, program, description, folder, kind: str) -> None:
  """Raises ValueError if an exported encoder computes other embeddings."""
  theirs = exported_predict.load_encoder(description, folder)
  ours = jax.jit(_exact(program.function))
  for inputs in _samples(program):
    expected = np.asarray(ours(program.params, *inputs))
    try:
      found = theirs(*inputs)
    # Each runtime has its own errors for operations that it lacks.
    except Exception as e:
      raise ValueError(
        f'the exported {side} encoder does not run: {_one_line(e)}'
      ) from e
    # Not `>` and `<`, which a NaN would pass.
    if kind == ONNX_INT8:
      lengths = np.linalg.norm(found, axis=-1) * np.linalg.norm(
        expected, axis=-1
      )
      least = (np.sum(found * expected, axis=-1) / lengths).min()
      if not least >= _INT8_COSINE:
        raise ValueError(
          f'the {side} encoder loses too much in int8: embeddings of random '
          f'inputs have a cosine of {least:g} to ours; use --format={ONNX}'
        )
      continue
    worst = np.abs(found - expected).max()
    if not worst <= _TOLERANCE:
      message = (
        f'the exported {side} encoder computes other embeddings: for random '
        f'inputs they differ by {worst:g}'
      )
      if kind == ONNX:
        message += (
          '. Encoders in bfloat16 round otherwise in other programs: use '
          f'--format={STABLEHLO}, or export float32 ones'
        )
      raise ValueError(message)
