import json

import pytest

from tests import tiny
from zsar_jax import cli, protocols
from zsar_jax.data import datasets
from zsar_jax.data.protocols import registry
from zsar_jax.evaluation import results


def run(capsys, *argv):
  code = cli.exit_code(protocols.main, ['protocols', *map(str, argv)])
  captured = capsys.readouterr()
  assert 'Traceback' not in captured.err
  return captured.out if code == 0 else captured.err


def test_list_and_show(capsys):
  out = run(capsys, 'list').splitlines()
  assert [line.split()[0] for line in out] == registry.ids()
  spec = registry.get('ucf101/half-class-seed0-9')
  assert spec.hash in run(capsys, 'show', spec.id)


def test_split_files_are_protocols(tmp_path, capsys):
  path = tmp_path / 'mine.json'
  path.write_text(json.dumps({'seen': ['a b'], 'unseen': ['c d']}))
  assert 'video_folder/mine' in run(capsys, 'show', path)


def test_check_compares_prepared_data(capsys):
  builder = datasets.make_builder(
    'stick_figures',
    tiny.DATA_DIR,
    num_seen=2,
    clips_per_class=1,
    test_clips_per_class=1,
    size=32,
  )
  datasets.prepare(builder)
  out = run(capsys, 'check', 'ucf101/truze', f'--dataset={builder.data_dir}')
  assert "it is 'stick_figures'" in out and '101 classes without' in out


def test_audit_and_lint(tmp_path, capsys):
  out = run(capsys, 'audit', '--seen=kinetics400', '--unseen=ucf101')
  assert '33 unseen classes' in out.splitlines()[-1]
  path = tmp_path / 'names.txt'
  path.write_text('swing\n\nice skating\n')
  out = run(capsys, 'lint', path)
  assert out.startswith("one word: 'swing'")
  assert out.splitlines()[-1].endswith(' warnings')


def test_compare_refuses_what_does_not_compare(tmp_path, capsys):
  row = results.Row('transfer', 'top1', 0.5, 0.4, 0.6, 0.1, 10, 2)
  paths = []
  for i, mark in enumerate(('a', 'a', 'b')):
    content = results.make_results('p', [row], {}, protocol_hash=mark)
    paths.append(tmp_path / f'{i}.json')
    results.write_results(content, str(paths[-1]))
  assert 'B - A' in run(capsys, 'compare', *paths[:2])
  assert 'cannot be compared' in run(capsys, 'compare', *paths[1:])


@pytest.mark.parametrize(
  'argv, words',
  [
    ([], "unknown command ''"),
    (['lst'], 'commands are list, show'),
    (['show'], 'expected 1 arguments'),
    (['show', 'ucf101/truz'], 'nearest are ucf101/truze'),
    (['check', 'ucf101/truze'], 'needs --dataset'),
    (['check', 'ucf101/truze', '--dataset=/nowhere'], 'no prepared dataset'),
    (['audit', '--seen=ucf101'], 'needs --seen and --unseen'),
    (['audit', '--seen=ucf10', '--unseen=ucf101'], 'nearest are ucf101'),
  ],
)
def test_mistakes_end_in_one_line(argv, words, capsys):
  assert words in run(capsys, *argv)
