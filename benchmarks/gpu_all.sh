#!/usr/bin/env bash
# Everything that only a CUDA machine can show, in one command and a few minutes: the tests, those for CUDA included; a short
# fp16 StyleGAN2 run through the attached line with path length, style mixing and R1; its snapshot in the host's own scripts.
# Without CUDA it rehearses the same on the cpu, in fp32. Usage: benchmarks/gpu_all.sh [OUTDIR], in an environment where the
# plugin and its test extra are installed.
set -euo pipefail
cd "$(dirname "$0")/.."
out=$(mkdir -p "${1:-out/gpu}" && cd "${1:-out/gpu}" && pwd)
export SPIDER_CACHE_DIR="$out/cache" DNNLIB_CACHE_DIR="$out/cache"

python -c 'import torch; print("torch", torch.__version__, torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu")' | tee "$out/device.txt"
python -m pytest -n 2 --dist loadfile -k 'cuda or bank or bit_hash or networks or spider' | tee "$out/tests.txt"

python -c "from spider_plugin.demo.data import build_datasets; build_datasets('$out/data', n=2000)"
python -m spider_plugin.cli train --outdir="$out/runs" --cfg=stylegan2 --data="$out/data/neon.zip" --batch=32 --gamma=1 --kimg=4 \
    --tick=1 --snap=4 --cbase=2048 --cmax=64 --metrics=fid1k --detector=demo --spider-source="$out/data/crayon.zip" | tee "$out/train.txt"
snapshot=$(ls "$out"/runs/*/network-snapshot-*.pkl | tail -n 1)
python reference_host/gen_images.py --network="$snapshot" --seeds=0-7 --outdir="$out/images"
python -m spider_plugin.cli metrics --network="$snapshot" --metrics=fid1k --detector=demo --data="$out/data/neon.zip" | tee "$out/metrics.txt"

# Seconds per kimg beside NVlabs/stylegan3's with its compiled ops, where $SPIDER_HOSTS holds a checkout and there is CUDA.
if [ -n "${SPIDER_HOSTS:-}" ] && grep -qv ' cpu$' "$out/device.txt"; then
    python benchmarks/host_speed.py --device=cuda --out="$out/host_speed_cuda.json" | tee "$out/host_speed.txt"
fi
