"""Seconds per kimg of training, the reference host's over NVlabs/stylegan3's: both in one run, on one machine, by turns.

    python -m benchmarks.cost.host_speed --stylegan3=DIR    # on one core of the cpu; default: $SPIDER_HOSTS/stylegan3
    python -m benchmarks.cost.host_speed --stylegan3=DIR --device=cuda

For every configuration, one process for each host imports that host's tree only, builds its G, D, AugmentPipe and
StyleGAN2Loss from the same options, and trains: Adam, all phases and intervals of the configuration, moving average of G; no
dataset and no snapshots. The processes compute by turns, a segment each, with the order changing from round to round: one waits
while the other computes. A segment is one full cycle of the lazy regularisations. Round 0 warms up and does not count.

Both hosts do on the cpu what their code does there: NVlabs/stylegan3 takes its reference ops. On cuda it takes its compiled
ones; then the ratio is what the reference host's plain ops cost. Writes benchmarks/results/host_speed.json (on cuda
host_speed_cuda.json); the ratio of a configuration is the median over its rounds, beside their smallest and largest.
"""

import argparse
import contextlib
import copy
import importlib
import json
import os
import platform
import statistics
import subprocess
import sys
import time
import types
from pathlib import Path

import torch

from benchmarks.common.paths import ROOT

RESULTS = ROOT / 'benchmarks' / 'results'

CYCLE = 16      # Iterations until all phases have been due: G's path length at every 4th, D's R1 at every 16th.
SEED = 0

BGC = dict.fromkeys(['xflip', 'rotate90', 'xint', 'scale', 'rotate', 'aniso', 'xfrac', 'brightness', 'contrast', 'lumaflip',
                     'hue', 'saturation'], 1)
SMALL = dict(resolution=16, channel_base=1024, channel_max=32, batch=16, gamma=1)
CONFIGS = {
    'stylegan2':        dict(SMALL, cfg='stylegan2'),
    'stylegan2-ada':    dict(SMALL, cfg='stylegan2', augment=BGC, p=0.5),
    'stylegan3-t':      dict(SMALL, cfg='stylegan3-t', batch=4),
    'stylegan3-r':      dict(SMALL, cfg='stylegan3-r', batch=4),
}

#----------------------------------------------------------------------------
# Worker: one host, one configuration. Answers every line on stdin, a number of iterations, with a line of JSON.

def serve(host_dir, device, config):
    answers = os.fdopen(os.dup(1), 'w', buffering=1)
    with contextlib.redirect_stdout(sys.stderr):
        prepare(host_dir, device)
        trainer = Trainer(torch.device(device), **config)
        print(json.dumps(dict(parameters=trainer.parameters)), file=answers)
        for line in sys.stdin:
            print(json.dumps(measure(trainer, int(line))), file=answers)

def prepare(host_dir, device):
    """The import path, and the switches that both hosts' training loops set."""
    if device == 'cpu' and hasattr(os, 'sched_setaffinity'):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    sys.path[0] = host_dir
    stub = types.ModuleType('pkg_resources') # Setuptools no longer ships it; the public code asks it for one function.
    stub.parse_version = torch.torch_version.TorchVersion
    sys.modules.setdefault('pkg_resources', stub)
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    for name in ['conv2d_gradfix', 'grid_sample_gradfix']:
        importlib.import_module(f'torch_utils.ops.{name}').enabled = True

def measure(trainer, iterations):
    """Wall and cpu seconds of some iterations."""
    trainer.synchronize()
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(iterations):
        trainer.iterate()
    trainer.synchronize()
    return dict(wall=time.perf_counter() - wall, cpu=time.process_time() - cpu, kimg=iterations * trainer.batch / 1000)

class Trainer:
    """The part of a host's training loop that costs time, from that host's classes."""

    def __init__(self, device, cfg, resolution, channel_base, channel_max, batch, gamma, augment=None, p=None):
        networks = importlib.import_module('training.networks_stylegan' + cfg[len('stylegan')])
        loss = importlib.import_module('training.loss')
        self.device, self.batch, self.batch_idx = device, batch, 0
        half = dict(num_fp16_res=4, conv_clamp=256) if device.type == 'cuda' else dict(num_fp16_res=0, conv_clamp=None)
        common = dict(c_dim=0, img_resolution=resolution, img_channels=3, **half)
        widen = 2 if cfg == 'stylegan3-r' else 1
        G_options, loss_options = options_of(cfg, batch)
        self.G = networks.Generator(z_dim=512, w_dim=512, channel_base=channel_base * widen, channel_max=channel_max * widen,
                                    **common, **G_options).train().requires_grad_(False).to(device)
        discriminators = importlib.import_module('training.networks_stylegan2')
        self.D = discriminators.Discriminator(channel_base=channel_base, channel_max=channel_max,
                                              **common).train().requires_grad_(False).to(device)
        self.G_ema = copy.deepcopy(self.G).eval()
        pipe = None
        if augment:
            pipe = importlib.import_module('training.augment').AugmentPipe(**augment).train().requires_grad_(False).to(device)
            pipe.p.fill_(p)
        self.loss = loss.StyleGAN2Loss(device=device, G=self.G, D=self.D, augment_pipe=pipe, r1_gamma=gamma, **loss_options)
        self.phases = [*phases_of('G', self.G, 0.002, 4 if cfg == 'stylegan2' else None), *phases_of('D', self.D, 0.002, 16)]
        self.images = torch.rand([batch, 3, resolution, resolution], device=device) * 2 - 1
        self.c = torch.zeros([batch, 0], device=device)
        self.parameters = [sum(param.numel() for param in net.parameters()) for net in [self.G, self.D]]

    def synchronize(self):
        if self.device.type == 'cuda':
            torch.cuda.synchronize()

    def iterate(self):
        """One iteration: the phases that are due, then the moving average."""
        for name, net, opt, interval in self.phases:
            if self.batch_idx % interval == 0:
                z = torch.randn([self.batch, 512], device=self.device)
                opt.zero_grad(set_to_none=True)
                net.requires_grad_(True)
                self.loss.accumulate_gradients(phase=name, real_img=self.images, real_c=self.c, gen_z=z, gen_c=self.c,
                                               gain=interval, cur_nimg=self.batch_idx * self.batch)
                net.requires_grad_(False)
                for param in net.parameters():
                    if param.grad is not None:
                        torch.nan_to_num(param.grad, nan=0, posinf=1e5, neginf=-1e5, out=param.grad)
                opt.step()
        with torch.no_grad():
            for average, param in zip(self.G_ema.parameters(), self.G.parameters()):
                average.copy_(param.lerp(average, 0.998))
            for average, buffer in zip(self.G_ema.buffers(), self.G.buffers()):
                average.copy_(buffer)
        self.batch_idx += 1

def options_of(cfg, batch):
    """What a --cfg stands for in both hosts: arguments of the generator and of the loss, beside those of the size."""
    if cfg == 'stylegan2':
        return (dict(mapping_kwargs=dict(num_layers=8), fused_modconv_default='inference_only'),
                dict(style_mixing_prob=0.9, pl_weight=2, pl_no_weight_grad=True))
    G_options = dict(mapping_kwargs=dict(num_layers=2), magnitude_ema_beta=0.5 ** (batch / 20e3))
    if cfg == 'stylegan3-t':
        return G_options, dict()
    return (dict(G_options, conv_kernel=1, use_radial_filters=True),
            dict(blur_init_sigma=10, blur_fade_kimg=batch * 200 / 32))

def phases_of(name, net, lr, interval):
    """[(name, network, optimizer, interval)]: with an interval, main and regularization apart (lazy regularization)."""
    if interval is None:
        return [(name + 'both', net, torch.optim.Adam(net.parameters(), lr=lr, betas=(0.0, 0.99), eps=1e-8), 1)]
    ratio = interval / (interval + 1)
    opt = torch.optim.Adam(net.parameters(), lr=lr * ratio, betas=(0.0, 0.99 ** ratio), eps=1e-8)
    return [(name + 'main', net, opt, 1), (name + 'reg', net, opt, interval)]

#----------------------------------------------------------------------------
# Parent: turns, rows, ratios.

class Worker:
    """The process of one host."""

    def __init__(self, host_dir, device, config):
        env = dict(os.environ, OMP_NUM_THREADS='1', PYTHONPATH='')
        command = [sys.executable, '-W', 'ignore', '-m', __spec__.name, '--serve', json.dumps([str(host_dir), device, config])]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)
        self.parameters = self.answer()['parameters']

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f'a worker ended with exit code {self.process.wait()}; see its last words above')
        return json.loads(line)

    def run(self, iterations):
        print(iterations, file=self.process.stdin, flush=True)
        return self.answer()

    def close(self):
        self.process.stdin.close()
        self.process.wait()

def compare(name, hosts, device, rounds, cycles):
    """Rows of one configuration: a dict for each round, with {host: {wall, cpu, kimg}}."""
    with contextlib.ExitStack() as stack:
        workers = {}
        for host, host_dir in hosts.items():
            workers[host] = Worker(host_dir, device, CONFIGS[name])
            stack.callback(workers[host].close)
        sizes = {host: worker.parameters for host, worker in workers.items()}
        if len(set(map(tuple, sizes.values()))) > 1:
            raise RuntimeError(f'{name}: the hosts built networks of different sizes, {sizes}')
        rows = []
        for index in range(rounds + 1):
            order = list(workers) if index % 2 else list(workers)[::-1]
            rows.append({host: workers[host].run(CYCLE * cycles) for host in order})
            words = ', '.join(f'{host} {rows[-1][host]["wall"] / rows[-1][host]["kimg"]:.1f}' for host in hosts)
            print(f'{name}: round {index} of {rounds}, seconds per kimg: {words}', flush=True)
    return sizes['reference_host'], rows[1:]

def summarize(rows, clock):
    """Medians of seconds per kimg, and of the ratio within a round, for one of the clocks."""
    rates = {host: [row[host][clock] / row[host]['kimg'] for row in rows] for host in rows[0]}
    ratios = [ours / theirs for ours, theirs in zip(rates['reference_host'], rates['stylegan3'])]
    return dict({host: round(statistics.median(values), 2) for host, values in rates.items()},
                ratio=round(statistics.median(ratios), 3), ratio_min=round(min(ratios), 3), ratio_max=round(max(ratios), 3))

def environment(device):
    cpu = platform.processor()
    with contextlib.suppress(OSError, StopIteration):
        cpu = next(line.split(':')[1].strip() for line in open('/proc/cpuinfo') if line.startswith('model name'))
    name = torch.cuda.get_device_name() if device == 'cuda' else 'one core, one thread'
    return dict(device=f'{device}: {name}', cpu=cpu, cores=os.cpu_count(), python=platform.python_version(),
                torch=torch.__version__, seed=SEED)

def commit_of(host_dir):
    done = subprocess.run(['git', '-C', host_dir, 'rev-parse', 'HEAD'], capture_output=True, text=True)
    return done.stdout.strip() or None

def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    checkouts = os.environ.get('SPIDER_HOSTS')
    parser.add_argument('--stylegan3', type=Path, help='checkout of NVlabs/stylegan3',
                        default=checkouts and Path(checkouts, 'stylegan3'))
    parser.add_argument('--device', choices=['cpu', 'cuda'], default='cpu')
    parser.add_argument('--configs', nargs='+', choices=list(CONFIGS), default=list(CONFIGS))
    parser.add_argument('--rounds', type=int, default=8)
    parser.add_argument('--cycles', type=int, default=1, help=f'length of a segment, in cycles of {CYCLE} iterations')
    parser.add_argument('--out', type=Path, help='where to write the JSON, default: benchmarks/results')
    parser.add_argument('--serve', type=json.loads, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        return serve(*args.serve)
    if args.stylegan3 is None or not (args.stylegan3 / 'training' / 'networks_stylegan3.py').is_file():
        parser.error('--stylegan3: give the folder of a checkout of NVlabs/stylegan3, or set SPIDER_HOSTS to the one around it')

    if args.device == 'cuda' and not torch.cuda.is_available():
        parser.error('--device: there is no CUDA here; leave it out')

    hosts = dict(reference_host=ROOT / 'reference_host', stylegan3=args.stylegan3.resolve())
    results = {}
    for name in args.configs:
        try:
            parameters, rows = compare(name, hosts, args.device, args.rounds, args.cycles)
        except RuntimeError as err:
            print(f'{name}: skipped, {err}', flush=True)
            results[name] = dict(config=CONFIGS[name], failed=str(err))
            continue
        results[name] = dict(config=CONFIGS[name], parameters=dict(zip('GD', parameters)),
                             wall=summarize(rows, 'wall'), cpu=summarize(rows, 'cpu'), rows=rows)
    out = args.out or RESULTS / ('host_speed.json' if args.device == 'cpu' else f'host_speed_{args.device}.json')
    out.parent.mkdir(parents=True, exist_ok=True)
    content = dict(environment=environment(args.device), stylegan3_commit=commit_of(args.stylegan3), rounds=args.rounds,
                   iterations_per_segment=CYCLE * args.cycles, results=results)
    out.write_text(json.dumps(content, indent=1) + '\n')

    print(f'\n{"seconds per kimg":16s} {"reference host":>15s} {"stylegan3":>10s} {"ratio":>7s} {"smallest":>9s} {"largest":>8s} '
          f'{"by cpu clock":>13s}')
    for name, result in results.items():
        if 'failed' not in result:
            wall, cpu = result['wall'], result['cpu']
            print(f'{name:16s} {wall["reference_host"]:15.1f} {wall["stylegan3"]:10.1f} {wall["ratio"]:7.2f} '
                  f'{wall["ratio_min"]:9.2f} {wall["ratio_max"]:8.2f} {cpu["ratio"]:13.2f}')
    print(f'\n{out}')

if __name__ == '__main__':
    main()
