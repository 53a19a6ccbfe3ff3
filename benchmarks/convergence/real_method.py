"""How a source of real images should be trained from: methods beside the plain one, on pairs of 32x32 images, on one CPU core.

    python -m benchmarks.convergence.real_method run PAIR --arm steady --match 1 --seed 0 --images 1200 --log runs.jsonl
    python -m benchmarks.convergence.real_method table [runs.jsonl]           # the tables of docs/real-images.md

PAIR is a folder with target.zip and source.zip, datasets of 32x32 RGB images; docs/real-images.md says which. The networks, the
loss and the optimizer are the product's, and the order of the phases is that of hosts: FastGAN-lite with ngf 16, a projected D on
EfficientNet-Lite0 at 128 pixels with separable heads, DiffAugment, batches of 8, rates 1e-3. One process, one thread. Of each
evaluation the log has a line: the Frechet distance, precision and recall (k = 3) on features of EfficientNet-Lite1 at 64 pixels,
of 1000 samples of G's average against all targets, at most 4000. These are no FID of Inception, and compare with each other
only."""

import argparse
import contextlib
import copy
import io
import json
import statistics
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from benchmarks.common.paths import ROOT
from spider_plugin.metrics.distances import Moments, fid
from spider_plugin.portable.discriminator.feature_networks import FrozenFeatures
from spider_plugin.portable.generators.fastgan import FastGANGenerator
from spider_plugin.portable.source.bank import ImageBank
from spider_plugin.projected_discriminator import ProjectedDiscriminator
from spider_plugin.resources import resource_dir
from spider_plugin.sources import match
from spider_plugin.training.hinge import ProjectedHingeLoss
from spider_plugin.training.steady import FadingAdam
from spider_plugin.weights import prepare_backbone

RESULTS = ROOT / 'benchmarks' / 'results' / 'real_method.json'
BATCH, RATE, SAMPLES, HALF_LIFE = 8, 1e-3, 1000, 0.05     # of G's average, as a share of the images so far

#----------------------------------------------------------------------------
# Arms. start: output gain of the untrained G, 0.05 before it was 0; maps: those with a head; variety: --spider-variety.

ARMS = {
    'plain':    dict(start=0.05, maps=4),
    'zero':     dict(start=0.0, maps=4),
    'steady':   dict(start=0.0, maps=3, steady=True),
    'varied':   dict(start=0.0, maps=3, steady=True, variety=0.5),
    'gaussian': dict(source=False, maps=4),
}

#----------------------------------------------------------------------------
# Data and the judge.

def read(path):
    """Return uint8 [N, 3, R, R] of a dataset zip, in the order of names."""
    with zipfile.ZipFile(path) as archive:
        names = sorted(name for name in archive.namelist() if name.endswith('.png'))
        images = [np.asarray(Image.open(io.BytesIO(archive.read(name))).convert('RGB')) for name in names]
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()

def moved(source, target, strength):
    """Return the source moved to the mean and covariance of the target at `strength` x `strength` pixels; 0: as it is."""
    if strength == 0:
        return source
    match._COARSE = strength
    return torch.from_numpy(match.GaussianTransport(source.numpy(), target.numpy())(source.numpy()))

class Judge:
    """Scores of samples against a target, uint8 [N, 3, R, R]."""

    def __init__(self, target):
        self.network = FrozenFeatures(*prepare_backbone('tf_efficientnet_lite1'))
        self.real = self.features(target[:4000])
        self.moments = Moments(self.real)
        order = torch.randperm(len(self.real), generator=torch.Generator().manual_seed(5))[:SAMPLES]
        self.some = self.real[order]

    @torch.no_grad()
    def features(self, images):
        parts = (F.interpolate(x / 127.5 - 1, [64, 64], mode='bilinear', align_corners=False) for x in images.split(100))
        return torch.cat([self.network.features(x)[-1].mean(dim=[2, 3]) for x in parts]).double()

    def __call__(self, images):
        found = self.features(images)
        inside = lambda x, of: float((torch.cdist(x, of) <= torch.cdist(of, of).kthvalue(4).values).any(dim=1).double().mean())
        return dict(fd=round(fid(Moments(found), self.moments).value, 1), precision=round(inside(found, self.some), 3),
                    recall=round(inside(self.some, found), 3))

def score(judge, G):
    """Return the scores of G's average, how far samples are from their source, and how far another latent moves them; both as
    a share of the distance between samples."""
    z = torch.randn([SAMPLES, G.z_dim], generator=torch.Generator().manual_seed(123))
    with torch.no_grad():
        ws = G.mapping(z, None)
        x = torch.cat([G.synthesis(part, noise_mode='const') for part in ws.split(250)])
    row = judge((x * 127.5 + 128).clamp(0, 255).to(torch.uint8))
    if G.source is not None:
        norm = lambda difference: float(difference.flatten(1).norm(dim=1).mean())
        between, rows = norm(x - x.roll(1, 0)), G.synthesis.num_ws
        other = torch.cat([ws[:250, :rows].roll(1, 0), ws[:250, rows:]], dim=1)
        with torch.no_grad():
            y = G.synthesis(other, noise_mode='const')
        row |= dict(own=round(norm(x - G.source.sample(z)) / between, 3), latent=round(norm(x[:250] - y) / between, 3))
    return row

#----------------------------------------------------------------------------
# One run.

def networks(source, resolution, seed, start=0.0, maps=4, source_of_G=True):
    torch.manual_seed(seed)
    fed = dict(spider=dict(mapping='residual'), source=source) if source_of_G else {}
    G = FastGANGenerator(256, 0, resolution, 3, ngf=16, lite=True, **fed).train().requires_grad_(False)
    if source_of_G:
        G.synthesis.output_gain.fill_(start)
    D = ProjectedDiscriminator(0, resolution, 3, heads='separable', feature_resolution=128, maps=maps)
    return G, D.train().requires_grad_(False)

def run(pair, arm, strength, seed, images, at, log):
    """Train one arm and append a line to `log` for each evaluation, at the numbers of images in `at`."""
    options = dict(ARMS[arm])
    steady, variety, fed = (options.pop(key, default) for key, default in (('steady', False), ('variety', 0), ('source', True)))
    target = read(Path(pair) / 'target.zip')
    source = moved(read(Path(pair) / 'source.zip'), target, strength)
    bank = ImageBank.from_images(source, dict(name='source', sha256='', transform='', licence='')) if fed else None
    judge = Judge(target)
    G, D = networks(bank, target.shape[-1], seed, source_of_G=fed, **options)
    average = copy.deepcopy(G).eval()
    opt_G = (FadingAdam(G.parameters(), RATE, images // BATCH, betas=(0.5, 0.99)) if steady else
             torch.optim.Adam(G.parameters(), RATE, betas=(0.0, 0.99)))
    opt_D = torch.optim.Adam(D.parameters(), RATE, betas=(0.0, 0.99))
    loss = ProjectedHingeLoss('cpu', D, G=G, variety=variety)
    order, queue, seconds = np.random.default_rng(seed), [], 0.0
    c = torch.zeros([BATCH, 0])
    for nimg in range(0, images + 1, BATCH):
        if nimg in at or nimg in (0, images):
            line = dict(pair=Path(pair).name, match=strength, arm=arm, seed=seed, images=nimg, cpu_seconds=round(seconds, 1))
            with open(log, 'a', encoding='utf-8') as file:
                file.write(json.dumps(line | score(judge, average)) + '\n')
        if nimg == images:
            return
        begin = time.process_time()
        if len(queue) < BATCH:
            queue += order.permutation(len(target)).tolist()
        real, queue = target[queue[:BATCH]] / 127.5 - 1, queue[BATCH:]
        for network, phase, optimizer in ((G, 'Gboth', opt_G), (D, 'Dboth', opt_D)):
            network.requires_grad_(True)
            optimizer.zero_grad(set_to_none=True)
            loss.accumulate_gradients(phase, real, c, torch.randn([BATCH, G.z_dim]), c, gain=1, cur_nimg=nimg)
            network.requires_grad_(False)
            optimizer.step()
        update(average, G, 0.5 ** (BATCH / ((nimg + BATCH) * HALF_LIFE)))
        seconds += time.process_time() - begin

@torch.no_grad()
def update(average, G, beta):
    for old, new in zip(average.parameters(), G.parameters(), strict=True):
        old.copy_(new.lerp(old, beta))
    for old, new in zip(average.buffers(), G.buffers(), strict=True):
        old.copy_(new)

#----------------------------------------------------------------------------
# The table.

def lines_of(path):
    """Return the lines of a log, or of benchmarks/results/real_method.json."""
    text = Path(path).read_text(encoding='utf-8')
    return json.loads(text)['lines'] if str(path).endswith('.json') else [json.loads(line) for line in text.splitlines()]

def table(lines):
    """Return Markdown: a row for each pair, arm and length of a run, with the values of its seeds in their order."""
    runs, rows_of = {}, {}
    for line in lines:
        runs.setdefault((line['pair'], line['arm'], line['seed']), []).append(line)
    for (pair, arm, seed), curve in runs.items():
        rows_of.setdefault((pair, arm, curve[-1]['images']), {})[seed] = curve
    rows = ['| pair | arm | images | seeds | source, untrained | highest after it | end | recall: start, end | latent | CPU-s |',
            '|' + '---|' * 10]
    for (pair, arm, images), seeds in sorted(rows_of.items()):
        curves = [curve for _, curve in sorted(seeds.items())]
        ends = [curve[-1] for curve in curves]
        cells = [pair, arm, str(images), ' '.join(str(seed) for seed in sorted(seeds)),
                 ' '.join(f"{curve[0]['fd']:.0f}" for curve in curves),
                 ' '.join(f"{max(line['fd'] for line in curve[1:]):.0f}" for curve in curves),
                 ' '.join(f"{end['fd']:.0f}" for end in ends),
                 ' '.join([f"{statistics.mean(curve[0]['recall'] for curve in curves):.2f},",
                           *(f"{end['recall']:.2f}" for end in ends)]),
                 ' '.join(f"{end.get('latent', 0):.2f}" for end in ends),
                 f"{statistics.mean(end['cpu_seconds'] for end in ends):.0f}"]
        rows.append(f'| {" | ".join(cells)} |')
    return '\n'.join(rows)

def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    commands = parser.add_subparsers(dest='command', required=True)
    one = commands.add_parser('run')
    one.add_argument('pair')
    one.add_argument('--arm', choices=ARMS, required=True)
    one.add_argument('--match', type=int, choices=[0, 1, 2, 4, 8, 16], default=16)
    one.add_argument('--seed', type=int, default=0)
    one.add_argument('--images', type=int, default=1200)
    one.add_argument('--at', type=int, nargs='*', default=[120, 304, 600, 1200, 2400])
    one.add_argument('--log', required=True)
    several = commands.add_parser('table')
    several.add_argument('log', nargs='?', default=RESULTS)
    args = parser.parse_args()
    if args.command == 'table':
        lines = lines_of(args.log)
        print(table([line for line in lines if line['arm'] in ARMS]))
        print(table([line for line in lines if line['arm'] not in ARMS]))
        return
    torch.set_num_threads(1)
    with contextlib.ExitStack() as stack:
        sys.path.insert(0, str(resource_dir('reference_host')))     # the loss reports to a host's statistics
        stack.callback(sys.path.remove, str(resource_dir('reference_host')))
        run(args.pair, args.arm, args.match, args.seed, args.images, set(args.at), args.log)

if __name__ == '__main__':
    main()
