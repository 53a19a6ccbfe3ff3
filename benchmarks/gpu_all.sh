#!/usr/bin/env bash
# Everything that only a CUDA machine can show, in one command and under 9 minutes on an H100: the kernels are built, tested,
# run under compute-sanitizer and timed against a copy; the layers' benchmarks; a short fp16 StyleGAN2 training through the attached
# line with path length, style mixing and R1, and its snapshot in the host's own scripts. Without CUDA it rehearses what it can on the
# cpu, with small sizes.
#     benchmarks/gpu_all.sh [OUTDIR]
# in an environment where the plugin and its test extra are installed, nvcc on PATH. Figures are printed beside what was expected of
# an H100 (common/expected.py). Every step has a bound in seconds, and all of
# them one; a step that fails is recorded in OUTDIR/steps.json and the rest goes on. Exit code: 0 where all steps passed, else 1.
set -uo pipefail
cd "$(dirname "$0")/.."
out=$(mkdir -p "${1:-out/gpu}" && cd "${1:-out/gpu}" && pwd)
export SPIDER_CACHE_DIR="$out/cache" DNNLIB_CACHE_DIR="$out/cache" PYTHONUNBUFFERED=1
python -c 'import torch; print("torch", torch.__version__, torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu")' \
    | tee "$out/device.txt"
grep -q ' cpu$' "$out/device.txt" && cuda= || cuda=yes
[ -n "$cuda" ] && scale=1 || scale=5     # a cpu gets more time
total=$((530 * scale))
failed=0
: > "$out/steps.jsonl"

step() {    # step NAME SECONDS COMMAND...
    local name=$1 bound=$(($2 * scale)) start=$SECONDS code
    shift 2
    [ "$bound" -le $((total - start)) ] || bound=$((total - start))
    if [ "$bound" -le 0 ]; then failed=1; skip "$name" 'no time left'; return; fi
    echo "=== $name (at most $bound s)"
    timeout --kill-after=10 "$bound" "$@" > "$out/$name.txt" 2>&1
    code=$?
    tail -n 5 "$out/$name.txt"
    [ "$code" = 0 ] || { failed=1; echo "=== $name FAILED with code $code: $out/$name.txt"; }
    echo "{\"step\": \"$name\", \"code\": $code, \"seconds\": $((SECONDS - start)), \"bound\": $bound}" >> "$out/steps.jsonl"
}

skip() {    # skip NAME REASON
    echo "=== $1 skipped: $2"
    echo "{\"step\": \"$1\", \"skipped\": \"$2\"}" >> "$out/steps.jsonl"
}

# Kernels: build, tests, sanitizers, bandwidth.
step build 90 python -m benchmarks.common.kernels.builds
library=$(awk 'END { print $1 }' "$out/build.txt")
[ -n "$cuda" ] && export SPIDER_NVCC=require
step test_kernels 120 python -m pytest -q -rs tests/kernels/test_cuda.py tests/kernels/test_emulator.py
step test_ops 60 python -m pytest -q -rs tests/ops
for tool in memcheck racecheck initcheck synccheck; do
    if [ -z "$cuda" ]; then skip "sanitizer_$tool" 'no CUDA device'
    elif ! command -v compute-sanitizer > /dev/null; then skip "sanitizer_$tool" 'no compute-sanitizer on PATH'
    else step "sanitizer_$tool" 60 env PYTHONPATH=. compute-sanitizer --tool "$tool" --error-exitcode 9 --kernel-name regex:tux \
        python tests/kernels/sanitized.py "$library" all cuda
    fi
done
step kernel_bandwidth 60 python -m benchmarks.cost.kernel_bandwidth --out="$out/kernel_bandwidth.json"

# Layers and a whole step of StyleGAN2's synthesis; a few small sizes where there is no CUDA.
if [ -n "$cuda" ]; then device=cuda; layers=--device=cuda; case=--device=cuda
else device=cpu; layers='--shapes=2,16,8,8 --budget=0.05'; case='--cases=16x16_batch_2 --rounds=1'
fi
step library 60 python -c "import sys, torch_utils_ext as t; state = t.load('$device'); print(state); sys.exit(state is not True)"
step dsc_layers 90 python -m benchmarks.cost.dsc_layers $layers --out="$out/dsc_layers.json"
step dsc_step 60 python -m benchmarks.cost.dsc_step $case --out="$out/dsc_step.json"

# A training, its pictures and its score.
step test_networks 90 python -m pytest -q -n 2 --dist loadfile -k 'cuda or bank or bit_hash' --ignore=tests/kernels
step data 30 python -c "from spider_plugin.demo.data import build_datasets; build_datasets('$out/data', n=2000)"
kimg=$([ -n "$cuda" ] && echo 4 || echo 1)
step train 120 python -m spider_plugin.cli train --outdir="$out/runs" --cfg=stylegan2 --data="$out/data/neon.zip" --batch=32 --gamma=1 \
    --kimg="$kimg" --tick=1 --snap=4 --cbase=2048 --cmax=64 --metrics=fid1k --detector=demo --spider-source="$out/data/crayon.zip"
snapshot=$(ls "$out"/runs/*/network-snapshot-*.pkl 2> /dev/null | tail -n 1)
step images 30 python reference_host/gen_images.py --network="$snapshot" --seeds=0-7 --outdir="$out/images"
step metrics 60 python -m spider_plugin.cli metrics --network="$snapshot" --metrics=fid1k --detector=demo --data="$out/data/neon.zip"

# Seconds per kimg beside NVlabs/stylegan3's with its compiled ops, where $SPIDER_HOSTS holds a checkout.
if [ -z "$cuda" ]; then skip host_speed 'no CUDA device'
elif [ -z "${SPIDER_HOSTS:-}" ]; then skip host_speed 'SPIDER_HOSTS is not set'
else step host_speed 120 python -m benchmarks.cost.host_speed --device=cuda --out="$out/host_speed_cuda.json"
fi

# FastGAN and the projected discriminator beside projected-gan's.
for module in benchmarks.cost.faster_projected_gan benchmarks.cost.projected_d; do
    name=${module##*.}
    [ "$name" = projected_d ] && more= || more=--lite
    if [ -z "$cuda" ]; then skip "$name" 'no CUDA device'
    elif [ -z "${SPIDER_HOSTS:-}" ]; then skip "$name" 'SPIDER_HOSTS is not set'
    else step "$name" 60 python -m "$module" $more --device=cuda --batch=16 --rounds=10 --out="$out/${name}_cuda.json"
    fi
done

step expected 20 python -m benchmarks.common.expected "$out"
cat "$out/expected.txt"

python - "$out" <<'END'
import json, pathlib, sys
out = pathlib.Path(sys.argv[1])
steps = [json.loads(line) for line in (out / 'steps.jsonl').read_text().splitlines()]
(out / 'steps.json').write_text(json.dumps(dict(device=(out / 'device.txt').read_text().strip(), steps=steps), indent=1) + '\n')
(out / 'steps.jsonl').unlink()
print(sum(step.get('seconds', 0) for step in steps), 'seconds;', 'failed:', [s['step'] for s in steps if s.get('code')])
END
exit "$failed"
