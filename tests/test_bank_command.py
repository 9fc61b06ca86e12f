"""Tests `bank` on a trained run and on the shipped one."""

import dataclasses
import glob
import json
import shutil

import numpy as np
import pytest

from tests.commands import run
from zsar_jax import bank, predict
from zsar_jax.inference import model_files, prototype_bank


def test_a_bank_is_found_by_its_model(workdir, tmp_path, capsys):
  for name, path in (
    ('stick_figures', model_files.resolve('stick_figures')),
    (workdir, workdir),
  ):
    shown = []
    for given in (name, f'{path}/bank.safetensors'):
      assert run(bank, 'show', given) == 0, capsys.readouterr().err
      shown.append(capsys.readouterr().out)
    assert shown[0] == shown[1] and 'seen classes' in shown[0]
  added = tmp_path / 'added.safetensors'
  flags = '--classes=juggling', f'--output={added}'
  assert run(bank, 'add', 'stick_figures', *flags) == 0
  assert prototype_bank.load_bank(str(added)).added_classes == ('juggling',)


def test_bank_is_built_shown_added_to_and_merged(workdir, tmp_path, capsys):
  own, built = f'{workdir}/bank.safetensors', tmp_path / 'built.safetensors'
  code = run(
    bank,
    'build',
    f'--workdir={workdir}',
    f'--output={built}',
    '--licence=CC-BY-4.0',
  )
  assert code == 0, capsys.readouterr().err
  a, b = (prototype_bank.load_bank(str(p)) for p in (own, built))
  np.testing.assert_array_equal(a.seen_prototypes, b.seen_prototypes)
  assert a.weights_hash == b.weights_hash and b.licence == 'CC-BY-4.0'
  added = tmp_path / 'added.safetensors'
  code = run(
    bank,
    'add',
    built,
    f'--workdir={workdir}',
    '--classes=Juggling,rowing',
    f'--output={added}',
  )
  assert code == 0
  assert 'juggling  <- ' in capsys.readouterr().out
  assert run(bank, 'show', added) == 0
  out = capsys.readouterr().out
  assert 'by name alone  juggling' in out and 'CC-BY-4.0' in out
  merged = tmp_path / 'merged.safetensors'
  assert run(bank, 'merge', built, added, f'--output={merged}') == 0
  m = prototype_bank.load_bank(str(merged))
  assert m.seen_classes == a.seen_classes
  np.testing.assert_allclose(m.seen_prototypes, a.seen_prototypes, atol=1e-6)
  assert m.counts.tolist() == (2 * a.counts).tolist()
  capsys.readouterr()
  # Without --classes those that were added are what is chosen from.
  example = glob.glob(f'{workdir}/examples/*.mp4')[0]
  flags = f'--bank={added}', f'--workdir={workdir}', f'--video={example}'
  assert run(predict, *flags, '--json') == 0
  ranked = json.loads(capsys.readouterr().out)['ranking']
  assert {r['name'] for r in ranked} == {'juggling', 'rowing'}


def test_a_bank_is_merged_with_others_alone(workdir, tmp_path, capsys):
  own, copied, other = (
    f'{workdir}/bank.safetensors',
    *(str(tmp_path / name) for name in ('copied', 'other')),
  )
  shutil.copy(own, copied)
  output = tmp_path / 'merged.safetensors'
  for again in (own, copied):
    assert run(bank, 'merge', own, again, f'--output={output}') == 1
    error = capsys.readouterr().err
    assert f'banks {own} and {again} are the same' in error
  content = prototype_bank.load_bank(own)
  turned = np.roll(content.class_embeddings, 1, axis=0)
  prototype_bank.save_bank(
    dataclasses.replace(content, class_embeddings=turned), other
  )
  assert run(bank, 'merge', own, other, f'--output={output}') == 1
  error = capsys.readouterr().err
  assert f'banks {own} and {other} have different class embeddings' in error
  assert not output.exists()


@pytest.mark.parametrize(
  'argv,reason',
  [
    ([], 'give a command: one of'),
    (['show'], 'show needs a bank file'),
    (['merge', 'a', '--output=o'], 'at least two banks'),
    (['show', 'a', 'b'], 'show takes one bank file'),
    (['merge', 'a'], 'at least two banks; --output. Its form: zsar bank merge'),
    (['build', '--output=o'], 'build needs --video and --text, or --workdir'),
    (['add'], 'add needs a bank file; --classes; --output. Its form: zsar'),
    (['add', 'a'], 'add needs --classes; --output. Its form: zsar bank add '),
    (['add', 'a', '--output=o'], 'add needs --classes. Its form: '),
    (['add', 'a', '--classes= ', '--output=o'], '--classes is empty'),
    (['export'], 'export needs --workdir; --output, or --push. Its form'),
    (['show', 'nowhere'], 'nowhere does not exist'),
  ],
)
def test_bank_commands_say_what_they_need(
  argv, reason, capsys, tmp_path, monkeypatch
):
  monkeypatch.chdir(tmp_path)
  assert run(bank, *argv) == 1
  assert reason in capsys.readouterr().err
