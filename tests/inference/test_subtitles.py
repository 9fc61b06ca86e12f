import av
import pytest

from zsar_jax.inference import predictions, subtitles

SEGMENTS = [
  predictions.NamedSegment(0.0, 1.9996, 'juggling <b>3</b> & more', 0.876),
  predictions.NamedSegment(1.9996, 4000.25, 'none of these', 1.0),
]


def test_what_they_look_like():
  assert subtitles.subtitles(SEGMENTS, '.srt') == (
    '1\n00:00:00,000 --> 00:00:02,000\njuggling ‹b>3‹/b> & more (88%)\n\n'
    '2\n00:00:02,000 --> 01:06:40,250\nnone of these (100%)\n'
  )
  assert subtitles.subtitles(SEGMENTS, '.vtt') == (
    'WEBVTT\n\n'
    '1\n00:00:00.000 --> 00:00:02.000\n'
    'juggling &lt;b&gt;3&lt;/b&gt; &amp; more (88%)\n\n'
    '2\n00:00:02.000 --> 01:06:40.250\nnone of these (100%)\n'
  )


def test_players_find_no_tags_in_names():
  named = predictions.NamedSegment(0.0, 1.0, r'{\an8}<i>up', 0.5)
  assert '(\\an8)‹i>up (50%)' in subtitles.subtitles([named], '.srt')


@pytest.mark.parametrize('suffix', subtitles.SUFFIXES)
def test_ffmpeg_reads_them(tmp_path, suffix):
  path = tmp_path / f's{suffix}'
  path.write_text(subtitles.subtitles(SEGMENTS, suffix), encoding='utf-8')
  with av.open(str(path)) as container:
    packets = [p for p in container.demux(container.streams[0]) if p.size]
  times = [
    (float(p.pts * p.time_base), float(p.duration * p.time_base))
    for p in packets
  ]
  assert times == [(0.0, 2.0), (2.0, pytest.approx(3998.25))]
