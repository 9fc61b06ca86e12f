"""A visitor's camera: whose it is, and what the model says of it.

One camera is watched at a time. It is free again when its visitor stops it,
closes the page, or sends nothing for some seconds. Nothing that it shows is
kept.
"""

import collections
from collections.abc import Callable, Sequence
import dataclasses
import threading
import time

from zsar_jax.data import isolated, pictures
from zsar_jax.inference import predictions
from zsar_jax.web import desk as desk_lib
from zsar_jax.web import limits as limits_lib

_PREFIX = 'data:image/jpeg;base64,'
_NAME = 'the camera'
# Segments that are shown.
_LAST = 8
# Seconds without a picture after which the camera is anybody's.
_IDLE = 10.0


@dataclasses.dataclass(frozen=True)
class Seen:
  """What the page shows of a camera.

  Attributes:
    window: the newest; None until there is one.
    segments: the last ones that have ended, newest first.
    warnings: what to know before believing it.
    is_new: whether it differs from what was shown before.
  """

  window: predictions.NamedWindow | None
  segments: tuple[predictions.NamedSegment, ...]
  warnings: tuple[str, ...]
  is_new: bool


class _Watch:
  """The camera of one visitor."""

  def __init__(self, model, session: str, names: Sequence[str], now: float):
    self.session, self.names = session, tuple(names)
    self.began = self.last = now
    self.prep = model.recognizer.prep
    model.clear_classes().add_classes(names)
    domain = model.bank.domain if model.bank else ''
    self._warnings = (
      *predictions.domain_warnings(domain, _NAME, None),
      *model.segment_warnings,
    )
    self._stream = model.open_stream(are_views=True, skip_gaps=True)
    self._size: tuple[int, int] | None = None
    # The child is this visitor's alone, and goes with the camera.
    self.pool = isolated.Pool(1)
    self.window: predictions.NamedWindow | None = None
    self.segments: collections.deque = collections.deque(maxlen=_LAST)

  def put(self, jpeg: str, now: float) -> bool:
    """Takes a picture; returns whether there is something new."""
    view, size = pictures.read_view(self.pool, jpeg, _NAME, self.prep)
    if size != (self._size or size):
      raise ValueError('The camera changes the size of its pictures.')
    self._size = size
    return self._keep(self._stream.add(now, view))

  def finish(self) -> None:
    """Ends the stream; what was open becomes segments."""
    self.pool.close()
    try:
      self._keep(self._stream.finish())
    except ValueError:
      pass  # nothing was seen

  def _keep(self, events) -> bool:
    is_new = False
    for event in events:
      is_new = True
      if isinstance(event, predictions.NamedWindow):
        self.window = event
      else:
        self.segments.appendleft(event)
    return is_new

  def seen(self, is_new: bool) -> Seen:
    return Seen(self.window, tuple(self.segments), self._warnings, is_new)


class Watching:
  """Gives the camera to one visitor after the other. For any thread."""

  def __init__(
    self,
    desk: desk_lib.Desk,
    limits: limits_lib.Limits,
    clock: Callable[[], float] = time.monotonic,
  ):
    """Starts without a visitor.

    Args:
      desk: has the model.
      limits: of the page; nobody has the camera for longer than a video lasts.
      clock: seconds.
    """
    self._desk, self._limits, self._clock = desk, limits, clock
    self._model = None
    self._lock = threading.Lock()
    self._watch: _Watch | None = None

  def see(
    self, session: str, picture: str | None, names: Callable[[], Sequence[str]]
  ) -> Seen:
    """Takes a picture of a visitor's camera.

    Args:
      session: any text that names the visitor.
      picture: JPEG, as a data URL.
      names: returns what to choose from, and raises ValueError if nothing.

    Returns:
      What there is to show.

    Raises:
      Refused: another camera is watched, this one was watched for too long, or
        its pictures cannot be used.
      ValueError: of `names`.
    """
    with self._lock:
      now = self._clock()
      watch = self._watch
      if watch is not None and watch.session != session:
        if now - watch.last <= _IDLE:
          raise desk_lib.Refused(
            'Somebody else has a camera running on this page. One can be '
            'watched at a time: try again when it has stopped.'
          )
        self._end()
      chosen = tuple(names())
      if self._watch is not None and self._watch.names != chosen:
        self._end()
      if self._watch is None:
        self._watch = self._begin(session, chosen, now)
      watch = self._watch
      if now - watch.began > 60 * self._limits.minutes:
        self._end()
        raise desk_lib.Refused(
          f'The camera was watched for {self._limits.minutes:g} min, which is '
          'all that one visitor gets. Stop it, and start it again.'
        )
      if not (picture or '').startswith(_PREFIX):
        raise desk_lib.Refused('The camera has sent something else than JPEG.')
      try:
        seen = watch.seen(watch.put(picture.removeprefix(_PREFIX), now))
        # The first answer takes long.
        watch.last = self._clock()
        return seen
      except ValueError as e:
        self._end()
        raise desk_lib.Refused(desk_lib.in_words(e, _NAME)) from e

  def stop(self, session: str) -> Seen | None:
    """Ends a visitor's camera.

    Args:
      session: of the visitor.

    Returns:
      What there is to show; None if the camera was somebody else's, or
      nobody's.
    """
    with self._lock:
      watch = self._watch
      if watch is None or watch.session != session:
        return None
      self._end()
      return watch.seen(True)

  def close(self) -> None:
    """Ends whoever's camera it is."""
    with self._lock:
      self._end()

  def _begin(self, session: str, names: Sequence[str], now: float) -> _Watch:
    self._model = self._model or self._desk.another_model()
    try:
      return _Watch(self._model, session, names, now)
    except ValueError as e:
      # What follows is for whoever trains models.
      why = str(e).partition(';')[0]
      raise desk_lib.Refused(f'This camera cannot be watched: {why}.') from e

  def _end(self) -> None:
    watch, self._watch = self._watch, None
    if watch is not None:
      watch.finish()
