"""One layer and each of its ops: our kernels beside native PyTorch, by turns in one run.

    OMP_NUM_THREADS=1 python -m benchmarks.cost.dsc_layers [--device=cuda] [--out=benchmarks/results/dsc_layers.json [--add]]

A layer maps C to C channels: style, 3x3 or depthwise 3x3 and pointwise, demodulation (factorised, the same tiny product on all
sides), noise, bias, leaky ReLU, gain. Sides: `dense` and `dense_cl`, `native` and `native_cl` (depthwise separable in PyTorch),
NCHW and channels_last, and `ours`. The pointwise product is PyTorch's on all sides, and all but ours end as StyleGAN2's own
layers do on plain PyTorch: addcmul of demodulation and noise, then bias, leaky ReLU, gain, and the clamp that those layers have
by default (256; the op is measured without it, too). Modes: forward without gradients, forward and backward, and the gradient of
the style's gradient as path length regularisation takes it. Backward passes give the gradients of all tensors that an op takes,
on both sides: of x, style and filter for style+depthwise. Every side allocates what it returns, and the inputs of each run are
read just before it, so that no side finds in the caches what another left there. CPU: thread time of one thread, in a child
process per allocator setting (the tuned one avoids page faults for every temporary, on all sides; the default one is measured
without dense sides and second derivatives). CUDA: events, L2 flushed before each run. Milliseconds are
medians over rounds; ratios are medians of each round's ratio, side over ours, with their range.
"""

# ruff: noqa: B023  (what is defined in a turn of a loop is called in it)

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MALLOC = {'MALLOC_MMAP_MAX_': '0', 'MALLOC_TRIM_THRESHOLD_': '8000000000', 'MALLOC_TOP_PAD_': '268435456'}
CPU_SHAPES = [(8, 512, 4, 4), (8, 512, 8, 8), (8, 512, 16, 16), (8, 256, 32, 32), (8, 128, 64, 64), (4, 64, 128, 128),
              (4, 32, 256, 256)]
CUDA_SHAPES = [(8, 512, 16, 16), (8, 512, 32, 32), (8, 512, 64, 64), (8, 256, 128, 128), (8, 128, 256, 256), (8, 64, 512, 512),
               (8, 32, 1024, 1024)]
GAIN, CLAMP = 2 ** 0.5, 256

#----------------------------------------------------------------------------
# Sides of an op or a layer: functions of tensors that need gradients.

def native_epilogue(z, d, noise, b, clamp=CLAMP):
    import torch
    import torch.nn.functional as F
    y = F.leaky_relu(torch.addcmul(noise, z, d[:, :, None, None]) + b[:, None, None], 0.2) * GAIN
    return y if clamp is None else y.clamp(-clamp, clamp)

def layers(x, s, wd, wp, dense, b, noise):
    """{side: function of (x, s, wd, wp, b, noise)}; wd [C, 1, 3, 3], wp [C, C], dense [C, C, 3, 3]."""
    import torch
    import torch.nn.functional as F

    from torch_utils_ext.ops.depthwise import depthwise
    from torch_utils_ext.ops.epilogue import epilogue
    C = x.shape[1]
    cl = dict(memory_format=torch.channels_last)

    def demod(s, wd, wp):
        return ((s.float().square() * wd.float().square().sum([1, 2, 3])) @ wp.float().square().t() + 1e-8).rsqrt()

    def ours(x, s, wd, wp, b, noise):
        h = depthwise(x, s[:, :, None, None].float() * wd[:, 0].float())
        return epilogue(F.conv2d(h, wp[:, :, None, None]), demod(s, wd, wp), noise, b, 'lrelu', gain=GAIN, clamp=CLAMP)

    def native(x, s, wd, wp, b, noise):
        h = F.conv2d(x * s[:, :, None, None], wd, padding=1, groups=C)
        return native_epilogue(F.conv2d(h, wp[:, :, None, None]), demod(s, wd, wp).to(x.dtype), noise, b)

    def native_cl(x, s, wd, wp, b, noise):
        h = F.conv2d(x.contiguous(**cl) * s[:, :, None, None], wd, padding=1, groups=C)
        return native_epilogue(F.conv2d(h, wp[:, :, None, None]), demod(s, wd, wp).to(x.dtype), noise, b)

    def full(layout):
        w = dense.contiguous(**layout)

        def forward(x, s, wd, wp, b, noise):
            z = F.conv2d(x.contiguous(**layout) * s[:, :, None, None], w, padding=1)
            return native_epilogue(z, (s.float().square() @ energy + 1e-8).rsqrt().to(x.dtype), noise, b)
        return forward

    energy = dense.detach().float().square().sum([2, 3]).t()
    return {'ours': ours, 'native': native, 'native_cl': native_cl, 'dense': full({}), 'dense_cl': full(cl)}

def ops(x, s, wd, b, noise, d):
    """{op: ({side: function of its tensors}, tensors, passes over an activation forward, backward)}."""
    import torch.nn.functional as F

    from torch_utils_ext.ops.affine_glu import affine_glu
    from torch_utils_ext.ops.depthwise import depthwise
    from torch_utils_ext.ops.depthwise_up2 import depthwise_up2, up2_filters_nearest
    from torch_utils_ext.ops.epilogue import epilogue
    C = x.shape[1]
    small = x[:, :, ::2, ::2].detach().clone().requires_grad_()
    scale, shift = b.detach().clone().requires_grad_(), b.detach().clone().requires_grad_()
    strength = noise.detach()[:1, :, :1, :1].clone().requires_grad_()
    return {
        'style+depthwise': ({'ours': lambda x, s, wd: depthwise(x, s[:, :, None, None].float() * wd[:, 0].float()),
                             'native': lambda x, s, wd: F.conv2d(x * s[:, :, None, None], wd, padding=1, groups=C),
                             }, (x, s, wd), 2, 3),
        'epilogue': ({'ours': lambda x, d, n, b: epilogue(x, d, n, b, 'lrelu', gain=GAIN, clamp=CLAMP),
                      'native': native_epilogue}, (x, d, noise, b), 2, 3),
        'epilogue, no clamp': ({'ours': lambda x, d, n, b: epilogue(x, d, n, b, 'lrelu', gain=GAIN),
                                'native': lambda x, d, n, b: native_epilogue(x, d, n, b, None)}, (x, d, noise, b), 2, 3),
        'up2+depthwise': ({'ours': lambda x, wd: depthwise_up2(x, up2_filters_nearest(wd[:, 0].float()).unsqueeze(0)),
                           'native': lambda x, wd: F.conv2d(F.interpolate(x, scale_factor=2), wd, padding=1, groups=C)},
                          (small, wd), 1.25, 1.5),
        'norm+noise+glu': ({'ours': lambda x, s, t, n: affine_glu(x, s, t, noise.detach() * n),
                            'native': lambda x, s, t, n: F.glu(x * s[:, None, None] + t[:, None, None]
                                                                  + noise.detach() * n, dim=1)},
                           (x, scale, shift, strength), 1.5, 2.5),
    }

#----------------------------------------------------------------------------
# Timing.

class Clock:
    def __init__(self, device):
        import torch
        self.device, self.torch = device, torch
        self.flush = torch.empty(64 << 20, device=device) if device == 'cuda' else None

    def seconds(self, function):
        if self.device == 'cpu':
            start = time.thread_time()
            function()
            return time.thread_time() - start
        begin, end = [self.torch.cuda.Event(enable_timing=True) for _ in range(2)]
        self.flush.zero_()
        begin.record()
        function()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) / 1e3

def by_turns(clock, functions, budget, inputs=()):
    """{side: [seconds]}: all sides in each round, after one run each that is not counted. There are 5 to 99 rounds, as `budget`
    seconds allow; dense sides take part in the first three. inputs: tensors read before each run."""
    times = {side: [] for side in functions}
    for function in functions.values():
        function()
    spent, i = 0, 0
    while i < 5 or spent < budget and i < 99:
        for side, function in functions.items():
            if i < 3 or not side.startswith('dense'):
                for t in inputs:
                    t.detach().sum()
                times[side].append(clock.seconds(function))
                spent += times[side][-1]
        i += 1
    return times

def row_of(times, baselines=('native', 'native_cl', 'dense', 'dense_cl')):
    row = {side: dict(ms=statistics.median(t) * 1e3) for side, t in times.items()}
    for side in baselines:
        if side in times:
            ratios = sorted(a / b for a, b in zip(times[side], times['ours']))
            row[side]['over_ours'] = statistics.median(ratios)
            row[side]['range'] = [ratios[0], ratios[-1]]
    return row

def peak_bytes(device, function):
    """Bytes above what was held before: of the CUDA allocator, or of this process's resident memory."""
    import torch
    if device == 'cuda':
        held = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        function()
        return torch.cuda.max_memory_allocated() - held
    field = lambda name: next(int(line.split()[1]) * 1024 for line in Path('/proc/self/status').read_text().splitlines()
                              if line.startswith(name))
    try:
        Path('/proc/self/clear_refs').write_text('5')
        held = field('VmRSS')
        function()
        return field('VmHWM') - held
    except (OSError, StopIteration):
        return None

def saved_bytes(function, given):
    """Bytes of distinct storages kept for the backward pass, those of the tensors that are given left out."""
    import torch
    kept, known = {}, {t.untyped_storage().data_ptr() for t in given}
    def pack(t):
        kept[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        y = function()
    del y
    return sum(size for key, size in kept.items() if key not in known)

#----------------------------------------------------------------------------

def measure(device, dtype, shapes, budget, everything):
    import torch
    torch.manual_seed(0)
    clock, result, start = Clock(device), {}, time.monotonic()
    for N, C, H, W in shapes:
        draw = lambda *shape: torch.randn(shape, device=device).to(dtype)
        x, s = draw(N, C, H, W).requires_grad_(), (draw(N, C) * 0.2 + 1).detach().requires_grad_()
        wd, wp = (draw(C, 1, 3, 3) / 3).requires_grad_(), (draw(C, C) / C ** 0.5).requires_grad_()
        b, noise, g = draw(C).requires_grad_(), draw(N, 1, H, W).requires_grad_(), draw(N, C, H, W)
        d = (draw(N, C).abs() + 0.5).detach().requires_grad_()
        activation = x.numel() * x.element_size()
        copy = by_turns(clock, {'ours': lambda: x.detach().clone()}, budget / 4, [x])['ours']
        entry = result[f'{N},{C},{H},{W}'] = dict(copy_ms=statistics.median(copy) * 1e3,
                                                  copy_GBps=2 * activation / statistics.median(copy) / 1e9, ops={}, layer={})
        for name, (sides, tensors, passes, back_passes) in ops(x, s, wd, b, noise, d).items():
            def forward(f):
                with torch.no_grad():
                    return f(*tensors)
            times = by_turns(clock, {side: (lambda f=f: forward(f)) for side, f in sides.items()}, budget, tensors)
            outs = {side: f(*tensors) for side, f in sides.items()}
            grad = draw(*outs['ours'].shape)
            back = by_turns(clock, {side: (lambda y=y: torch.autograd.grad(y, tensors, grad, retain_graph=True))
                                    for side, y in outs.items()}, budget, [*tensors, grad])
            entry['ops'][name] = {'forward': row_of(times), 'backward': row_of(back)}
            for mode, n in [('forward', passes), ('backward', back_passes)]:
                ours = entry['ops'][name][mode]['ours']
                ours['GBps'] = n * activation / ours['ms'] / 1e6
            del outs
        dense = (draw(C, C, 3, 3) / (3 * C ** 0.5)).requires_grad_()
        tensors = (x, s, wd, wp, b, noise)
        sides = layers(x, s, wd, wp, dense, b, noise)
        if not everything:
            sides = {side: f for side, f in sides.items() if side in ('ours', 'native', 'native_cl')}
        needs = lambda side: [x, s, b, noise, dense] if side.startswith('dense') else list(tensors)

        def plain(f):
            with torch.no_grad():
                return f(*tensors)

        def backward(f, side):
            return torch.autograd.grad(f(*tensors), needs(side), g)

        def second(f, side):
            first, = torch.autograd.grad((f(*tensors) * g).sum(), s, create_graph=True)
            return torch.autograd.grad(first.square().sum(), needs(side), allow_unused=True)

        for mode, run in {'forward': lambda f, side: plain(f), 'forward+backward': backward, 'double backward': second}.items():
            if mode != 'double backward':
                compared = sides
            elif everything:            # without the dense sides, for the time that they take
                compared = {side: f for side, f in sides.items() if not side.startswith('dense')}
            else:
                continue
            entry['layer'][mode] = row_of(by_turns(clock, {side: (lambda f=f, side=side: run(f, side))
                                                           for side, f in compared.items()}, 2 * budget, [x]))
        for side, f in sides.items():
            entry['layer']['forward+backward'][side]['saved_bytes'] = saved_bytes(lambda f=f: f(*tensors), [*tensors, dense])
            if not everything or device == 'cuda':
                entry['layer']['forward+backward'][side]['peak_bytes'] = peak_bytes(
                    device, lambda f=f, side=side: backward(f, side))
        op = entry['ops']['style+depthwise']
        print(f'{N},{C},{H},{W} after {time.monotonic() - start:.0f} s: native over ours is '
              f'{op["forward"]["native"]["over_ours"]:.2f} and {op["backward"]["native"]["over_ours"]:.2f} for style+depthwise, '
              f'{entry["layer"]["forward"]["native"]["over_ours"]:.2f} for the layer forward', file=sys.stderr, flush=True)
    return result

def geometric_means(result):
    """Native NCHW over ours, over the shapes from 16^2 on, and the worst of all shapes."""
    out = {}
    rows = {}
    for shape, entry in result.items():
        for name, modes in entry['ops'].items():
            for mode, row in modes.items():
                rows.setdefault(f'{name} {mode}', {})[shape] = row['native']['over_ours']
        for mode, row in entry['layer'].items():
            for side in ('native', 'native_cl', 'dense', 'dense_cl'):
                if side in row:
                    rows.setdefault(f'layer {mode}, {side}', {})[shape] = row[side]['over_ours']
    for name, values in rows.items():
        large = [v for shape, v in values.items() if int(shape.split(',')[2]) >= 16] or list(values.values())
        out[name] = dict(geometric_mean=math.exp(sum(map(math.log, large)) / len(large)), worst=min(values.values()))
    return out

def show(title, part):
    print(f'\n{title}\n{"x over ours":<40s}{"geo. mean 16^2 on":>18s}{"worst shape":>13s}')
    for name, row in part['summary'].items():
        print(f'{name:<40s}{row["geometric_mean"]:18.2f}{row["worst"]:13.2f}')

#----------------------------------------------------------------------------

def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--device', choices=['cpu', 'cuda'], default='cpu')
    parser.add_argument('--dtype', default=None, help='default: float32 on cpu, float16 on cuda')
    parser.add_argument('--budget', type=float, default=0.5, help='seconds for one comparison, twice as much for a layer')
    parser.add_argument('--shapes', help='N,C,H,W;N,C,H,W;...')
    parser.add_argument('--out')
    parser.add_argument('--add', action='store_true', help='keep the shapes that --out has, so that a run may be split')
    parser.add_argument('--part', help=argparse.SUPPRESS)      # a child: measures one allocator setting, writes its JSON here
    parser.add_argument('--everything', type=int, default=1, help=argparse.SUPPRESS)
    args = parser.parse_args()
    os.environ.update(OMP_NUM_THREADS='1', TORCH_UTILS_EXT='require')
    import torch

    import torch_utils_ext
    torch.set_num_threads(1)
    dtype = getattr(torch, args.dtype or ('float32' if args.device == 'cpu' else 'float16'))
    shapes = [tuple(map(int, s.split(','))) for s in args.shapes.split(';')] if args.shapes else (
        CPU_SHAPES if args.device == 'cpu' else CUDA_SHAPES)
    if torch_utils_ext.load(args.device) is not True:       # the compiler's time is not the kernels'
        sys.exit(torch_utils_ext.status()['libraries'][args.device])
    if args.part or args.device == 'cuda':
        torch.backends.cudnn.benchmark = True
        rows = measure(args.device, dtype, shapes, args.budget, bool(args.everything))
        part = dict(shapes=rows, summary=geometric_means(rows), kernels=torch_utils_ext.status())
        parts = {'cuda': part}
    if args.part:
        Path(args.part).write_text(json.dumps(part))
        return
    if args.device == 'cpu':
        parts = {}
        for name, env, everything in [('tuned allocator', MALLOC, 1), ('default allocator', {}, 0)]:
            with tempfile.TemporaryDirectory() as temp:
                path = os.path.join(temp, 'part.json')
                command = [sys.executable, '-m', __spec__.name, f'--part={path}', f'--everything={everything}',
                           f'--budget={args.budget}', f'--dtype={str(dtype).split(".")[1]}',
                           '--shapes=' + ';'.join(','.join(map(str, s)) for s in shapes)]
                subprocess.run(command, check=True, env={**{k: v for k, v in os.environ.items() if k not in MALLOC}, **env})
                parts[name] = json.loads(Path(path).read_text())
    device = torch.cuda.get_device_name() if args.device == 'cuda' else next(
        (line.split(':')[1].strip() for line in Path('/proc/cpuinfo').read_text().splitlines()
         if line.startswith('model name')), '?')
    report = dict(device=device, threads=1, dtype=str(dtype), torch=torch.__version__, python=platform.python_version(), seed=0,
                  budget=args.budget, malloc=MALLOC, load_average=os.getloadavg(), parts=parts)
    if args.add and Path(args.out).exists():
        for name, part in json.loads(Path(args.out).read_text())['parts'].items():
            parts[name]['shapes'] = {**part['shapes'], **parts[name]['shapes']}
            parts[name]['summary'] = geometric_means(parts[name]['shapes'])
    for name, part in parts.items():
        show(f'{device}, {name}', part)
    if args.out:
        Path(args.out).write_text(json.dumps(report, indent=1) + '\n')

if __name__ == '__main__':
    main()
