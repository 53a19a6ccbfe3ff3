#!/usr/bin/env bash
# A researcher with a checkout of NVlabs/stylegan3 and a pickle: attach, look, train from the pickle with a source, detach.
# Run it in an empty folder.
#     SPIDER_HOSTS=FOLDER examples/journeys/researcher.sh PICKLE DATA.zip SOURCE.zip
# FOLDER holds the checkout as stylegan3; it is copied. PICKLE is a StyleGAN2 network of --cfg=stylegan2 at the resolution of DATA.
# JOURNEY=short is for tests: a narrow network, a thousand images, on the CPU.
set -euo pipefail
: "${SPIDER_HOSTS:?set it to the folder that holds a checkout of stylegan3}"
pickle=$(realpath "$1") data=$(realpath "$2") source=$(realpath "$3")
size=(--gpus=1 --batch=32 --gamma=5 --kimg=1000)
if [ "${JOURNEY:-}" = short ]; then
    export SPIDER_DEVICE=cpu
    size=(--gpus=1 --batch=32 --gamma=1 --cbase=256 --cmax=16 --map-depth=2 --kimg=1 --tick=1 --snap=1 --workers=1 --metrics=none)
fi
cp -r "$SPIDER_HOSTS/stylegan3" stylegan3

spider attach stylegan3
spider doctor stylegan3 || true
cd stylegan3
train=(python train.py --outdir=../runs --cfg=stylegan2 --data="$data" --resume="$pickle" --spider-source="$source" "${size[@]}")
# What would be trained, without training: the plan of the resume and the edited config. Then the training.
"${train[@]}" --dry-run
"${train[@]}"
cd ..

# What there is: the page of the run, and pictures of the newest snapshot beside the source images of which they are made.
spider report runs/0*
spider generate --network="$(ls runs/0*/network-snapshot-[0-9]*.pkl | tail -n 1)" --seeds=0-3 --outdir=pictures --grid

spider detach stylegan3
diff -r -x __pycache__ "$SPIDER_HOSTS/stylegan3" stylegan3 && echo 'The checkout is as it was.'
