#!/usr/bin/env bash
# Trains a small GAN on the embedded neon digits, with the embedded crayon digits as its source, and draws from it: half a minute on
# one core. `spider demo --pair=digits` does the same for longer, beside a run from noise.
#     examples/laptop.sh [FOLDER]
set -euo pipefail
out=${1:-out/laptop}
mkdir -p "$out"

# neon.zip, the target, and crayon.zip, its neighbour: 1000 images of 32x32 each.
python -c 'import sys; from spider_plugin.demo.data import build_datasets; build_datasets(sys.argv[1], n=1000)' "$out/data"

spider train --outdir="$out/runs" --cfg=dcgan --data="$out/data/neon.zip" --spider-source="$out/data/crayon.zip" \
    --batch=32 --gamma=0.5 --kimg=2 --tick=1 --snap=1 --metrics=fid1k --detector=demo --threads=1 --workers=0

# Images of the last snapshot, the source image of each, and a walk between them.
snapshot=$(ls "$out"/runs/*/network-snapshot-*.pkl | tail -n 1)
spider generate --network="$snapshot" --seeds=0-7 --outdir="$out/images" --grid --sources --walk=walk.gif --frames=4
