"""What continuing costs a run of the reference host: seconds to save its state over those of its snapshot, and seconds of a
training step with signs of life (training/lives.py) over those without.

    python -m benchmarks.cost.state_save [--out=benchmarks/results/state_save.json] [--rounds=9] [--steps=16]

Saving: StyleGAN2 at 256x256 with published widths and at 32x32 with fewer channels, with Adam's moments there; both files are
written as a run writes them, to a disk, the state with the digest of its snapshot. Steps: StyleGAN2 at 16x16 with few channels,
batch 8, with lazy regularization; a store of this process takes the signs. In each round the two
that are compared take turns, the order changing; ratios are medians over rounds, beside their smallest and largest. Round 0
warms up and does not count. One thread, seed 0."""

import argparse
import contextlib
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.common.paths import ROOT

os.environ.setdefault('OMP_NUM_THREADS', '1')   # Before torch is imported.
sys.path.insert(0, str(ROOT / 'reference_host'))

import torch  # noqa: E402

import dnnlib  # noqa: E402
from training import lives, snapshots, state, training_loop  # noqa: E402
from training.loss import StyleGAN2Loss  # noqa: E402

RESULTS = ROOT / 'benchmarks' / 'results'
SEED    = 0
CPU     = torch.device('cpu')
ADAM    = dict(class_name='torch.optim.Adam', lr=0.002, betas=[0, 0.99], eps=1e-8)
SIZES   = {     # Resolution, channel_base, channel_max.
    'stylegan2-256': (256, 16384, 512),
    'stylegan2-32':  (32, 1024, 256),
}
STEP    = (16, 512, 32)

#----------------------------------------------------------------------------

class Report:
    """A Reporter, as far as states go."""

    def state_dict(self):
        return {}

def make_run(resolution, channel_base, channel_max, images=8):
    """The parts of a run, as training_loop() has them; optimizers have moments."""
    torch.manual_seed(SEED)
    data = dnnlib.EasyDict(label_dim=0, resolution=resolution, num_channels=3)
    widths = dict(channel_base=channel_base, channel_max=channel_max)
    G_kwargs = dict(class_name='training.networks_stylegan2.Generator', z_dim=512, w_dim=512, **widths)
    D_kwargs = dict(class_name='training.networks_stylegan2.Discriminator', **widths)
    networks = training_loop.setup_networks(data, G_kwargs, D_kwargs, augment_kwargs=None, augment_p=None, resume_pkl=None,
                                            device=CPU, batch_gpu=images, verbose=False)
    phases = [*training_loop.setup_phases('G', networks.G, ADAM, 4), *training_loop.setup_phases('D', networks.D, ADAM, 16)]
    run = dnnlib.EasyDict(at=state.start(0), networks=networks, phases=phases, report=Report(), training_set=range(images),
                          loss=StyleGAN2Loss(CPU, networks.G, networks.D, r1_gamma=1, pl_weight=2), device=CPU, rank=0,
                          num_gpus=1, seed=SEED, augment=training_loop.AdaptiveAugment(None, None, 1))
    for opt in state.optimizers(phases).values():
        for param in opt.param_groups[0]['params']:
            param.grad = torch.randn_like(param)
        opt.step()
    return run

def seconds_of(work):
    """Wall and cpu seconds of a call."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return dict(wall=time.perf_counter() - wall, cpu=time.process_time() - cpu)

def take_turns(rounds, works):
    """[{name: {wall, cpu}}] of the works {name: function}, a dict for each round but the first."""
    rows = []
    for index in range(rounds + 1):
        order = list(works) if index % 2 == 0 else list(works)[::-1]
        rows.append({name: seconds_of(works[name]) for name in order})
        print(f'round {index} of {rounds}: ' + ', '.join(f'{name} {rows[-1][name]["wall"]:.3f} s' for name in works), flush=True)
    return rows[1:]

def summarize(rows, upper, lower):
    """Medians of both, and of the ratio within a round with its spread, for each clock."""
    result = {}
    for clock in ('wall', 'cpu'):
        ratios = [row[upper][clock] / row[lower][clock] for row in rows]
        result[clock] = dict({name: round(statistics.median(row[name][clock] for row in rows), 4) for name in (upper, lower)},
                             ratio=round(statistics.median(ratios), 3), least=round(min(ratios), 3), most=round(max(ratios), 3))
    return dict(result, rows=rows)

#----------------------------------------------------------------------------

def compare_saves(size, rounds):
    run = make_run(*SIZES[size])
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, 'network-snapshot-000000.pkl')
        works = dict(state    = lambda: state.save(state.gather(run, evaluate=False), path),
                     snapshot = lambda: snapshots.save_pickle(snapshots.snapshot_data({}, **run.networks), path))
        works['snapshot']() # The state needs one to name.
        rows = take_turns(rounds, works)
        megabytes = {name: round(os.path.getsize(file) / 1e6, 1) for name, file in
                     (('snapshot', path), ('state', state.path_of(path)))}
    return dict(dict(zip(('resolution', 'channel_base', 'channel_max'), SIZES[size])), megabytes=megabytes,
                **summarize(rows, 'state', 'snapshot'))

def compare_steps(rounds, steps):
    """Segments of training steps, with and without a thread that writes signs of life."""
    batch, run = 8, make_run(*STEP)
    images, c = torch.rand([batch, 3, 16, 16]) * 2 - 1, torch.zeros([batch, 0])
    store = torch.distributed.TCPStore('127.0.0.1', 0, is_master=True, wait_for_workers=False)

    def train():
        for index in range(steps):
            for phase in run.phases:
                if index % phase.interval == 0:
                    training_loop.run_phase(run.loss, phase, [(images, c)], [torch.randn([batch, 512])], [c], cur_nimg=0)

    def train_with_signs():
        heart = lives.Heart(store, 0)
        try:
            train()
        finally:
            heart.stop()

    rows = take_turns(rounds, dict(signs=train_with_signs, silent=train))
    return dict(dict(zip(('resolution', 'channel_base', 'channel_max'), STEP)), batch=batch, steps_per_segment=steps,
                **summarize(rows, 'signs', 'silent'))

def environment():
    cpu = platform.processor()
    with contextlib.suppress(OSError, StopIteration), open('/proc/cpuinfo') as file:
        cpu = next(line.split(':')[1].strip() for line in file if line.startswith('model name'))
    load = [round(value, 1) for value in os.getloadavg()] if hasattr(os, 'getloadavg') else None    # Of everybody, at the end.
    return dict(device='cpu: one thread', cpu=cpu, cores=os.cpu_count(), load=load, python=platform.python_version(),
                torch=torch.__version__, seed=SEED)

def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out', type=Path, default=RESULTS / 'state_save.json')
    parser.add_argument('--sizes', nargs='+', choices=list(SIZES), default=list(SIZES))
    parser.add_argument('--rounds', type=int, default=9)
    parser.add_argument('--steps', type=int, default=16, help='length of a segment')
    args = parser.parse_args()
    torch.set_num_threads(1)
    content = dict(rounds=args.rounds, step=compare_steps(args.rounds, args.steps),
                   saves={size: compare_saves(size, args.rounds) for size in args.sizes}, environment=environment())
    args.out.write_text(json.dumps(content, indent=1) + '\n')
    for name, result in (('step', content['step']), *content['saves'].items()):
        print(f'{name}: ' + ', '.join(f'{clock} ratio {result[clock]["ratio"]:.2f}, from {result[clock]["least"]:.2f} to '
                                      f'{result[clock]["most"]:.2f}' for clock in ('wall', 'cpu')))
    print(args.out)

if __name__ == '__main__':
    main()
