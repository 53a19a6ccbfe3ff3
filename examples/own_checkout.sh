#!/usr/bin/env bash
# Attaches the plugin to a checkout, trains there for one tick, and draws with the checkout's own script: half a minute on one core.
#     examples/own_checkout.sh [FOLDER]
# The checkout is a copy of the reference host, which needs no GPU. For one of NVlabs/stylegan3, put its folder in place of $out/host.
set -euo pipefail
out=${1:-out/own_checkout}
mkdir -p "$out"
python -c 'import sys; from spider_plugin.demo.data import build_datasets; build_datasets(sys.argv[1], n=500)' "$out/data"
data=$(cd "$out/data" && pwd)

[ -d "$out/host" ] || spider init "$out/host"
spider detach "$out/host"       # as a checkout is when it is cloned: without the plugin's line
spider attach "$out/host"
cd "$out/host"
python train.py --outdir=runs --cfg=stylegan2 --data="$data/neon.zip" --spider-source="$data/crayon.zip" --gpus=1 --batch=8 --gamma=1 \
    --cbase=512 --cmax=16 --map-depth=2 --kimg=0.1 --tick=0.1 --snap=1 --metrics=none --threads=1 --workers=0

# The snapshot carries its source, so scripts draw from it without the plugin, too.
snapshot=$(ls runs/*/network-snapshot-*.pkl | tail -n 1)
spider detach .
python gen_images.py --network="$snapshot" --seeds=0-3 --outdir=images
