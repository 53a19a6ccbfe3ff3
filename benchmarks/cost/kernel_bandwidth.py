"""Bandwidth of each kernel of torch_utils_ext over that of a copy of the same size, on a GPU.

    python -m benchmarks.cost.kernel_bandwidth [--dtype=float16] [--out=benchmarks/results/kernel_bandwidth.json]

A kernel's bytes are those of the activations it must read and write once; filters and sums are left out, and a kernel that reads
something twice gains nothing by it. Copy and kernel are timed by turns with CUDA events, queued while the device is kept busy, so
that the host's time does not count; up to some 20 MB both live in the L2 cache. Figures are medians over rounds with their range.
Without CUDA the emulated kernels run on tiny sizes, as a rehearsal of the script: those figures mean nothing
and are marked so.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import torch

from benchmarks.common.kernels import abi, builds
from benchmarks.common.paths import ROOT

SHAPES = [(8, 512, 16, 16), (8, 512, 32, 32), (8, 512, 64, 64), (8, 256, 128, 128), (8, 128, 256, 256), (8, 64, 512, 512),
          (8, 32, 1024, 1024)]
REHEARSAL = [(1, 4, 16, 16), (1, 2, 32, 32)]

#----------------------------------------------------------------------------

def kernels(library, dtype, device, N, C, H, W):
    """{name: (function of nothing, bytes)}; sizes of the up2 kernels are those of the large image."""
    side = abi.accumulator(torch.empty(0, dtype=dtype))
    draw = lambda *shape: torch.randn(shape, dtype=torch.float32, device=device).to(dtype)
    x, g, k = draw(N, C, H, W), draw(N, C, H, W), torch.randn(N, C, 3, 3, dtype=side, device=device)
    small, k4 = draw(N, C, H // 2, W // 2), torch.randn(N, C, 4, 3, 3, dtype=side, device=device)
    demod, bias, noise = [torch.rand(shape, dtype=side, device=device) for shape in [(N, C), (C,), (N, 1, H, W)]]
    options = dict(demod=demod, bias=bias, noise=noise, act='lrelu', gain=2 ** 0.5, clamp=256.0)
    glu = dict(scale=torch.rand(C, dtype=side, device=device), shift=torch.rand(C, dtype=side, device=device))
    half = draw(N, C // 2, H, W)
    A, s, n = x.numel() * x.element_size(), small.numel() * small.element_size(), noise.numel() * noise.element_size()
    return {
        'depthwise':                (lambda: library.depthwise(x, k), 2 * A),
        'depthwise_weight_grad':    (lambda: library.depthwise_weight_grad(x, g), 2 * A),
        'depthwise_backward':       (lambda: library.depthwise_backward(x, k, g), 3 * A),
        'up2':                      (lambda: library.depthwise_up2(small, k4), A + s),
        'up2_epilogue':             (lambda: library.depthwise_up2_epilogue(small, k4, **dict(options, demod=None)), A + s + n),
        'up2_transpose':            (lambda: library.depthwise_up2_transpose(g, k4), A + s),
        'up2_weight_grad':          (lambda: library.depthwise_up2_weight_grad(small, g), A + s),
        'up2_backward':             (lambda: library.depthwise_up2_backward(small, k4, g), A + 2 * s),
        'epilogue':                 (lambda: library.epilogue(x, **options), 2 * A + n),
        'epilogue_backward':        (lambda: library.epilogue_backward(g, x, False, **options), 3 * A + 2 * n),
        'affine_glu':               (lambda: library.affine_glu(x, **glu), 1.5 * A),
        'affine_glu_backward':      (lambda: library.affine_glu_backward(half, x, **glu, wanted=('scale', 'shift')), 2.5 * A),
    }

def seconds(function, device):
    if device == 'cpu':
        start = time.perf_counter()
        function()
        return time.perf_counter() - start
    start, end = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
    torch.cuda._sleep(2_000_000)    # the host queues what follows meanwhile
    start.record()
    function()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / 1000

def measure(function, count, device, rounds):
    """Bytes per second of function over those of a copy that moves as much: one ratio per round, and the copy's bandwidth."""
    source = torch.empty(int(count) // 2, dtype=torch.uint8, device=device).zero_()
    target = torch.empty_like(source)
    ratios, copies = [], []
    for i in range(rounds + 3):
        pair = [seconds(f, device) for f in (function, lambda: target.copy_(source))]
        if i >= 3:
            ratios.append(pair[1] / pair[0])
            copies.append(count / pair[1] / 1e9)
    spread = lambda values: dict(median=statistics.median(values), min=min(values), max=max(values))
    return dict(of_copy=spread(ratios), copy_gb_per_s=spread(copies))

def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--dtype', default='float16', choices=['float32', 'float16', 'bfloat16'])
    parser.add_argument('--rounds', type=int, default=20)
    parser.add_argument('--out', type=Path, default=ROOT / 'benchmarks' / 'results' / 'kernel_bandwidth.json')
    args = parser.parse_args()
    path, device = builds.for_this_machine()
    library = abi.Library(path)
    library.fresh = torch.empty     # no NaN first: that would be timed, too
    torch.manual_seed(0)
    rows = []
    for shape in SHAPES if device == 'cuda' else REHEARSAL:
        for name, (function, count) in kernels(library, getattr(torch, args.dtype), device, *shape).items():
            row = dict(kernel=name, shape=shape, **measure(function, count, device, args.rounds if device == 'cuda' else 1))
            rows.append(row)
            ratio = row['of_copy']
            print(f"{name:22} {str(shape):24} {ratio['median']:6.2f} of copy ({ratio['min']:.2f} to {ratio['max']:.2f}), "
                  f"copy {row['copy_gb_per_s']['median']:.0f} GB/s", flush=True)
        if device == 'cuda':
            torch.cuda.empty_cache()
    info = dict(device=torch.cuda.get_device_name() if device == 'cuda' else 'cpu, emulated: a rehearsal, no figures',
                torch=torch.__version__, dtype=args.dtype, seed=0, rows=rows)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(info, indent=1) + '\n')

if __name__ == '__main__':
    main()
