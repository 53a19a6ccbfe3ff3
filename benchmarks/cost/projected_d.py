"""The discriminator's share of Projected GAN's iteration: projected-gan's own code beside ours, EfficientNet-Lite0 with random
weights, standard heads, DiffAugment.

    SPIDER_HOSTS=DIR python -m benchmarks.cost.projected_d [--resolution=256] [--batch=4] [--rounds=5] [--device=cuda]
        [--out=benchmarks/results/projected_d.json]

`D`: hinge loss of fakes and reals, and its gradient for the heads. `G`: the gradient for the fakes, through all that is frozen.
Ours runs as it trains, fakes and reals in one frozen pass, and with a pass for each. Sides take turns in one process; on a CPU
one thread and an allocator that keeps what it has. Seconds, ratios and saved bytes as in faster_projected_gan.py. Needs timm."""

import argparse
import json
import os
import platform
import statistics
import sys

from benchmarks.cost.faster_projected_gan import MALLOC, cpu_name, discriminator, kept_bytes, open_host, seconds

ARMS, PHASES = ['projected-gan', 'ours, two passes', 'ours'], ['D', 'G']

#----------------------------------------------------------------------------

class Arm:
    def __init__(self, name, args):
        import torch
        torch.manual_seed(0)
        self.D = discriminator('ours' if name.startswith('ours') else name, args).to(args.device)
        self.heads, self.joint = [p for p in self.D.parameters() if p.requires_grad], name == 'ours'
        shape = [args.batch, 3, args.resolution, args.resolution]
        self.fake, self.real = (torch.rand(shape, device=args.device) * 2 - 1 for _ in range(2))

    def losses(self, phase):
        """Functions of no arguments, each with a backward pass of its own."""
        import torch
        for p in self.heads:
            p.requires_grad_(phase == 'D')
            p.grad = None
        fake = self.fake.detach().requires_grad_(phase == 'G')
        false, true = (lambda logits: torch.relu(1 + logits).mean()), (lambda logits: torch.relu(1 - logits).mean())
        def joint():
            a, b = self.D(torch.cat([fake, self.real]), None, parts=2).chunk(2)
            return false(a) + true(b)
        if phase == 'G':
            return [lambda: -self.D(fake, None).mean()]
        return [joint] if self.joint else [lambda: false(self.D(fake, None)), lambda: true(self.D(self.real, None))]

    def step(self, phase):
        for loss in self.losses(phase):
            loss().backward()

def measure(args):
    arms = {name: Arm(name, args) for name in ARMS}
    rows = {name: {phase: dict(seconds=[], saved_bytes=max(kept_bytes(loss, arm.D) for loss in arm.losses(phase)))
                   for phase in PHASES} for name, arm in arms.items()}     # what is kept at a time
    for i in range(args.rounds + 1):
        for phase in PHASES:
            for name, arm in arms.items():
                taken = seconds(lambda arm=arm, phase=phase: arm.step(phase), args.device)
                rows[name][phase]['seconds'] += [taken] if i > 0 else []
    for row in rows.values():
        row['iteration'] = dict(seconds=[a + b for a, b in zip(*(row[phase]['seconds'] for phase in PHASES), strict=True)])
    for row in rows.values():
        for part, cell in row.items():
            ratios = [a / b for a, b in zip(cell['seconds'], rows[ARMS[0]][part]['seconds'], strict=True)]
            cell.update(ratio=statistics.median(ratios), ratio_range=[min(ratios), max(ratios)])
    return rows

def main():
    if any(os.environ.get(key) != value for key, value in MALLOC.items()):
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], dict(os.environ, OMP_NUM_THREADS='1', **MALLOC))
    parser = argparse.ArgumentParser(description=__doc__.split('\n\n')[0])
    parser.add_argument('--resolution', type=int, default=256)
    parser.add_argument('--batch', type=int, default=4)
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--device', choices=['cpu', 'cuda'], default='cpu')
    parser.add_argument('--out')
    args = parser.parse_args()
    open_host()
    import torch
    rows = measure(args)
    for name, row in rows.items():
        print(f'{name:<18s}' + '  '.join(
            f'{part}: {statistics.median(cell["seconds"]):.2f} s, {cell["ratio"]:.2f} ({cell["ratio_range"][0]:.2f}-'
            f'{cell["ratio_range"][1]:.2f})' + (f', {cell["saved_bytes"] / 1e6:.0f} MB kept' if 'saved_bytes' in cell else '')
            for part, cell in row.items()))
    if args.out:
        device = torch.cuda.get_device_name() if args.device == 'cuda' else f'{cpu_name()}, one thread'
        report = dict(device=device, torch=torch.__version__, python=platform.python_version(), seed=0, dtype='float32',
                      resolution=args.resolution, batch=args.batch, rounds=args.rounds, malloc=MALLOC, arms=rows)
        with open(args.out, 'w', encoding='utf-8') as file:
            file.write(json.dumps(report, indent=1) + '\n')

if __name__ == '__main__':
    main()
