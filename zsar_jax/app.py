"""Serves a web page: upload a video, type names, see the ranking.

zsar app --workdir=stick_figures

It needs gradio (`pip install 'zsar_jax[app]'`), and works offline.
Without --auth only this machine can open the page. --auth names a file with
lines `user:password` that only its owner may read. The environment variable
ZSAR_APP_AUTH may hold the same lines.
"""

import contextlib
import functools
import os
import signal
import tempfile
import threading

from absl import flags

from zsar_jax import cli
from zsar_jax.data import isolated
from zsar_jax.inference import model_files
from zsar_jax.system import terminal
from zsar_jax.web import limits as limits_lib
from zsar_jax.web import passwords

_LIMITS = limits_lib.Limits()
# Gradio reads these when it is imported, or when it makes a component.
_OFFLINE = {
  'GRADIO_ANALYTICS_ENABLED': 'False',
  'GRADIO_SHARE': 'False',
  'GRADIO_MCP_SERVER': 'False',
  'HF_HUB_DISABLE_TELEMETRY': '1',
}


def _define_flags() -> flags.FlagValues:
  values = cli.new_flags()
  text = lambda name, what, default=None, required=False: flags.DEFINE_string(
    name, default, what, flag_values=values, required=required
  )
  number = lambda name, default, what: flags.DEFINE_float(
    name, default, what, flag_values=values
  )
  whole = lambda name, default, what: flags.DEFINE_integer(
    name, default, what, flag_values=values, lower_bound=1
  )
  text(
    'workdir',
    'Folder of a finished run, or of a prototype bank beside its encoders; a '
    'pushed model of the Hub, hf:org/name[@revision]; or a model that comes '
    'with the package: '
    f'{", ".join(model_files.shipped())}.',
  )
  text('compare', 'A second workdir, shown beside the first.')
  text(
    'pretrained',
    'Public CLIP weights, instead of a run or shown beside it: a folder, or '
    'an id of the Hugging Face Hub, hf:org/name.',
  )
  cli.define_dtype(values, 'pretrained')
  text(
    'host',
    'Address to listen on; any but this machine needs --auth.',
    '127.0.0.1',
  )
  flags.DEFINE_integer(
    'port',
    7860,
    'Port to listen on; 0 takes a free one.',
    lower_bound=0,
    upper_bound=65535,
    flag_values=values,
  )
  flags.DEFINE_bool(
    'share',
    False,
    "Make a public link through gradio's servers; needs --auth.",
    flag_values=values,
  )
  text('auth', 'File with lines user:password, which only its owner may read.')
  number('max_megabytes', _LIMITS.megabytes, 'Maximum size of an upload.')
  number('max_minutes', _LIMITS.minutes, 'Maximum length of a video.')
  whole('max_names', _LIMITS.names, 'Maximum number of class names.')
  whole('max_waiting', _LIMITS.waiting, 'Maximum number of waiting requests.')
  number(
    'store_megabytes',
    _LIMITS.store_megabytes,
    'Maximum size of all uploads together.',
  )
  return values


def _limits(values) -> limits_lib.Limits:
  return limits_lib.Limits(
    megabytes=values.max_megabytes,
    minutes=values.max_minutes,
    names=values.max_names,
    waiting=values.max_waiting,
    store_megabytes=max(values.store_megabytes, values.max_megabytes),
  )


def _sources(values) -> list[tuple[str, bool]]:
  """Returns the path of each model, and whether it is public weights.

  Raises:
    ValueError: no model, more than two, or --compare without --workdir.
  """
  given = (
    (values.workdir, False),
    (values.compare, False),
    (values.pretrained, True),
  )
  found = [(path, public) for path, public in given if path]
  if not found or len(found) > 2 or (values.compare and not values.workdir):
    raise ValueError(
      'give --workdir or --pretrained; for two models side by side, give '
      '--workdir and either --compare or --pretrained'
    )
  return found


def _titles(paths: list[str]) -> list[str]:
  """Returns a title per model: the last part of its path, if all differ."""
  titles = [os.path.basename(os.path.normpath(path)) for path in paths]
  return titles if len(set(titles)) == len(titles) else paths


def _load_desks(
  sources: list[tuple[str, bool]], limits, dtype: str = 'float32'
):
  from zsar_jax.inference import action_model
  from zsar_jax.web import desk

  titles = _titles([path for path, _ in sources])
  public = functools.partial(action_model.load_pretrained, dtype=dtype)
  load = {False: action_model.load, True: public}
  return [
    desk.Desk(load[is_public](path), title, limits)
    for (path, is_public), title in zip(sources, titles, strict=True)
  ]


def _import_page():
  try:
    from zsar_jax.web import page, serving
  except ModuleNotFoundError as e:
    if (e.name or '').partition('.')[0] not in ('gradio', 'starlette'):
      raise
    raise ValueError(
      "the page needs gradio: pip install 'zsar_jax[app]'"
    ) from e
  return page, serving


@contextlib.contextmanager
def started(argv: list[str]):
  """Context manager that serves the page until the block ends.

  Args:
    argv: the command line, the program's name first.

  Yields:
    The page's address, and its uploads. Their folder is deleted at the end.

  Raises:
    ValueError: the flags contradict each other, gradio is missing, or the
      model cannot be used.
    OSError: the port is taken.
  """
  values = _define_flags()
  cli.parse(values, argv, usage=__doc__)
  sources, limits = _sources(values), _limits(values)
  cli.check_dtype(values, 'pretrained')
  known = passwords.read(values.auth, os.environ)
  passwords.check_exposure(values.host, values.share, bool(known))
  isolated.start()
  with contextlib.ExitStack() as stack:
    folder = stack.enter_context(
      tempfile.TemporaryDirectory(prefix='zsar_app_')
    )
    stack.enter_context(_variables({**_OFFLINE, **_folders(folder)}))
    with cli.start_up():
      page_lib, serving = _import_page()
      from zsar_jax.web import uploads as uploads_lib
      from zsar_jax.web import watching as watching_lib

      desks = _load_desks(sources, limits, values.dtype)
    uploads = uploads_lib.Uploads(folder, limits)
    stack.callback(uploads_lib.Sweeper(uploads).close)
    watching = watching_lib.Watching(desks[0], limits)
    stack.callback(watching.close)
    page = page_lib.Page(
      desks, limits, uploads, model_files.examples(), watching
    )
    blocks = page_lib.build(page)
    address, public = serving.serve(
      blocks,
      page,
      host=values.host,
      port=values.port or None,
      share=values.share,
      auth=passwords.checker(known) if known else None,
      hosts=None if known else frozenset(passwords.LOOPBACK),
    )
    stack.callback(blocks.close, verbose=False)
    yield public or address, uploads


def _folders(folder: str) -> dict[str, str]:
  """Returns variables that make gradio keep all its files in one folder."""
  return {'GRADIO_TEMP_DIR': folder, 'GRADIO_EXAMPLES_CACHE': folder}


@contextlib.contextmanager
def _variables(wanted: dict[str, str]):
  """Context manager that sets environment variables for the block."""
  before = {name: os.environ.get(name) for name in wanted}
  os.environ.update(wanted)
  try:
    yield
  finally:
    for name, value in before.items():
      if value is None:
        os.environ.pop(name, None)
      else:
        os.environ[name] = value


def main(argv: list[str]) -> None:
  """Parses the command line and serves the page until Ctrl-C or SIGTERM.

  Args:
    argv: the command line, the program's name first.
  """
  told_to_stop = threading.Event()
  before = signal.signal(signal.SIGTERM, lambda *_: told_to_stop.set())
  try:
    with started(argv) as (address, _):
      terminal.say(f'the page is at {address} until Ctrl-C')
      told_to_stop.wait()
  finally:
    signal.signal(signal.SIGTERM, before)


if __name__ == '__main__':
  cli.run(main)
