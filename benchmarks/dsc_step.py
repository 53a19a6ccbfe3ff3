"""A training step of StyleGAN2's synthesis network, forward and backward: NVlabs/stylegan3's own dense layers, the same with
factorised demodulation (--fast-modconv), and depthwise separable layers in both orders (--dsc).

    SPIDER_HOSTS=DIR python benchmarks/dsc_step.py [--rounds 7] [--out benchmarks/results/dsc_step.json]

One thread, float32, training mode, all variants in turn in each round. CPU-seconds of this process; ratios are medians over
rounds of time / time of the dense layers in that round, with the range. Saved bytes are those of storages, parameters aside,
that the graph keeps between forward and backward. The allocator is tuned for all (environment below): with glibc's default,
page faults of large temporaries dominate everything native."""

import argparse
import importlib
import json
import os
import platform
import statistics
import sys
import time
import types

MALLOC = {'MALLOC_MMAP_MAX_': '0', 'MALLOC_TRIM_THRESHOLD_': '8000000000', 'MALLOC_TOP_PAD_': '268435456'}
CASES = {'64x64 batch 8': (64, 8), '128x128 batch 4': (128, 4), '256x256 batch 2': (256, 2)}
DSC = dict(rank=1, res=[0, 1024])
VARIANTS = {    # features over the host's generator, arguments
    'dense': ((), {}),
    'factorised dense': (('fast',), {}),
    'DSC depthwise first': (('dsc',), dict(dsc=dict(order='depthwise', **DSC))),
    'DSC pointwise first': (('dsc',), dict(dsc=dict(order='pointwise', **DSC))),
}

#----------------------------------------------------------------------------

def make_synthesis(features, kwargs, resolution):
    import torch

    from spider_plugin.io.bundler import class_with
    class_name = 'training.networks_stylegan2.Generator'
    for feature in features:
        class_name = class_with(class_name, feature)
    module, _, name = class_name.rpartition('.')
    torch.manual_seed(0)
    return getattr(importlib.import_module(module), name)(
        z_dim=512, c_dim=0, w_dim=512, img_resolution=resolution, img_channels=3, channel_base=16384, num_fp16_res=0,
        fused_modconv_default='inference_only', **kwargs).synthesis.train()

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

def measure(resolution, batch, rounds):
    import torch
    networks = {name: make_synthesis(*variant, resolution) for name, variant in VARIANTS.items()}
    ws = torch.randn([batch, networks['dense'].num_ws, 512])
    def step(synthesis):
        synthesis.zero_grad(set_to_none=True)
        start = time.process_time()
        synthesis(ws).square().sum().backward()
        return time.process_time() - start
    seconds = {name: [] for name in networks}
    for i in range(rounds + 1):
        for name, network in networks.items():
            taken = step(network)
            if i > 0:
                seconds[name].append(taken)
    rows = {}
    for name, network in networks.items():
        ratios = [a / b for a, b in zip(seconds[name], seconds['dense'])]
        rows[name] = dict(cpu_seconds=statistics.median(seconds[name]), ratio=statistics.median(ratios),
                          ratio_range=[min(ratios), max(ratios)], saved_bytes=saved_bytes(network, ws),
                          parameters=sum(p.numel() for p in network.parameters()), multiply_adds=multiply_adds(network))
    for row in rows.values():
        row['saved_ratio'] = row['saved_bytes'] / rows['dense']['saved_bytes']
    return rows

def cpu_name():
    try:
        with open('/proc/cpuinfo', encoding='utf-8') as file:
            return next((line.split(':')[1].strip() for line in file if line.startswith('model name')), platform.processor())
    except OSError:
        return platform.processor()

def main():
    if any(os.environ.get(key) != value for key, value in MALLOC.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], dict(os.environ, OMP_NUM_THREADS='1', **MALLOC))
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--rounds', type=int, default=7)
    parser.add_argument('--cases', default=','.join(CASES))
    parser.add_argument('--out')
    args = parser.parse_args()
    sys.path.insert(0, os.path.join(os.environ['SPIDER_HOSTS'], 'stylegan3'))
    import torch
    sys.modules.setdefault('pkg_resources', types.SimpleNamespace(parse_version=torch.torch_version.TorchVersion))
    torch.set_num_threads(1)
    import torch_utils_ext
    report = dict(device=cpu_name(), torch=torch.__version__, python=platform.python_version(), threads=1, dtype='float32',
                  channel_base=16384, seed=0, rounds=args.rounds, malloc=MALLOC, cases={})
    for case in args.cases.split(','):
        report['cases'][case] = rows = measure(*CASES[case], args.rounds)
        print(f'{case:<26s}{"cpu-s":>8s}{"ratio":>7s}  {"range":<13s}{"saved MB":>9s}{"ratio":>7s}{"params":>9s}{"GMAC":>7s}')
        for name, row in rows.items():
            low, high = row['ratio_range']
            print(f'  {name:<24s}{row["cpu_seconds"]:8.2f}{row["ratio"]:7.2f}  {low:.2f}-{high:.2f}    '
                  f'{row["saved_bytes"] / 1e6:9.1f}{row["saved_ratio"]:7.2f}{row["parameters"] / 1e6:8.2f}M'
                  f'{row["multiply_adds"] / 1e9:7.2f}', flush=True)
    report['torch_utils_ext'] = torch_utils_ext.status()
    if args.out:
        with open(args.out, 'w', encoding='utf-8') as file:
            json.dump(report, file, indent=1)

if __name__ == '__main__':
    main()
