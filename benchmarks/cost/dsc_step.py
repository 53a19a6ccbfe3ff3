"""A training step of StyleGAN2's synthesis network, forward and backward: NVlabs/stylegan3's own dense layers, the same with
the generator's part of --fast, and depthwise separable layers in both orders (--dsc). whole_step.py times a step with D.

    SPIDER_HOSTS=DIR python -m benchmarks.cost.dsc_step [--device=cuda] [--cases=...] [--allocator=default] [--out=FILE.json]

Training mode, all variants in turn in each round; ratios are medians over rounds of time / time of the dense layers in that
round, with the range. CPU: one thread, float32, CPU-seconds of this process; the allocator is tuned for all (environment below),
for with glibc's default one page faults of large temporaries dominate everything native: --allocator=default shows that.
CUDA: events, the four highest resolutions in float16 as hosts train, peak memory beside. Saved bytes are those of storages,
parameters aside, that the graph keeps between forward and backward. `factorised demodulation` is `fast` with torch's own
convolutions. Cases and rounds are added to what FILE.json has. Without SPIDER_HOSTS the dense layers are
the reference host's, which factorise already: a rehearsal."""

import argparse
import importlib
import json
import os
import platform
import statistics
import sys
import time
import types
from pathlib import Path

from benchmarks.common.page_parts import fill
from benchmarks.common.paths import ROOT

RESULTS, PAGE = ROOT / 'benchmarks' / 'results' / 'dsc_step.json', ROOT / 'docs' / 'dsc.md'
MALLOC = {'MALLOC_MMAP_MAX_': '0', 'MALLOC_TRIM_THRESHOLD_': '8000000000', 'MALLOC_TOP_PAD_': '268435456'}
CASES = {
    'cpu':  {'64x64 batch 8': (64, 8), '128x128 batch 4': (128, 4), '256x256 batch 2': (256, 2)},
    'cuda': {'64x64 batch 32': (64, 32), '256x256 batch 16': (256, 16), '1024x1024 batch 4': (1024, 4)},
}
REHEARSAL = {'16x16_batch_2': (16, 2)}    # no figures: whether it runs
DSC = dict(rank=1, res=[0, 1024])
VARIANTS = {    # features over the host's generator, arguments
    'dense': ((), {}),
    'factorised demodulation': (('fast',), {}),
    'fast': (('fast',), {}),
    'DSC depthwise first': (('dsc',), dict(dsc=dict(order='depthwise', **DSC))),
    'DSC pointwise first': (('dsc',), dict(dsc=dict(order='pointwise', **DSC))),
}

#----------------------------------------------------------------------------

def make_synthesis(features, kwargs, resolution, device):
    import torch

    from spider_plugin.bundles.names import class_with
    class_name = 'training.networks_stylegan2.Generator'
    for feature in features:
        class_name = class_with(class_name, feature)
    module, _, name = class_name.rpartition('.')
    torch.manual_seed(0)
    return getattr(importlib.import_module(module), name)(
        z_dim=512, c_dim=0, w_dim=512, img_resolution=resolution, img_channels=3, channel_base=16384,
        num_fp16_res=4 if device == 'cuda' else 0, fused_modconv_default='inference_only', **kwargs).synthesis.train().to(device)

def saved_bytes(synthesis, ws):
    import torch
    own, storages = {p.untyped_storage().data_ptr() for p in synthesis.parameters()}, {}
    def pack(x):
        storages[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        y = synthesis(ws)
    size = sum(n for key, n in storages.items() if key not in own)
    del y
    return size

def multiply_adds(synthesis):
    """Of the convolutions per image, as they are computed; filters that resample aside."""
    total = 0
    for layer in synthesis.modules():
        if not hasattr(layer, 'affine') or not hasattr(layer, 'bias') or not hasattr(layer, 'resolution'):
            continue
        pixels = layer.resolution ** 2
        if hasattr(layer, 'dw_weight'):
            low = pixels // 4 if layer.pointwise_first else pixels
            total += 9 * layer.dw_weight.shape[1] * pixels + layer.pw_weight.numel() * low
        else:
            total += layer.weight.numel() * pixels // layer.up ** 2
    return total

def plain_convolutions(synthesis):
    """Takes the kernels' convolutions out of the layers' bundle; returns what puts them back."""
    layer = next(m for m in synthesis.modules() if type(m).__name__ == 'FastLayer')
    module, name = sys.modules[type(layer).forward.__module__], 'fast_conv'
    serves = getattr(module, name)
    setattr(module, name, lambda *args, **kwargs: None)
    return lambda: setattr(module, name, serves)

def measure(resolution, batch, rounds, device, earlier):
    """Rows of the variants; earlier: seconds of rounds of another process, {variant: [seconds]}."""
    import torch
    networks = {name: make_synthesis(*variant, resolution, device) for name, variant in VARIANTS.items()}
    ws = torch.randn([batch, networks['dense'].num_ws, 512], device=device)
    clock = (torch.cuda.synchronize, time.perf_counter) if device == 'cuda' else (lambda: None, time.process_time)

    def step(name):
        restore = plain_convolutions(networks[name]) if name == 'factorised demodulation' else lambda: None
        networks[name].zero_grad(set_to_none=True)
        wait, now = clock
        wait()
        start = now()
        networks[name](ws).square().sum().backward()
        wait()
        taken = now() - start
        restore()
        return taken

    saved = {name: saved_bytes(network, ws) for name, network in networks.items()}
    for name in networks:       # not counted
        step(name)
    seconds, peaks = {name: list(earlier.get(name, [])) for name in networks}, {}
    for _ in range(rounds):
        for name in networks:
            if device == 'cuda':
                torch.cuda.reset_peak_memory_stats()
                held = torch.cuda.memory_allocated()
            seconds[name].append(step(name))
            peaks[name] = torch.cuda.max_memory_allocated() - held if device == 'cuda' else None
    rows = {}
    for name, network in networks.items():
        ratios = [a / b for a, b in zip(seconds[name], seconds['dense'])]
        rows[name] = dict(seconds=statistics.median(seconds[name]), ratio=statistics.median(ratios),
                          ratio_range=[min(ratios), max(ratios)], rounds=seconds[name], saved_bytes=saved[name],
                          peak_bytes=peaks[name], parameters=sum(p.numel() for p in network.parameters()),
                          multiply_adds=multiply_adds(network))
    for row in rows.values():
        row['saved_ratio'] = row['saved_bytes'] / rows['dense']['saved_bytes']
    return rows

def cpu_name():
    try:
        with open('/proc/cpuinfo', encoding='utf-8') as file:
            return next((line.split(':')[1].strip() for line in file if line.startswith('model name')), platform.processor())
    except OSError:
        return platform.processor()

def device_name(device):
    import torch
    return torch.cuda.get_device_name() if device == 'cuda' else cpu_name()

def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--device', choices=list(CASES), default='cpu')
    parser.add_argument('--allocator', choices=['tuned', 'default'], default='tuned')
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--cases', help='comma-separated; default: all of the device')
    parser.add_argument('--out', type=Path)
    parser.add_argument('--report', action='store_true', help='writes the table of docs/dsc.md from the JSON and ends')
    args = parser.parse_args()
    if args.report:
        return report_page(args.out or RESULTS)
    cases = args.cases.split(',') if args.cases else list(CASES[args.device])
    known = CASES[args.device] | REHEARSAL
    if unknown := [case for case in cases if case not in known]:
        parser.error(f'no case {unknown[0]!r}; there are {", ".join(CASES[args.device])}')
    wanted = MALLOC if args.allocator == 'tuned' and args.device == 'cpu' else {}
    if any(os.environ.get(key) != wanted.get(key) for key in MALLOC):
        kept = {key: value for key, value in os.environ.items() if key not in MALLOC}
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], dict(kept, OMP_NUM_THREADS='1', **wanted))

    import torch

    import torch_utils_ext
    from spider_plugin.resources import resource_dir
    hosts = os.environ.get('SPIDER_HOSTS')
    sys.path.insert(0, os.path.join(hosts, 'stylegan3') if hosts else str(resource_dir('reference_host')))
    sys.modules.setdefault('pkg_resources', types.SimpleNamespace(parse_version=torch.torch_version.TorchVersion))
    torch.set_num_threads(1)
    torch.backends.cudnn.benchmark = True
    report = json.loads(args.out.read_text()) if args.out and args.out.is_file() else dict(cases={})
    for case in cases:
        title = f'{case}, {args.allocator} allocator' if args.device == 'cpu' else case
        before = report['cases'].get(title, dict(rows={}))['rows']
        rows = measure(*known[case], args.rounds, args.device, {name: row['rounds'] for name, row in before.items()})
        report['cases'][title] = dict(
            device=device_name(args.device), torch=torch.__version__, python=platform.python_version(), threads=1, seed=0,
            host='NVlabs/stylegan3' if hosts else 'reference host', channel_base=16384, malloc=wanted,
            load_average=os.getloadavg(), torch_utils_ext=torch_utils_ext.status(), rows=rows)
        show(title, rows)
        if args.out:
            args.out.write_text(json.dumps(report, indent=1) + '\n')

def report_page(path):
    """Replaces the part of docs/dsc.md between its two marker lines."""
    lines = ['| case | layers | CPU-s | of dense | saved MB | of dense | weights | GMAC |', '|---' * 8 + '|']
    for title, case in json.loads(path.read_text())['cases'].items():
        for name, row in case['rows'].items():
            low, high = row['ratio_range']
            spread = '' if name == 'dense' else f' ({low:.2f} to {high:.2f})'
            lines.append(f'| {title} | {name} | {row["seconds"]:.2f} | {row["ratio"]:.2f}{spread} '
                         f'| {row["saved_bytes"] / 1e6:.0f} | {row["saved_ratio"]:.2f} | {row["parameters"] / 1e6:.2f}M '
                         f'| {row["multiply_adds"] / 1e9:.2f} |')
    fill(PAGE, dict(step=lines))

def show(title, rows):
    print(f'{title:<34s}{"seconds":>8s}{"ratio":>7s}  {"range":<13s}{"saved MB":>9s}{"ratio":>7s}{"params":>9s}{"GMAC":>7s}')
    for name, row in rows.items():
        low, high = row['ratio_range']
        print(f'  {name:<32s}{row["seconds"]:8.3f}{row["ratio"]:7.2f}  {low:.2f}-{high:.2f}    '
              f'{row["saved_bytes"] / 1e6:9.1f}{row["saved_ratio"]:7.2f}{row["parameters"] / 1e6:8.2f}M'
              f'{row["multiply_adds"] / 1e9:7.2f}', flush=True)

if __name__ == '__main__':
    main()
