"""Who may import whom, and what runs where TensorFlow is not installed."""

import ast
import fnmatch
import os
import pathlib
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

# Module pattern -> layer and the libraries it may import beside numpy; the
# first match counts. An import goes to the same or a lower layer. absl means
# its logging outside the entries.
_LAYERS = {
  'zsar_jax': (5, ''),
  # Entries.
  'cli': (5, 'absl'),
  '__main__': (5, 'av jax'),
  'main': (5, 'absl ml_collections'),
  'evaluate': (5, 'absl ml_collections'),
  'predict': (5, 'absl ml_collections'),
  'prepare': (5, 'absl ml_collections'),
  'protocols': (5, 'absl'),
  'bank': (5, 'absl'),
  # What joins the parts.
  'train': (4, 'jax ml_collections'),
  'train_loop': (4, 'jax ml_collections'),
  'recognizer': (4, 'jax ml_collections'),
  'action_model': (4, ''),
  'frozen_clip': (4, 'jax'),
  'run_protocol': (4, 'ml_collections'),
  'outside_scores': (4, ''),
  'model_builder': (4, 'jax ml_collections'),
  'initialisation': (4, 'ml_collections'),
  # Around the step.
  'evaluators*': (3, 'jax'),
  'prototype_bank': (3, 'safetensors'),
  'embedding_cache': (3, 'safetensors'),
  'score_files': (3, 'safetensors'),
  'model_files': (3, 'safetensors'),
  'progress': (3, ''),
  'interruption': (0, ''),
  'terminal': (0, ''),
  'compilation_cache': (0, ''),
  'json_files': (0, ''),
  'report_content': (4, 'cv2'),
  'report*': (3, 'matplotlib'),
  'results': (3, ''),
  'saved_checkpoints': (4, 'absl jax orbax'),
  'step_cost': (4, 'jax ml_collections'),
  'checkpointing': (4, 'jax orbax'),
  'checkpoint_files': (3, 'tensorstore'),
  'metric_writers': (3, 'absl tensorflow clu'),
  'pretrained*': (3, 'jax safetensors'),
  'train_step': (2, 'jax optax'),
  'optim': (2, 'jax optax'),
  'models*': (1, 'absl jax flax'),
  # Never jax.
  'data.datasets.staging': (1, 'safetensors tqdm'),
  'data.datasets.beam_staging': (1, 'apache_beam'),
  'data.datasets*': (1, 'absl av cv2 tensorflow_datasets'),
  'data*': (
    1,
    'absl av cv2 grain safetensors simplejpeg tokenizers tensorflow '
    'tensorflow_text tensorflow_datasets',
  ),
  'zeroshot*': (0, 'jax scipy sklearn'),
  'losses': (0, 'jax optax'),
  'sharding': (0, 'absl jax'),
  'distributed': (0, 'jax'),
  'program_cost': (0, 'jax'),
  'hardware': (0, ''),
  'pixel_ops': (0, 'jax'),
  'preprocessing': (0, ''),
  'config_utils': (0, 'ml_collections'),
  'config_checks': (0, 'ml_collections'),
}
# Side by side in one layer, and blind to each other all the same.
_APART = (('models', 'data'), ('data', 'models'))
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


def _pattern(module):
  for pattern in _LAYERS:
    if fnmatch.fnmatchcase(module, pattern):
      return pattern
  raise AssertionError(
    f'zsar_jax.{module} is in no layer: add it to _LAYERS in '
    'tests/test_imports.py'
  )


def _rule(module):
  return _LAYERS[_pattern(module)]


def _top(module):
  return module.partition('.')[0]


def violations(module, path):
  """What a module's imports do against the table, one text each."""
  layer, libraries = _rule(module)
  allowed = {'numpy', *libraries.split(), *sys.stdlib_module_names}
  wrong = []
  for imported, inside in _imports(path):
    top = _top(imported)
    if top == 'zsar_jax':
      target = imported.removeprefix('zsar_jax.')
      if _rule(target)[0] > layer:
        wrong.append(f'imports {imported} of a higher layer')
      if (_top(module), _top(target)) in _APART:
        wrong.append(f'imports {imported}: models and data stay apart')
    elif top not in allowed:
      wrong.append(f'may not import {imported}')
    elif top in _TENSORFLOW and not inside:
      if top != 'tensorflow_datasets' or module not in _BUILDERS:
        wrong.append(f'imports {imported} outside a function')
  return wrong


@pytest.mark.parametrize('module', MODULES)
def test_imports_go_downward_only(module):
  assert violations(module, MODULES[module]) == []


def test_every_rule_is_of_a_module():
  assert {_pattern(module) for module in MODULES} == set(_LAYERS)


@pytest.mark.parametrize(
  'module, code, message',
  [
    ('losses', 'from zsar_jax import train_step', 'higher layer'),
    ('data.clips', 'from zsar_jax.models import layers', 'stay apart'),
    ('models.layers', 'import zsar_jax.data.clips', 'stay apart'),
    ('data.clips', 'def f():\n  import jax.numpy', 'may not import jax.numpy'),
    ('losses', 'from flax import linen', 'may not import flax'),
    ('results', 'import clu', 'may not import clu'),
    ('metric_writers', 'import clu', 'outside a function'),
    ('data.datasets.records', 'import tensorflow_datasets', 'outside'),
    ('metric_writers', 'def f():\n  import clu', None),
    ('data.datasets.stick_figures', 'import tensorflow_datasets', None),
    ('train', 'from zsar_jax import losses', None),
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


def test_module_that_is_not_in_the_table_is_told_to_be_added(tmp_path):
  path = tmp_path / 'module.py'
  path.write_text('')
  with pytest.raises(AssertionError, match='add it to _LAYERS'):
    violations('brand_new', path)


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
    if module in ('train_step', 'recognizer', 'train', 'predict', 'evaluate')
    or _top(module) in ('zeroshot', 'evaluators', 'models')
    or module == 'data.input_pipeline'
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
    from zsar_jax import config_utils, model_builder, optim, recognizer
    from zsar_jax import run_protocol, sharding, train_step
    from zsar_jax.data import input_pipeline, tokenizer
    from zsar_jax.data.protocols import class_split

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
    state = train_step.init_state(
      model,
      optimizer,
      model_builder.input_shapes(prep),
      jax.random.key(0),
      mesh,
    )
    encoders = recognizer.Recognizer(
      config, model, state.params, pieces, seen, mesh
    )
    reader = encoders.clip_reader(protocol.train)
    batches = input_pipeline.train_batches(reader, seen, batch_size=4, seed=0)
    step = train_step.make_train_step(
      model, optimizer, schedule, train_step.LossWeights(), prep, 0, mesh
    )
    (text,) = encoders.token_ids(seen)
    batch = {k: v for k, v in next(batches).items()
             if k in train_step.BATCH_KEYS}
    state, metrics = step(state, sharding.put_batch(batch, mesh), text)
    assert np.isfinite(metrics['loss'])
    trained = encoders.with_params(state.params, 1)
    outcome = run_protocol.evaluate(trained, [protocol], None, len)
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
    from zsar_jax import metric_writers
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
