import sys

import pytest

from zsar_jax import app, cli, web


def call(*arguments):
  return cli.exit_code(app.main, ['app', '--workdir=x', *arguments])


@pytest.mark.parametrize(
  'flags, said',
  [
    (['--host=0.0.0.0'], '--host=0.0.0.0 lets other machines in'),
    (['--share'], '--share makes a public link'),
    (['--auth=no/such/file'], 'no/such/file'),
    (['--compare=y', '--pretrained=z'], 'for two models side by side'),
    (['--max_minutes=0'], 'minutes=0 must be above 0'),
    (['--max_names=0'], 'max_names'),
    (['--port=70000'], 'port'),
  ],
)
def test_mistakes_are_told_before_anything_is_loaded(flags, said, capsys):
  assert call(*flags) == 1
  (line,) = capsys.readouterr().err.splitlines()
  assert line.startswith('error: ') and said in line


def test_without_gradio_it_says_what_to_install(capsys, monkeypatch):
  monkeypatch.setitem(sys.modules, 'gradio', None)
  monkeypatch.delitem(sys.modules, 'zsar_jax.web.page', raising=False)
  monkeypatch.delattr(web, 'page', raising=False)
  assert call() == 1
  assert "pip install 'zsar_jax[app]'" in capsys.readouterr().err


@pytest.mark.parametrize('flags', [[], ['--compare=x']])
def test_a_model_is_needed(flags, capsys):
  assert cli.exit_code(app.main, ['app', *flags]) == 1
  assert 'give --workdir or --pretrained' in capsys.readouterr().err
