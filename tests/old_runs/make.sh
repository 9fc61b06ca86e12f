#!/usr/bin/env bash
# Adds what a commit's code leaves behind to the archive: make.sh COMMIT [PYTHON]
# See README.md beside it.
set -euo pipefail
commit=$1 python=${2:-python}
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
clean_up() {
  git -C "$here" worktree remove --force "$work/code" || true
  rm -rf "$work"
}
trap clean_up EXIT
git -C "$here" worktree add --detach "$work/code" "$commit"
mkdir "$work/made"
[ ! -e "$here/made.tar.xz" ] || tar -xJf "$here/made.tar.xz" -C "$work/made"
# Paths in a run's config are relative to here. What the archive held of this
# commit is made anew.
rm -rf "${work:?}/made/$commit"
mkdir "$work/made/$commit"
cd "$work/made/$commit"
export PYTHONPATH="$work/code" JAX_PLATFORMS=cpu TFDS_DATA_DIR="$PWD/data"

"$python" -m zsar_jax.prepare --dataset=stick_figures --data_dir=data \
  --option=num_seen=4 --option=clips_per_class=2 \
  --option=test_clips_per_class=1 --option=nuisance=0.1 --option=size=16
dataset=$(echo data/stick_figures/*/*)

# The shipped vocabulary's letters and the words of the classes.
"$python" - "$work/code" "$dataset" <<'VOCABULARY'
import pathlib, sys
code, dataset = map(pathlib.Path, sys.argv[1:])
words = set((dataset / 'label.labels.txt').read_text().split())
pieces = (code / 'zsar_jax/data/vocabulary.txt').read_text().split('\n')
kept = [
  piece for piece in pieces
  if piece.startswith('[') or len(piece.removeprefix('##')) == 1
  or piece in words
]
pathlib.Path('vocabulary.txt').write_text('\n'.join(kept) + '\n')
VOCABULARY

mapfile -t changes <"$here/flags.txt"
"$python" -m zsar_jax.main --config="$work/code/configs/demo.py:smoke" \
  --workdir=run "${changes[@]/#/--config.}"
"$python" -m zsar_jax.bank export --workdir=run --output=exported
"$python" - <<'LABELS'
import csv, glob, json
(path,) = glob.glob('data/stick_figures/*/*/metadata.json')
with open(path) as f:
  videos = json.load(f)['videos']['test']
with open('labels.csv', 'w', newline='') as f:
  rows = csv.writer(f)
  rows.writerow(['id', 'label', 'group'])
  rows.writerows(zip(videos['id'], videos['label'], videos['group']))
LABELS
# Which process held the run; TFDS's empty folders; and the optimiser's state of
# the last step, which is never read again.
rm -rf run/.lock data/downloads run/checkpoints/2/training
# One archive, because commits leave many of the same bytes behind.
tar --sort=name --owner=0 --group=0 --numeric-owner -C "$work/made" -c . |
  xz -9e >"$work/made.tar.xz"
mv "$work/made.tar.xz" "$here/made.tar.xz"
