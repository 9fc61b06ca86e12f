import dataclasses
import html
import re

import pytest

from zsar_jax.inference import predictions
from zsar_jax.web import chart, drawing

NONE = predictions.NONE_OF_THESE
EVIL = '<script>x</script> "${1+1}" {{value}} `'


def make(probabilities, none, names=None):
  names = names or [f'name {i}' for i in range(len(probabilities))]
  ranking = tuple(
    predictions.Ranked(
      name, p, 0.9 - 0.1 * i, None, None, (('a', 0.75), ('b', 0.25))
    )
    for i, (name, p) in enumerate(zip(names, probabilities, strict=True))
  )
  return predictions.Prediction(ranking, (), 'v.mp4', none, names[0])


def words_of(drawn):
  return ' '.join(html.unescape(re.sub('<[^>]*>', ' ', drawn)).split())


def test_bars_are_ranked_with_none_of_these_in_its_place():
  bars = chart.bars(make([0.6, 0.1], 0.3), 0.5)
  assert [bar.name for bar in bars] == ['name 0', NONE, 'name 1']
  assert [bar.value for bar in bars] == ['60.0%', '30.0%', '10.0%']
  assert [bar.is_answer for bar in bars] == [True, False, False]
  assert [bar.is_none for bar in bars] == [False, True, False]
  assert bars[0].note == 'composited from a 75%, b 25%' and not bars[1].note


@pytest.mark.parametrize(
  'threshold, name', [(0.0, 'name 0'), (0.4, 'name 0'), (0.41, NONE)]
)
def test_the_threshold_decides(threshold, name):
  made = make([0.4, 0.1], 0.5)
  assert chart.answer(made, threshold)[0] == name
  assert name in words_of(drawing.headline(made, threshold))
  (chosen,) = [bar for bar in chart.bars(made, threshold) if bar.is_answer]
  assert chosen.name == name


def test_without_probabilities_there_are_scores():
  made = make([None, None], None)
  bars = chart.bars(made, 0.5)
  assert [bar.value for bar in bars] == ['score +0.90', 'score +0.80']
  assert [bar.share for bar in bars] == pytest.approx([0.9, 0.8])
  assert 'gives no probability' in words_of(drawing.headline(made, 0.5))
  assert 'zsar-line' not in drawing.chart_html(made, 0.5, 'x')


def test_a_seen_class_is_its_own_prototype():
  ranked = make([0.5], 0.5).ranking[0]
  seen = dataclasses.replace(ranked, composited_from=(('name 0', 1.0),))
  assert 'seen in training' in chart.describe_source(seen)
  assert (
    chart.describe_source(dataclasses.replace(ranked, composited_from=())) == ''
  )


def test_many_names_are_folded():
  drawn = drawing.chart_html(make([1 / 30] * 30, 0.0), 0.5, 'names')
  assert drawn.count('<li') == 31 and '<summary>21 more</summary>' in drawn


def test_names_from_outside_are_text():
  made = make([0.6], 0.4, [EVIL])
  segment = predictions.NamedSegment(0, 2, EVIL, 0.5)
  named = [(EVIL, made), (EVIL, made)]
  for drawn in (
    drawing.message(EVIL),
    drawing.headline(made, 0.5),
    drawing.chart_html(made, 0.5, EVIL),
    drawing.warnings_html([EVIL]),
    drawing.timeline_html([segment], 2.0),
    drawing.side_by_side(named, 0.5),
  ):
    assert EVIL in html.unescape(drawn)
    assert '<script' not in drawn and '"${' not in drawn
    assert not set('${}`') & set(drawn)


def test_the_timeline_covers_the_video_and_jumps():
  named = predictions.NamedSegment
  found = [named(0, 3, 'a', 0.9), named(3, 4, NONE, 0.5), named(4, 8, 'b', 1)]
  drawn = drawing.timeline_html(found, 8.0)
  widths = re.findall(r'width:([\d.]+)%', drawn)
  assert list(map(float, widths)) == pytest.approx([37.5, 12.5, 50])
  # In the strip, then in the list.
  assert re.findall(r'data-seek="([\d.]+)"', drawn) == [
    '0.000', '3.000', '4.000',
  ] * 2  # fmt: skip
  assert 'zsar-colour-none' in drawn and drawn.count('tabindex="-1"') == 3
  assert '0:03.0 – 0:04.0 none of these 50%' in words_of(drawn)


def test_frames_are_inside_the_page():
  drawn = drawing.frames_html([(0.5, b'jpeg'), (61.25, b'more')])
  assert 'aria-label="frame at 1:01.2, jump there"' in drawn
  assert 'src="data:image/jpeg;base64,anBlZw=="' in drawn
  assert 'http' not in drawn


def test_errors_interrupt_and_notes_do_not():
  assert 'role="alert"' in drawing.message('x', is_error=True)
  assert 'role="status"' in drawing.message('x')
  assert drawing.warnings_html([]) == ''


@pytest.mark.parametrize(
  'seconds, shown',
  [(0, '0:00.0'), (59.96, '1:00.0'), (754, '12:34.0'), (3723, '1:02:03.0')],
)
def test_times_are_those_of_players(seconds, shown):
  assert chart.clock(seconds) == shown


def test_two_models_agree_or_differ():
  first, second = make([0.6], 0.4, ['a']), make([0.6], 0.4, ['b'])
  assert chart.compare([('x', first), ('y', first)], 0.5) == 'Both say: a.'
  assert chart.compare([('x', first), ('y', second)], 0.5) == (
    'They differ: x says a; y says b.'
  )
