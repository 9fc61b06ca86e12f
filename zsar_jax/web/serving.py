"""Serves the page with gradio, with all features off that it does not need."""

import os
import pathlib

import gradio as gr
from starlette import middleware

from zsar_jax.web import guard
from zsar_jax.web import page as page_lib

_HERE = pathlib.Path(__file__).parent
# Number of sessions whose last answer is kept, at most some hundred kB each.
_SESSIONS = 500


def _theme() -> gr.Theme:
  """Returns gradio's theme in blue, dark enough for white text on it.

  The fonts are the visitor's own, because gradio's would be downloaded.
  """
  font = gr.themes.Font
  theme = gr.themes.Default(
    primary_hue='blue',
    font=[font('system-ui'), font('sans-serif')],
    font_mono=[font('ui-monospace'), font('monospace')],
  )
  return theme.set(
    button_primary_background_fill='*primary_600',
    button_primary_background_fill_hover='*primary_700',
  )


def serve(
  blocks: gr.Blocks,
  page: page_lib.Page,
  *,
  host: str,
  port: int | None,
  share: bool,
  auth,
  hosts: frozenset[str] | None,
) -> tuple[str, str | None]:
  """Serves the page in background threads.

  Args:
    blocks: from `page.build`.
    page: the parts of the page.
    host: address to listen on.
    port: port to listen on; None takes a free one.
    share: whether to make a public link.
    auth: (user, password) -> whether they are valid; None needs no login.
    hosts: accepted host names; see `guard.Guard`.

  Returns:
    The address of the page, and its public link or None.

  Raises:
    OSError: the port is taken.
  """
  _, local, public = blocks.launch(
    server_name=host,
    server_port=port,
    share=share,
    auth=auth,
    prevent_thread_lock=True,
    quiet=True,
    show_error=False,
    footer_links=[],
    run_history=False,
    allowed_paths=[os.path.realpath(path) for path in page.examples],
    max_file_size=page.limits.upload_bytes,
    enable_monitoring=False,
    state_session_capacity=_SESSIONS,
    ssr_mode=False,
    pwa=False,
    mcp_server=False,
    theme=_theme(),
    css_paths=[_HERE / 'page.css'],
    head=f'<script>{(_HERE / "page.js").read_text()}</script>',
    app_kwargs={
      'middleware': [
        middleware.Middleware(
          guard.Guard, uploads=page.uploads, limits=page.limits, hosts=hosts
        )
      ],
      'docs_url': None,
      'redoc_url': None,
    },
  )
  return local, public
