#!/usr/bin/env bash
# A researcher with a checkout of NVlabs/stylegan3 and a pickle: attach, look, train from the pickle with a source, detach.
# Run it in an empty folder.
#     SPIDER_HOSTS=FOLDER examples/journeys/researcher.sh PICKLE DATA.zip SOURCE.zip
# FOLDER holds the checkout as stylegan3; it is copied. PICKLE is a StyleGAN2 network of --cfg=stylegan2 at the resolution of DATA.
# JOURNEY=short is for tests: a narrow network, one tick, on the CPU.
set -euo pipefail
: "${SPIDER_HOSTS:?set it to the folder that holds a checkout of stylegan3}"
pickle=$(realpath "$1") data=$(realpath "$2") source=$(realpath "$3")
size=(--gpus=1 --batch=32 --gamma=5 --kimg=1000)
if [ "${JOURNEY:-}" = short ]; then
    export SPIDER_DEVICE=cpu
    size=(--gpus=1 --batch=4 --gamma=1 --cbase=256 --cmax=16 --map-depth=2 --kimg=1 --tick=1 --workers=1)
fi
cp -r "$SPIDER_HOSTS/stylegan3" stylegan3

spider attach stylegan3
spider doctor stylegan3 || true
cd stylegan3
# What would be trained, without training: the plan of the resume and the edited config.
python train.py --outdir=runs --cfg=stylegan2 --data="$data" --resume="$pickle" --spider-source="$source" "${size[@]}" --dry-run
if [ "${JOURNEY:-}" != short ]; then
    python train.py --outdir=runs --cfg=stylegan2 --data="$data" --resume="$pickle" --spider-source="$source" "${size[@]}"
    spider report runs/0*
fi
cd ..
spider detach stylegan3
diff -r -x __pycache__ -x runs "$SPIDER_HOSTS/stylegan3" stylegan3 && echo 'The checkout is as it was.'
