"""Segments as subtitles, in SubRip (.srt) or WebVTT (.vtt)."""

from collections.abc import Sequence
import html

from zsar_jax.inference import predictions

SUFFIXES = ('.srt', '.vtt')
# WebVTT has escapes. In SubRip `<` and `{` begin a tag and nothing escapes
# them, so letters that look like them take their place.
_NO_TAGS = str.maketrans('<{}', '‹()')


def subtitles(segments: Sequence[predictions.NamedSegment], suffix: str) -> str:
  """Writes segments as the text of a subtitle file.

  Args:
    segments: of a video.
    suffix: one of `SUFFIXES`.

  Returns:
    The text of the file, to be saved as UTF-8.
  """
  is_vtt = suffix == '.vtt'
  blocks = ['WEBVTT\n'] if is_vtt else []
  for number, segment in enumerate(segments, 1):
    times = ' --> '.join(
      _clock(seconds, '.' if is_vtt else ',')
      for seconds in (segment.start, segment.end)
    )
    name = segment.name
    name = html.escape(name, False) if is_vtt else name.translate(_NO_TAGS)
    blocks.append(f'{number}\n{times}\n{name} ({segment.score:.0%})\n')
  return '\n'.join(blocks)


def _clock(seconds: float, mark: str) -> str:
  thousandths = round(1000 * max(0.0, seconds))
  minutes, thousandths = divmod(thousandths, 60_000)
  hours, minutes = divmod(minutes, 60)
  whole, rest = divmod(thousandths, 1000)
  return f'{hours:02d}:{minutes:02d}:{whole:02d}{mark}{rest:03d}'
