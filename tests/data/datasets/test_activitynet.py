import json

import pytest

from tests.data.datasets import miniatures
from zsar_jax.data import class_names
from zsar_jax.data.datasets import activitynet
from zsar_jax.data.protocols import known_classes

_DATABASE = {
  # Two segments; its file is there.
  '---9CpRcKoU': ('training', 14.07, [(0.01, 12.644, 'Drinking beer'),
                                      (12.7, 14.9, 'Drinking beer')]),
  # Its file is missing.
  'o1WPnnvs00I': ('training', 229.86, [(12.75, 50.0, 'Grooming dog')]),
  # Its file has no 'v_' and another suffix; one segment each passes its end,
  # is empty and begins before 0.
  'HWV_ccmZVPA': ('validation', 102.02, [(1.0, 110.0, 'Fun sliding down'),
                                         (5.0, 5.0, 'Fun sliding down'),
                                         (-1.0, 5.0, 'Fun sliding down'),
                                         (3.5, 9.25, 'Rock-paper-scissors')]),
  'n7mcgpmeZiE': ('testing', 77.5, []),
  # Its file is damaged.
  'xxDamagedxx': ('validation', 10.0, [(0.0, 10.0, 'Zumba')]),
}  # fmt: skip


def _annotations(database=None):
  return {
    'taxonomy': [
      {'parentName': 'Root', 'nodeName': 'Sports', 'nodeId': 1, 'parentId': 0}
    ],
    'version': 'VERSION 1.3',
    'database': {
      youtube: {
        'duration': duration,
        'subset': subset,
        'resolution': '320x240',
        'url': f'https://www.youtube.com/watch?v={youtube}',
        'annotations': [
          {'label': label, 'segment': [start, end]}
          for start, end, label in segments
        ],
      }
      for youtube, (subset, duration, segments) in (
        database or _DATABASE
      ).items()
    },
  }


def make_source(tmp_path):
  miniatures.put_video(tmp_path / 'v1-2/train/v_---9CpRcKoU.mp4', seconds=15)
  miniatures.put_video(tmp_path / 'v1-3/train_val/HWV_ccmZVPA.mkv', seconds=15)
  miniatures.put_video(tmp_path / 'v1-2/test/v_n7mcgpmeZiE.mp4', seconds=15)
  miniatures.put_video(tmp_path / 'v1-2/val/v_xxDamagedxx.webm', damaged=True)
  miniatures.write_json(tmp_path / 'activity_net.v1-3.min.json', _annotations())
  return tmp_path


@pytest.fixture
def source(tmp_path):
  return make_source(tmp_path)


def test_segments_are_videos(source):
  made = activitynet.read_manifest(str(source))
  assert made.dataset == 'activitynet'
  assert made.splits == ('train', 'validation')
  assert len(made.class_names) == len(known_classes.read('activitynet200'))
  assert [(e.id, e.split, e.start, e.end) for e in made.entries] == [
    ('v_---9CpRcKoU/0', 'train', 0.01, 12.644),
    # It passes the end by less than 1 s: by rounding.
    ('v_---9CpRcKoU/1', 'train', 12.7, 14.07),
    ('v_HWV_ccmZVPA/3', 'validation', 3.5, 9.25),
    ('v_xxDamagedxx/0', 'validation', 0.0, 10.0),
  ]
  assert [entry.group for entry in made.entries] == [
    '---9CpRcKoU', '---9CpRcKoU', 'HWV_ccmZVPA', 'xxDamagedxx',
  ]  # fmt: skip
  assert made.entries[2].label == class_names.canonical_name(
    'Rock-paper-scissors'
  )
  assert made.entries[2].path.endswith('v1-3/train_val/HWV_ccmZVPA.mkv')
  readable = [miniatures.is_readable(entry.path) for entry in made.entries]
  # The damaged file is listed: checking comes later.
  assert readable == [True, True, True, False]


def test_missing_videos_and_absent_classes(source):
  made = activitynet.read_manifest(str(source))
  videos = [video for video in made.missing if not video.id.endswith('/*')]
  assert [(v.id, v.label, v.split) for v in videos] == [
    ('v_o1WPnnvs00I/0', 'grooming dog', 'train')
  ]
  assert len(made.missing) == 1 + 200 - 4


def test_what_is_left_out_is_counted(source, caplog):
  miniatures.put_video(source / 'more' / 'v_unknown.mp4')
  activitynet.read_manifest(str(source))
  for line in (
    'left out 3 segments outside their video: v_HWV_ccmZVPA/0, '
    'v_HWV_ccmZVPA/1, v_HWV_ccmZVPA/2',
    'left out 1 videos of the testing subset: n7mcgpmeZiE',
    'left out 1 videos that the annotations do not name: v_unknown.mp4',
  ):
    assert line in caplog.text


def test_annotations_may_lie_elsewhere(source, tmp_path_factory):
  path = tmp_path_factory.mktemp('annotations') / 'anet.json'
  (source / 'activity_net.v1-3.min.json').rename(path)
  made = activitynet.read_manifest(str(source), annotations=str(path))
  assert len(made.entries) == 4
  miniatures.write_json(source / 'other.json', {})
  with pytest.raises(FileNotFoundError, match=r'\(there is other.json\)'):
    activitynet.read_manifest(str(source))
  with pytest.raises(FileNotFoundError, match='no such annotation file'):
    activitynet.read_manifest(str(source), annotations=str(path) + 'x')


def test_one_video_in_two_files_raises(source):
  miniatures.put_video(source / 'v1-3' / 'v_---9CpRcKoU.mkv')
  with pytest.raises(ValueError, match="both the video '---9CpRcKoU'"):
    activitynet.read_manifest(str(source))


@pytest.mark.parametrize(
  'content, message',
  [
    ('{', 'is not a JSON file'),
    ('[]', 'expected an object with "version" and the object "database"'),
    ('{"version": "VERSION 1.2", "database": {}}', "expected 'VERSION 1.3'"),
    (
      '{"version": "VERSION 1.3", "database": {"a": {"annotations": 3}}}',
      'a: expected an object with the list "annotations"',
    ),
    (
      json.dumps(_annotations({'a': ('train', 1.0, [])})),
      "a: unknown subset 'train', expected training, validation or testing",
    ),
    (
      json.dumps(_annotations({'a': ('training', 9.0, [(0, 1, 'Zumbaa')])})),
      "a: 'Zumbaa' is not a class of activitynet200; nearest are 'zumba'",
    ),
    (
      json.dumps(_annotations({'a': ('training', 9.0, [(0, 'x', 'Zumba')])})),
      'a: annotation 0 is not',
    ),
    (json.dumps(_annotations({'a': ('testing', 9.0, [])})), 'no video of act'),
  ],
)
def test_annotations_of_another_format_raise(source, content, message):
  (source / 'activity_net.v1-3.min.json').write_text(content)
  with pytest.raises(ValueError, match=message):
    activitynet.read_manifest(str(source))


def test_segment_times_must_be_finite(source, caplog):
  bad = [(0.0, float('inf'), 'Zumba'), (float('nan'), 3.0, 'Zumba')]
  database = {
    '---9CpRcKoU': ('training', float('inf'), [*bad, (1.0, 2.0, 'Zumba')])
  }
  miniatures.write_json(
    source / 'activity_net.v1-3.min.json', _annotations(database)
  )
  made = activitynet.read_manifest(str(source))
  assert [entry.id for entry in made.entries] == ['v_---9CpRcKoU/2']
  assert 'left out 2 segments outside their video' in caplog.text
