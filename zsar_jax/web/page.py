"""Builds the page: the layout of its components, and their events.

The other files of this room compute and draw what it shows.
"""

from collections.abc import Sequence
import dataclasses
import functools
import pathlib

import gradio as gr

from zsar_jax.web import desk as desk_lib
from zsar_jax.web import drawing
from zsar_jax.web import limits as limits_lib
from zsar_jax.web import uploads as uploads_lib
from zsar_jax.web import watching as watching_lib

_THRESHOLD = 0.5
# The models answer one request at a time.
_ONE_AFTER_THE_OTHER = {'concurrency_limit': 1, 'concurrency_id': 'models'}
_UNSEEN = {'show_progress': 'hidden', 'api_visibility': 'private'}
# Pictures of cameras come between them. The page itself refuses all but one, so
# several may ask.
_CAMERAS = {'concurrency_limit': 8, 'concurrency_id': 'cameras'}
# Seconds from one picture to the next: enough for every model here.
_PICTURE_EVERY = 0.1
_NO_CAMERA = 'Type names, allow the camera and press Record.'
_NO_ANSWER = 'Choose a video, type names and press Recognise.'


@dataclasses.dataclass(frozen=True)
class Page:
  """The parts of a page.

  Attributes:
    desks: one model, or two to compare.
    limits: limits of the page.
    uploads: the uploads.
    examples: paths of example videos.
    watching: the camera that the first model watches.
  """

  desks: Sequence[desk_lib.Desk]
  limits: limits_lib.Limits
  uploads: uploads_lib.Uploads
  examples: Sequence[str]
  watching: watching_lib.Watching


@dataclasses.dataclass(frozen=True)
class _Parts:
  """The components that events read and write."""

  video: gr.Video
  names: gr.Textbox
  state: gr.State
  status: gr.HTML
  answer: gr.HTML
  threshold: gr.Slider
  risk: gr.HTML
  timeline: gr.HTML
  details: gr.HTML


def example_name(path: str) -> str:
  """Returns the class name of an example, from its file name.

  Args:
    path: such as 'examples/waving_both_arms.mp4'.
  """
  return pathlib.Path(path).stem.replace('_', ' ')


def _title() -> str:
  return (
    '# Zero-shot action recognition\n'
    'Choose a video and type names of actions, in your own words. The model '
    'ranks the names. It need not have been trained on them.'
  )


def _inputs(page: Page) -> tuple[gr.Video, gr.Dropdown, gr.Textbox, gr.Button]:
  video = gr.Video(
    label=f'Video ({page.limits.describe()})',
    sources=['upload', 'webcam'],
    webcam_options=gr.WebcamOptions(mirror=False),
    include_audio=False,
    buttons=[],
    elem_id='zsar-video',
  )
  example = gr.Dropdown(
    [(example_name(path), path) for path in page.examples],
    value=None,
    label='Or choose an example (drawings)',
    visible=bool(page.examples),
    elem_id='zsar-example',
  )
  names = gr.Textbox(
    label=f'Names to choose from, one per line (up to {page.limits.names})',
    placeholder='juggling\nrowing\narm wrestling',
    lines=5,
    max_lines=12,
    elem_id='zsar-names',
  )
  button = gr.Button('Recognise', variant='primary', elem_id='zsar-go')
  return video, example, names, button


def _outputs(page: Page, video, names) -> _Parts:
  state = gr.State(None)
  html = functools.partial(gr.HTML, js_on_load=None)
  status = html(drawing.message(_NO_ANSWER), elem_id='zsar-status')
  answer = html(elem_id='zsar-answer')
  calibrated = page.desks[0].is_calibrated
  threshold = gr.Slider(
    0,
    1,
    _THRESHOLD,
    step=0.01,
    label='Answer "none of these" below this probability',
    visible=calibrated,
    buttons=[],
    elem_id='zsar-threshold',
  )
  risk = html(elem_id='zsar-risk')
  timeline = html(elem_id='zsar-timeline')
  details = html(elem_id='zsar-details')
  return _Parts(
    video, names, state, status, answer, threshold, risk, timeline, details
  )


def _say(words: str, *, is_error: bool = False) -> str:
  return drawing.message(words, is_error=is_error)


def _asked(page: Page, video, names: str):
  """Returns the path of the upload, and the names, of an event.

  Raises:
    ValueError: one of them cannot be used.
  """
  if not video:
    raise ValueError('Choose or record a video first.')
  path = page.uploads.resolve(str(video['path']))
  return path, limits_lib.parse_names(names, page.limits.names)


def _recognise(page: Page):
  """Returns the function of the button Recognise."""
  desk = page.desks[0]

  # Gradio passes a progress bar to functions that have one as a default.
  bar = gr.Progress()

  def recognise(video, names, threshold, request: gr.Request, progress=bar):
    try:
      path, names = _asked(page, video, names)
      answer = desk.answer(path, names)
    except ValueError as e:
      yield _say(str(e), is_error=True), '', '', '', '', None
      return
    kept = dataclasses.replace(answer, frames=())
    shown = (_answer_html(kept, threshold), _risk_html(kept, threshold))
    details = drawing.warnings_html(answer.prediction.warnings)
    details += drawing.frames_html(answer.frames)
    if not answer.is_long:
      yield '', *shown, '', details, kept
      return
    looking = _say('The video is long: computing a timeline …')
    yield looking, *shown, '', details, kept

    def tell(done, total):
      # Stop if the visitor has left or has chosen another video.
      if not page.uploads.holds(request.session_hash, path):
        raise desk_lib.Gone
      progress((done, total), desc='windows of the video')

    try:
      found = desk.segments(path, names, tell)
    except desk_lib.Gone:
      return
    except desk_lib.Refused as e:
      yield _say(str(e), is_error=True), *shown, '', details, kept
      return
    timeline = drawing.timeline_html(found, answer.duration)
    yield '', *shown, timeline, details, kept

  return recognise


def _answer_html(answer: desk_lib.Answer | None, threshold: float) -> str:
  if answer is None:
    return ''
  return drawing.headline(answer.prediction, threshold) + drawing.chart_html(
    answer.prediction, threshold, 'names, most probable first'
  )


def _risk_html(answer: desk_lib.Answer | None, threshold: float) -> str:
  words = answer.reliability(threshold) if answer else ''
  return _say(f'{words[:1].upper()}{words[1:]}.') if words else ''


def _compare(page: Page):
  """Returns the function of the button on the tab Compare."""

  def compare(video, names, threshold):
    try:
      path, names = _asked(page, video, names)
      named = [
        (desk.title, desk.answer(path, names).prediction) for desk in page.desks
      ]
    except ValueError as e:
      return _say(str(e), is_error=True)
    return drawing.side_by_side(named, threshold)

  return compare


def _take(page: Page):
  """Returns the function that runs when a video is chosen or removed."""

  def take(video, request: gr.Request):
    path = None
    if video:
      try:
        path = page.uploads.resolve(str(video['path']))
      except ValueError:
        path = None
    page.uploads.hold(request.session_hash, path)

  return take


def _take_example(page: Page):
  """Returns the function that runs when an example is chosen."""
  all_names = '\n'.join(map(example_name, page.examples))

  def take(path, names):
    if path not in page.examples:
      return None, names
    return path, names if names.strip() else all_names

  return take


def _connect(page: Page, parts: _Parts, example, button) -> None:
  asked = [parts.video, parts.names, parts.threshold]
  button.click(
    _recognise(page),
    asked,
    [
      parts.status,
      parts.answer,
      parts.risk,
      parts.timeline,
      parts.details,
      parts.state,
    ],
    preprocess=False,
    show_progress_on=parts.status,
    api_visibility='private',
    **_ONE_AFTER_THE_OTHER,
  )
  parts.threshold.change(
    lambda answer, threshold: (
      _answer_html(answer, threshold),
      _risk_html(answer, threshold),
    ),
    [parts.state, parts.threshold],
    [parts.answer, parts.risk],
    queue=False,
    trigger_mode='always_last',
    **_UNSEEN,
  )
  parts.video.change(
    _take(page), [parts.video], None, preprocess=False, queue=False, **_UNSEEN
  )
  example.input(
    _take_example(page),
    [example, parts.names],
    [parts.video, parts.names],
    queue=False,
    **_UNSEEN,
  )


def _connect_comparison(page: Page, parts: _Parts, button, output) -> None:
  button.click(
    _compare(page),
    [parts.video, parts.names, parts.threshold],
    output,
    preprocess=False,
    api_visibility='private',
    **_ONE_AFTER_THE_OTHER,
  )


def _seen_html(seen: watching_lib.Seen) -> str:
  return drawing.watching_html(
    seen.window, seen.segments
  ) + drawing.warnings_html(seen.warnings)


def _camera_tab(page: Page, names: gr.Textbox) -> None:
  """A camera, and what happens before it."""
  camera = gr.Image(
    sources=['webcam'],
    streaming=True,
    webcam_options=gr.WebcamOptions(
      mirror=False,
      constraints={
        'video': {'width': {'ideal': 640}, 'height': {'ideal': 480}}
      },
    ),
    label=f'Camera (up to {page.limits.minutes:g} min; nothing is kept)',
    buttons=[],
    elem_id='zsar-camera',
  )
  seen = gr.HTML(
    drawing.message(_NO_CAMERA), js_on_load=None, elem_id='zsar-seen'
  )

  def look(picture, names, request: gr.Request):
    try:
      found = page.watching.see(
        request.session_hash,
        (picture or {}).get('url'),
        lambda: limits_lib.parse_names(names, page.limits.names),
      )
    except ValueError as e:
      return _say(str(e), is_error=True)
    if not found.is_new and found.window is not None:
      return gr.skip()
    return _seen_html(found)

  def stop(request: gr.Request):
    found = page.watching.stop(request.session_hash)
    if found is None:
      return gr.skip()
    return _seen_html(found)

  camera.stream(
    look,
    [camera, names],
    seen,
    preprocess=False,
    stream_every=_PICTURE_EVERY,
    **_CAMERAS,
    **_UNSEEN,
  ).then(stop, None, seen, queue=False, **_UNSEEN)


def build(page: Page) -> gr.Blocks:
  """Builds the page.

  Args:
    page: its parts.

  Returns:
    The page, not served yet.
  """
  two = len(page.desks) > 1
  with gr.Blocks(title='zsar: name actions', analytics_enabled=False) as blocks:
    gr.Markdown(_title())
    with gr.Row(equal_height=False):
      with gr.Column(scale=2, min_width=280):
        video, example, names, button = _inputs(page)
      with gr.Column(scale=3, min_width=280):
        with gr.Tab(page.desks[0].title if two else 'Video'):
          parts = _outputs(page, video, names)
        if two:
          with gr.Tab('Compare'):
            both = gr.Button(
              f'Compare {page.desks[0].title} and {page.desks[1].title}',
              elem_id='zsar-compare',
            )
            compared = gr.HTML(js_on_load=None, elem_id='zsar-compared')
          _connect_comparison(page, parts, both, compared)
        with gr.Tab('Camera'):
          _camera_tab(page, names)
    _connect(page, parts, example, button)
    blocks.unload(_leave(page))
  return blocks.queue(max_size=page.limits.waiting, api_open=False)


def _leave(page: Page):
  """Returns the function that runs when a page is closed."""

  def leave(request: gr.Request):
    page.uploads.release(request.session_hash)
    page.watching.stop(request.session_hash)

  return leave
