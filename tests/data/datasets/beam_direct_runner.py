"""The first stage on Beam's direct runner; needs `.[beam]`.

Not part of the suite, because Beam wants an environment of its own:

python -m pytest tests/data/datasets/beam_direct_runner.py
"""

import pathlib

from tests import videos
from zsar_jax import prepare
from zsar_jax.data.datasets import records


def test_beam_stages_and_prepare_packs(tmp_path, capfd):
  folder = tmp_path / 'v'
  for i in range(5):
    path = folder / f'walk/{i}.mp4'
    path.parent.mkdir(parents=True, exist_ok=True)
    videos.write_video(path, videos.numbered_frames(5 + i))
  (folder / 'walk/empty.mp4').write_bytes(b'')
  argv = [
    'prepare',
    f'--source={folder}',
    f'--data_dir={tmp_path}/data',
    '--storage=frames',
  ]
  prepare.main([*argv, '--stage_only', '--beam_flag=--runner=DirectRunner'])
  out = capfd.readouterr().out
  assert '5 videos are usable' in out and '1 videos are unusable' in out
  # All of it was in the cache when the own processes looked.
  assert 'staged 6 videos, 6 of them in an earlier run; 1 cannot be used' in out
  assert len(list(pathlib.Path(tmp_path).rglob('*.safetensors'))) == 6
  prepare.main(argv)
  dataset_dir = capfd.readouterr().out.splitlines()[-1].split(': ')[1]
  index = records.open_split(dataset_dir, 'videos').index
  assert index.num_frames == (5, 6, 7, 8, 9)
