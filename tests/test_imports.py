"""Tests imports between rooms, and running without TensorFlow."""

import ast
import graphlib
import os
import pathlib
import re
import sys
import textwrap

import pytest

from tests import processes
from zsar_jax.data.datasets import stick_figures

_ROOT = pathlib.Path(__file__).parents[1]
_TENSORFLOW = {
  'tensorflow',
  'tensorflow_text',
  'tensorflow_datasets',
  'clu',
}

# Every room -> the rooms that it may import, and the libraries beside numpy.
# A room may always import itself. absl means its logging outside the commands.
_ROOMS = {
  'system': ('', ''),
  'parallel': ('', 'absl jax'),
  'zeroshot': ('', 'jax scipy sklearn'),
  'config': ('', 'ml_collections'),
  'models': ('parallel', 'absl jax flax'),
  # Never jax.
  'data': (
    'system',
    'PIL absl av cv2 grain rapidfuzz safetensors simplejpeg tokenizers',
  ),
  'pretrained': (
    'models data',
    'huggingface_hub jax ml_collections safetensors',
  ),
  'evaluation': (
    'data zeroshot parallel system',
    'jax jinja2 matplotlib safetensors',
  ),
  'inference': (
    'evaluation pretrained models data zeroshot parallel system config',
    'cv2 jax ml_collections safetensors',
  ),
  'web': ('inference data system', 'cv2'),
  'training': (
    'inference evaluation pretrained models data zeroshot parallel system '
    'config',
    'jax ml_collections optax',
  ),
  'commands': (
    'web training inference evaluation pretrained models data zeroshot '
    'parallel system config',
    'absl av jax ml_collections',
  ),
}
# What single files may import beyond their room's libraries.
_MORE_LIBRARIES = {
  'data.datasets': 'tensorflow_datasets',
  'data.datasets.beam_staging': 'apache_beam',
  'data.datasets.packed_videos': 'tensorflow_datasets',
  'data.datasets.records': 'tensorflow_datasets',
  'data.datasets.staging': 'tqdm',
  'data.datasets.stick_figures': 'tensorflow_datasets',
  'data.tokenizer': 'tensorflow tensorflow_text',
  'inference.checkpoint_files': 'tensorstore',
  # Copied into the folder that it runs in: it imports nothing of ours.
  'inference.exported_model': 'jax2onnx onnx onnxruntime',
  'inference.exported_predict': 'av onnxruntime',
  'inference.saved_checkpoints': 'absl orbax',
  'training.checkpointing': 'orbax',
  # Imported by the command alone: it is in an extra.
  'inference.mteb_model': 'mteb',
  'web.page': 'gradio',
  'web.serving': 'gradio starlette',
  'training.metric_writers': 'absl clu tensorflow',
}
# The config: at the root without being a command, and a section a room.
_CONFIG = ('config_utils', 'config_checks', 'defaults')
# TFDS builders are classes of its, so their modules import it outright.
_BUILDERS = {'data.datasets.stick_figures', 'data.datasets.packed_videos'}


def _modules():
  """Every module's name below the package -> its file."""
  modules = {}
  for path in sorted((_ROOT / 'zsar_jax').rglob('*.py')):
    parts = list(path.relative_to(_ROOT / 'zsar_jax').with_suffix('').parts)
    if parts[-1] == '__init__':
      parts.pop()
    modules['.'.join(parts) or 'zsar_jax'] = path
  return modules


MODULES = _modules()


def _imports(path):
  """(imported module, whether inside a function) of a file, all of them."""
  found = []

  def visit(node, inside):
    if isinstance(node, ast.Import):
      found.extend((alias.name, inside) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      assert not node.level, f'{path}: relative import'
      for alias in node.names:
        whole = f'{node.module}.{alias.name}'
        is_module = whole.removeprefix('zsar_jax.') in MODULES
        found.append((whole if is_module else node.module, inside))
    inside = inside or isinstance(
      node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
    )
    for child in ast.iter_child_nodes(node):
      visit(child, inside)

  visit(ast.parse(path.read_text()), False)
  return found


def _room(module):
  """Returns the room of a module; its own name at the root."""
  top = _top(module)
  if module.rpartition('.')[2] in _CONFIG:
    return 'config'
  path = MODULES.get(module)
  at_root = path is not None and path.parent == _ROOT / 'zsar_jax'
  return 'commands' if at_root else top


def _top(module):
  return module.partition('.')[0]


def violations(module, path):
  """Lists the imports of a module that the table forbids."""
  room = _room(module)
  if room not in _ROOMS:
    return [f'is in no room of the table: {sorted(_ROOMS)}']
  rooms, libraries = _ROOMS[room]
  libraries = f'{libraries} {_MORE_LIBRARIES.get(module, "")}'
  allowed = {'numpy', *libraries.split(), *sys.stdlib_module_names}
  wrong = []
  for imported, inside in _imports(path):
    top = _top(imported)
    if top == 'zsar_jax':
      target = _room(imported.removeprefix('zsar_jax.'))
      if target not in (room, *rooms.split()):
        wrong.append(f'imports {imported}: {room} may not import {target}')
    elif top not in allowed:
      wrong.append(f'may not import {imported}')
    elif top in _TENSORFLOW and not inside:
      if top != 'tensorflow_datasets' or module not in _BUILDERS:
        wrong.append(f'imports {imported} outside a function')
  return wrong


@pytest.mark.parametrize('module', MODULES)
def test_imports_go_downward_only(module):
  assert violations(module, MODULES[module]) == []


def test_every_row_is_of_something_that_is_there():
  assert {_room(module) for module in MODULES} == set(_ROOMS)
  assert set(_MORE_LIBRARIES) <= set(MODULES)


def test_imports_between_rooms_go_round_in_no_circle():
  graph = {room: rooms.split() for room, (rooms, _) in _ROOMS.items()}
  assert list(graphlib.TopologicalSorter(graph).static_order())


@pytest.mark.parametrize(
  'module, code, message',
  [
    (
      'inference.encoders',
      'from zsar_jax.training import train_step',
      'inference may not import training',
    ),
    ('data.clips', 'from zsar_jax.models import layers', 'not import models'),
    ('models.layers', 'import zsar_jax.data.clips', 'not import data'),
    ('zeroshot.ranking', 'from zsar_jax.system import terminal', 'not import'),
    ('data.clips', 'from zsar_jax import cli', 'not import commands'),
    ('data.clips', 'def f():\n  import jax.numpy', 'may not import jax.numpy'),
    ('training.losses', 'from flax import linen', 'may not import flax'),
    ('evaluation.results', 'import clu', 'may not import clu'),
    ('training.metric_writers', 'import clu', 'outside a function'),
    ('training.train', 'import orbax.checkpoint', 'may not import orbax'),
    ('attic.old', '', 'is in no room'),
    ('training.metric_writers', 'def f():\n  import clu', None),
    ('data.datasets.stick_figures', 'import tensorflow_datasets', None),
    ('training.train', 'from zsar_jax.training import losses', None),
    ('predict', 'from zsar_jax.inference import action_model', None),
  ],
)
def test_rules_bite(module, code, message, tmp_path):
  path = tmp_path / 'module.py'
  path.write_text(code)
  if message is None:
    assert violations(module, path) == []
  else:
    (wrong,) = violations(module, path)
    assert message in wrong


def test_the_architecture_page_shows_this_table():
  page = (_ROOT / 'docs/architecture.md').read_text()
  rows = re.findall(r'^\| `?(\w+)`?/? \|.*\| ([^|]+) \|$', page, re.MULTILINE)
  shown = {room: cell for room, cell in rows if room in _ROOMS}
  assert set(shown) == set(_ROOMS)
  for room, (rooms, _) in _ROOMS.items():
    assert set(shown[room].replace('nothing', '').split(', ')) - {''} == set(
      rooms.split()
    ), room


@pytest.mark.parametrize(
  'path', sorted((_ROOT / 'configs').glob('*.py')), ids=lambda p: p.name
)
def test_configs_import_config_utils_alone(path):
  allowed = {'ml_collections', 'zsar_jax.config_utils'}
  assert {imported for imported, _ in _imports(path)} <= allowed


# What `sys.meta_path` is like where TensorFlow is not installed.
_WITHOUT_TENSORFLOW = """
  import importlib.machinery
  import sys

  class Finder(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
      if name.partition('.')[0] in ('tensorflow', 'tensorflow_text'):
        return None
      return super().find_spec(name, path, target)

  at = sys.meta_path.index(importlib.machinery.PathFinder)
  sys.meta_path[at] = Finder
  try:
    import tensorflow
  except ModuleNotFoundError:
    pass
  else:
    raise AssertionError('TensorFlow was found')
"""


def run_without_tensorflow(code, *args):
  """Runs code in a process of its own; returns what it printed."""
  done = processes.run(
    [
      sys.executable,
      '-c',
      textwrap.dedent(_WITHOUT_TENSORFLOW) + textwrap.dedent(code),
      *args,
    ],
    cwd=_ROOT,
    env={**os.environ, 'PYTHONPATH': str(_ROOT)},
  )
  assert done.returncode == 0, done.stderr[-3000:]
  return done.stdout


def test_step_and_evaluators_import_without_tensorflow():
  modules = [
    f'zsar_jax.{module}'
    for module in MODULES
    if module in ('predict', 'evaluate', 'data.input_pipeline')
    or _top(module) in ('evaluation', 'inference', 'models', 'zeroshot')
    or _top(module) == 'training'
  ]
  out = run_without_tensorflow(
    """
    import importlib
    for module in sys.argv[1:]:
      importlib.import_module(module)
    loaded = {name.partition('.')[0] for name in sys.modules}
    assert not loaded & {'tensorflow', 'tensorflow_text', 'clu'}, loaded
    print('imported', len(sys.argv) - 1)
    """,
    *modules,
  )
  assert out.split() == ['imported', str(len(modules))]


def test_a_step_and_an_evaluation_run_without_tensorflow(tmp_path):
  builder = stick_figures.make_builder(
    tmp_path, num_seen=4, clips_per_class=2, test_clips_per_class=2, size=32
  )
  builder.download_and_prepare()
  out = run_without_tensorflow(
    """
    import os
    from absl import flags
    import jax
    import numpy as np
    from zsar_jax import config_utils
    from zsar_jax.data import clip_reader, input_pipeline, tokenizer
    from zsar_jax.data.protocols import class_split
    from zsar_jax.inference import class_texts, evaluate_run, model_builder
    from zsar_jax.inference import trained_encoders
    from zsar_jax.parallel import sharding
    from zsar_jax.training import optim, step_loss, train_state, train_step

    flags.FLAGS.mark_as_parsed()
    jax.config.update('jax_platforms', 'cpu')
    config = config_utils.default_config()
    config.update_from_flattened_dict({
        'preprocessing.size': 16,
        'preprocessing.short_side': 16,
        'preprocessing.num_frames': 2,
        'zeroshot.batch_size': 8,
    })
    for part in ('video', 'text', 'fusion'):
      config.model[part].update(width=16, depth=1, num_heads=2, mlp_dim=16)
    protocol = class_split.make_protocol(sys.argv[1])
    seen = protocol.seen_classes
    pieces = tokenizer.read_vocabulary(tokenizer.default_vocabulary_path())
    prep = model_builder.make_preprocessing(config, pieces)
    model = model_builder.build_model(config, prep, len(pieces), len(seen))
    mesh = sharding.make_mesh(config.mesh)
    schedule = optim.make_schedule(
      learning_rate=1e-3, warmup_steps=0, num_steps=1
    )
    optimizer = optim.make_optimizer(schedule, weight_decay=0.1, clip_norm=1.0)
    state = train_state.init_state(
      model,
      optimizer,
      model_builder.input_shapes(prep),
      jax.random.key(0),
      mesh,
    )
    texts = class_texts.ClassTexts(pieces, prep.token_length)
    encoders = trained_encoders.TrainedEncoders(
      config, model, state.params, texts, seen, mesh
    )
    reader = clip_reader.ClipReader(protocol.train, prep)
    plan = input_pipeline.BatchPlan(batch_size=4, seed=0)
    batches = input_pipeline.train_batches(reader, seen, plan)
    step = train_step.make_train_step(
      step_loss.Objective(model, prep), optimizer, schedule, mesh
    )
    (text,) = texts.token_ids(seen)
    batch = {k: v for k, v in next(batches).items()
             if k in step_loss.BATCH_KEYS}
    state, metrics = step(state, sharding.put_batch(batch, mesh), text)
    assert np.isfinite(metrics['loss'])
    trained = encoders.with_params(state.params, 1)
    outcome = evaluate_run.evaluate(trained, [protocol], None, len)
    evaluation = outcome.evaluation
    assert outcome.bank.seen_prototypes.shape[0] == 4
    assert 'tensorflow' not in sys.modules
    print('rows', len(evaluation.rows), evaluation.rows[0].n_videos)
    """,
    str(builder.data_dir),
  )
  said, rows, n_videos = out.split()
  assert said == 'rows' and int(rows) > 10 and int(n_videos) == 24


def test_what_tensorflow_alone_can_do_says_so(tmp_path):
  out = run_without_tensorflow(
    """
    from zsar_jax.training import metric_writers
    from zsar_jax.data import tokenizer

    with metric_writers.MetricWriter(sys.argv[1], tensorboard=True) as writer:
      writer.write(1, {'loss': 2.0})
    print(open(sys.argv[1] + '/metrics.jsonl').read(), end='')
    try:
      tokenizer.build_vocabulary(['rowing'])
    except ValueError as e:
      print(e)
    """,
    str(tmp_path),
  )
  metrics, refusal = out.splitlines()
  assert metrics == '{"step": 1, "loss": 2.0}'
  assert 'needs tensorflow' in refusal and 'works without' in refusal
  assert [path.name for path in tmp_path.iterdir()] == ['metrics.jsonl']
