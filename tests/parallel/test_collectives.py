"""Tests the bytes that the training step sends between devices."""

import jax
import numpy as np
import pytest

from benchmarks import compiled
from tests.training import tiny_steps as steps
from zsar_jax.inference import model_builder
from zsar_jax.models import zsar_model
from zsar_jax.parallel import sharding
from zsar_jax.training import optim, step_loss, train_state, train_step

DEPTH = 3
KERNELS = 6  # of a block: query, key, value, out, and two of the MLP


def compile_step(
  mesh_sizes, num_classes, devices=8, remat='none', batch_size=16
):
  """(abstract parameters, compiled step) on a preset or a mesh of sizes."""
  block = dict(width=32, num_heads=2, mlp_dim=64)
  model = zsar_model.ZsarModel(
    video=dict(
      tubelet_size=(2, 8, 8),
      scan_blocks=True,
      depth=DEPTH,
      remat=remat,
      **block,
    ),
    text=dict(vocabulary_size=20, max_length=6, depth=1, **block),
    fusion=dict(depth=1, **block),
    embedding_dim=32,
    num_classes=num_classes,
  )
  if isinstance(mesh_sizes, str):
    mesh_sizes = {'preset': mesh_sizes}
  mesh = sharding.make_mesh(mesh_sizes, jax.devices()[:devices])
  schedule = optim.make_schedule(
    learning_rate=1e-3, warmup_steps=1, num_steps=10
  )
  optimizer = optim.make_optimizer(schedule, weight_decay=0.05, clip_norm=1.0)
  # Nothing is run, so nothing that makes parameters needs compiling.
  state = train_state.abstract_state(
    model, optimizer, model_builder.input_shapes(steps.PREP), mesh
  )
  step = train_step.make_train_step(
    step_loss.Objective(model, steps.PREP, steps.ALL_LOSSES),
    optimizer,
    schedule,
    mesh,
  )
  rng = np.random.default_rng(0)
  batch = {
    'video': np.zeros((batch_size, 4, 16, 16, 3), np.uint8),
    'label': (np.arange(batch_size) % num_classes).astype(np.int32),
    'index': np.arange(batch_size, dtype=np.int32),
  }
  text = {
    'ids': rng.integers(5, 20, (num_classes, 6)).astype(np.int32),
    'mask': np.ones((num_classes, 6), bool),
  }
  with jax.set_mesh(mesh):
    program = step.__wrapped__.lower(
      state,
      sharding.put_batch(batch, mesh),
      jax.device_put(text, sharding.replicated(mesh)),
    ).compile()
  return state.params, program


def size(tree):
  return sum(x.size * 4 for x in jax.tree.leaves(tree))


def of_kind(found, kind):
  return [c for c in found if c.kind == kind]


def total(found):
  return sum(c.times * c.array_bytes for c in found)


def test_data_parallel_moves_the_parameters_once_and_gathers_nothing():
  # Fewer names than devices: each encodes all of them, and gradients of the
  # text encoder need no exchange.
  params, program = compile_step('dp', num_classes=5)
  found = compiled.collectives(program.as_text())
  assert {c.kind for c in found} == {'all-reduce'}
  moved = size(params) - size(params['text_encoder'])
  assert total(found) == pytest.approx(moved, rel=0.05)
  # A ring sends every byte nearly twice.
  sent = compiled.sent_by_kind(found)['all-reduce']
  assert sent == pytest.approx(2 * 7 / 8 * total(found))


def test_data_parallel_over_many_names_moves_all_parameters_once():
  params, program = compile_step('dp', num_classes=16)
  found = compiled.collectives(program.as_text())
  # Beside the parameters, the names' tokens and embeddings, and back.
  names = 16 * (6 + 1 + 1) * 32 * 4
  reduced = total(of_kind(found, 'all-reduce'))
  assert size(params) * 0.95 < reduced < size(params) * 1.05 + 2 * names
  assert total(of_kind(found, 'all-gather')) <= 2 * names


# The second is the layout of 16 chips, on half as many.
@pytest.mark.parametrize(
  'mesh_sizes,fsdp',
  [('fsdp', 8), ({'data': 2, 'fsdp': 4, 'tensor': 1}, 4)],
)
def test_fsdp_gathers_every_kernel_once_forward_and_once_backward(
  mesh_sizes, fsdp
):
  params, program = compile_step(mesh_sizes, num_classes=5)
  found = compiled.collectives(program.as_text())
  loops = [c for c in found if c.times == DEPTH]
  bodies = sorted({c.computation for c in of_kind(loops, 'all-gather')})
  assert len(bodies) == 2
  one_layer = jax.eval_shape(
    lambda blocks: jax.tree.map(lambda x: x[0], blocks),
    params['video_encoder']['blocks'],
  )
  kernels = [x for x in jax.tree.leaves(one_layer) if x.ndim == 2]
  assert len(kernels) == KERNELS
  for body in bodies:
    gathers = [c for c in of_kind(loops, 'all-gather') if c.computation == body]
    assert len(gathers) == KERNELS
    assert {c.group for c in gathers} == {fsdp}
    assert sorted(c.array_bytes for c in gathers) == sorted(
      4 * k.size for k in kernels
    )
  # No activation is exchanged: only gradients of one layer are summed.
  reduced = of_kind(loops, 'all-reduce')
  assert len({c.computation for c in reduced}) == 1
  # On two axes each device's share of the kernels is summed over `data` too.
  shares = size(kernels) // fsdp if fsdp < 8 else 0
  assert sum(c.array_bytes for c in reduced) == size(one_layer) + shares


def test_work_is_split_evenly_over_the_devices():
  # XLA counts a loop's body once, on one device as on eight.
  _, one = compile_step('dp', 5, devices=1, batch_size=64)
  _, eight = compile_step('dp', 5, devices=8, batch_size=64)
  ratio = one.cost_analysis()['flops'] / eight.cost_analysis()['flops']
  # The text encoder and the optimiser are on every device whole.
  assert 6 < ratio <= 8.01


def test_remat_saves_what_it_says():
  temporaries = {
    remat: compile_step('dp', 5, 1, remat, batch_size=256)[1]
    .memory_analysis()
    .temp_size_in_bytes
    for remat in ('none', 'full')
  }
  assert temporaries['full'] < 0.6 * temporaries['none']


PROGRAM = """
HloModule jit_step

%region_0.1 (a: f32[], b: f32[]) -> f32[] {
  ROOT %add = f32[] add(%a, %b)
}

%cond (arg: (s32[], f32[4])) -> pred[] {
  %limit = s32[] constant(5)
  ROOT %less = pred[] compare(%i, %limit), direction=LT
}

%body (arg: (s32[], f32[4])) -> (s32[], f32[4]) {
  %gather = f32[8,4]{1,0} all-gather(%x), replica_groups=[2,4]<=[8]
  ROOT %out = (s32[], f32[4]) tuple(%i, %y)
}

%all-reduce-scatter.3 (p: bf16[16]) -> bf16[2] {
  %sum = bf16[16]{0} all-reduce(%p), replica_groups={{0,1,2,3,4,5,6,7}}
  ROOT %mine = bf16[2]{0} dynamic-slice(%sum, %i)
}

ENTRY %main (p: f32[4]) -> f32[4] {
  %loop = (s32[], f32[4]) while(%init), condition=%cond, body=%body
  %sent = f32[10]{0} collective-permute(%p), source_target_pairs={{0,1}}
  %scattered = bf16[2]{0} fusion(%g), kind=kLoop, calls=%all-reduce-scatter.3
  %s = (f32[2]{0}, f32[16]{0}) all-gather-start(%q), replica_groups=[1,8]<=[8]
  %m = f32[2] all-reduce(%q), replica_groups=mesh['a'=4,'b'=2], ids=(9) {'b'}
  ROOT %r = f32[4] add(%a, %b)
}
"""


def test_bytes_are_counted_by_hand():
  found = compiled.collectives(PROGRAM)
  by_kind = {c.kind: c for c in found if c.computation != 'main'}
  gather = by_kind['all-gather']
  assert (gather.times, gather.array_bytes, gather.group) == (5, 128, 4)
  assert gather.sent_bytes == 5 * 128 * 3 / 4
  assert by_kind['reduce-scatter'].sent_bytes == 32 * 7 / 8
  sent = compiled.sent_by_kind(found)
  assert sent['collective-permute'] == 40
  assert sent['all-reduce'] == 2 * 8 / 2
  # The started one: its result is 16 numbers.
  assert sent['all-gather'] == 480 + 64 * 7 / 8


def test_what_goes_on_elsewhere_counts_once():
  # The exchange of channel 7 is started at the top and goes on in the loop.
  spread = PROGRAM.replace('<=[8]\n', '<=[8], channel_id=7\n')
  gathers = [c for c in compiled.collectives(spread) if c.kind == 'all-gather']
  assert [(c.times, c.array_bytes) for c in gathers] == [(1, 64)]


def test_unknown_groups_are_refused():
  with pytest.raises(ValueError, match='of unknown groups'):
    compiled.collectives(PROGRAM.replace('replica_groups=[2,4]', 'groups=9'))


def test_a_loop_of_unknown_length_is_refused():
  endless = PROGRAM.replace('constant(5)', 'parameter(1)')
  with pytest.raises(ValueError, match='a loop of unknown length'):
    compiled.collectives(endless)
