#!/usr/bin/env bash
# An engineer with a generator of her own: the package of docs/write-a-plugin.md is built from that page, installed into ./site, trained,
# drawn from and exported. Run it in an empty folder.
#     examples/journeys/engineer.sh
# JOURNEY=short is for tests: one iteration.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
kimg=$([ "${JOURNEY:-}" = short ] && echo 0.008 || echo 20)
python - "$here/../../docs/write-a-plugin.md" <<'PYTHON'
import pathlib, re, sys
page = pathlib.Path(sys.argv[1]).read_text(encoding='utf-8')
for name, text in re.findall(r'<!-- file: (\S+) -->\n```\w+\n(.*?)^```$', page, re.DOTALL | re.MULTILINE):
    path = pathlib.Path('sketch-gan', name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding='utf-8')
PYTHON
python -m pip install -q --no-deps --no-build-isolation --target=site ./sketch-gan
export PYTHONPATH="$PWD/site${PYTHONPATH:+:$PYTHONPATH}"
python "$here/make_photos.py" photos 24

# Squares of 16 pixels, which her generator draws; its width is an option of its own. The control as source: no neighbour's content.
spider dataset --source=photos --dest=target.zip --transform=center-crop --resolution=16x16
spider train --data=target.zip --cfg=sketch --sketch-width=8 --batch=8 --gamma=1 --kimg="$kimg" --tick=0.008 --snap=1 \
    --workers=0 --threads=1 --spider-source=covariance:target.zip
snapshot=$(ls training-runs/0*/network-snapshot-[0-9]*.pkl | tail -n 1)
spider generate --network="$snapshot" --seeds=0-3 --outdir=pictures
spider export "$snapshot" --out=sketch.pt
