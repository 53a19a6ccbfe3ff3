"""One run from a source of real images, or from noise, by one of several methods, on a pair of small images, on one CPU core.

    python -m benchmarks.convergence.real_method run PAIR --arm steady --match auto --seed 0 --images 1200 --log runs.jsonl
    python -m benchmarks.convergence.real_method table [runs.jsonl]           # the tables of methods in docs/real-images.md

PAIR is a folder with target.zip and source.zip, datasets of RGB images, and perhaps held.zip, images of the target that are
not trained on; docs/real-images.md says which. The networks, the loss and the optimizer are the product's, and the order of
the phases is that of hosts: FastGAN-lite with ngf 16, a projected D on EfficientNet-Lite0 at 128 pixels with separable heads,
DiffAugment, batches of 8, rates 1e-3. One process, one thread. Of each evaluation the log has a line: the Frechet distance,
precision and recall (k = 3) on features of EfficientNet-Lite1 at 64 pixels, of 1000 samples of G's average against all
targets, or all that are held out, at most 4000. These are no FID of Inception, and compare with each other only. With --state
a run that was stopped goes on, also to more images than it was started for. real_study.py has the runs of the study."""

import argparse
import contextlib
import copy
import functools
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
from spider_plugin import detectors
from spider_plugin.files.cache import atomic_file
from spider_plugin.metrics.distances import Moments, fid
from spider_plugin.portable.discriminator.feature_networks import FrozenFeatures
from spider_plugin.portable.generators.dcgan import DCGANGenerator
from spider_plugin.portable.generators.fastgan import FastGANGenerator
from spider_plugin.portable.source.bank import ImageBank
from spider_plugin.projected_discriminator import ProjectedDiscriminator
from spider_plugin.resources import resource_dir
from spider_plugin.sources.match import GaussianTransport
from spider_plugin.sources.match_choice import choose
from spider_plugin.sources.procedural import covariance
from spider_plugin.training.hinge import ProjectedHingeLoss
from spider_plugin.training.steady import FadingAdam
from spider_plugin.weights import prepare_backbone

RESULTS = ROOT / 'benchmarks' / 'results' / 'real_method.json'
BATCH, RATE, SAMPLES, HALF_LIFE = 8, 1e-3, 1000, 0.05     # of G's average, as a share of the images so far

#----------------------------------------------------------------------------
# Arms. start: output gain of the untrained G, 0.05 before it was 0; maps: those with a head; variety: --spider-variety; source:
# what feeds G, the pair's source where nothing is said; augment: DiffAugment; match: the strength, --match where nothing is said;
# G: another generator; rate_G: where it is not that of D; mapping, z_dim: how the source is fed; pretrained: images from noise on
# the source's images beforehand, whose cost is not counted. `default` is what the product's own defaults train.

ARMS = {
    'plain':    dict(start=0.05, maps=4),
    'default':  dict(maps=4),
    'steady':   dict(maps=3, steady=True),
    'steady, slow G': dict(maps=3, steady=True, rate_G=2.5e-4),
    'varied':   dict(maps=3, steady=True, variety=0.5),
    'default, no DiffAugment':  dict(maps=4, augment=False),
    'default, not matched':     dict(maps=4, match=0),
    'default, matched at 2':    dict(maps=4, match=2),
    'default, matched at 16':   dict(maps=4, match=16),
    'steady, matched at 2':     dict(maps=3, steady=True, match=2),
    'steady, no DiffAugment':   dict(maps=3, steady=True, augment=False),
    'steady, wide':             dict(maps=3, steady=True, ngf=32),
    'steady, wide, DSC':        dict(maps=3, steady=True, ngf=32, dsc={}),
    'paper mapping':            dict(maps=4, mapping='paper-16x32', z_dim=512),
    'transfer':                 dict(maps=4, source=None, augment=False, pretrained=3000),
    'dcgan':                    dict(maps=4, G='dcgan'),
    'dcgan, steady, slow G':    dict(maps=3, steady=True, rate_G=2.5e-4, G='dcgan'),
    'dcgan, gaussian':          dict(maps=4, G='dcgan', source=None, augment=False),
    'covariance':               dict(maps=4, source='covariance'),
    'gaussian':                 dict(maps=4, source=None),
    'gaussian, rates 2e-3':     dict(maps=4, source=None, rate=2e-3),
    'gaussian, rates 5e-4':     dict(maps=4, source=None, rate=5e-4),
    'gaussian, no DiffAugment': dict(maps=4, source=None, augment=False),
    'gaussian, steady':         dict(maps=3, source=None, steady=True),
    'gaussian, steady, no DiffAugment': dict(maps=3, source=None, steady=True, augment=False),
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
    """Return (the source moved to the mean and covariance of the target at `strength` x `strength` pixels, the strength).

    strength: 0 for none; 'auto' as --spider-match=auto with lite1 installed."""
    if strength == 'auto':
        shuffled = lambda images: images.numpy()[np.random.default_rng(0).permutation(len(images))]
        strength = choose(shuffled(source), shuffled(target), detectors.open_detector('lite1', torch.device('cpu'))).strength
    if strength == 0:
        return source, 0
    return torch.from_numpy(GaussianTransport(source.numpy(), target.numpy(), strength)(source.numpy())), strength

@functools.cache
def judged(pair):
    """Return (images of the target, the Judge of held.zip where the pair has it, else of the target)."""
    target, held = read(Path(pair) / 'target.zip'), Path(pair) / 'held.zip'
    return target, Judge(read(held) if held.is_file() else target)

@functools.cache
def source_images(pair, kind, strength):
    """Return (images that feed G or None, the strength of their match or None) of an arm."""
    target = judged(pair)[0]
    if kind is None:
        return None, None
    if kind == 'covariance':
        return torch.from_numpy(covariance(4000, target.shape[-1], 3, np.random.default_rng(7), target.numpy())), None
    return moved(read(Path(pair) / f'{kind}.zip'), target, strength)

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
    if G.synthesis.source is not None:
        norm = lambda difference: float(difference.flatten(1).norm(dim=1).mean())
        between, rows = norm(x - x.roll(1, 0)), G.synthesis.num_ws
        other = torch.cat([ws[:250, :rows].roll(1, 0), ws[:250, rows:]], dim=1)
        with torch.no_grad():
            y = G.synthesis(other, noise_mode='const')
        row |= dict(own=round(norm(x - G.source.sample(z)) / between, 3), latent=round(norm(x[:250] - y) / between, 3))
    return row

#----------------------------------------------------------------------------
# One run.

def networks(bank, resolution, seed, start=0.0, maps=4, augment=True, ngf=16, lite=True, dsc=None, G='fastgan',
             mapping='residual', z_dim=256):
    torch.manual_seed(seed)
    fed = {} if bank is None else dict(spider=dict(mapping=mapping), source=bank)
    G = (FastGANGenerator(z_dim, 0, resolution, 3, ngf=ngf, lite=lite, dsc=dsc, **fed) if G == 'fastgan' else
         DCGANGenerator(z_dim, 0, resolution, 3, **fed)).train().requires_grad_(False)
    if hasattr(G.synthesis, 'output_gain'):
        G.synthesis.output_gain.fill_(start)
    D = ProjectedDiscriminator(0, resolution, 3, heads='separable', feature_resolution=128, maps=maps, augment=augment)
    return G, D.train().requires_grad_(False)

class Run:
    """A run: networks, optimizers, order of the reals. images: of the whole run, over which --steady lets the rate fall."""

    def __init__(self, target, bank, seed, images, steady=False, variety=0, rate=RATE, rate_G=None, **options):
        self.target, self.nimg, self.seconds = target, 0, 0.0
        self.G, self.D = networks(bank, target.shape[-1], seed, **options)
        self.average = copy.deepcopy(self.G).eval()
        rate_G = rate if rate_G is None else rate_G
        self.opt_G = (FadingAdam(self.G.parameters(), rate_G, images // BATCH, betas=(0.5, 0.99)) if steady else
                      torch.optim.Adam(self.G.parameters(), rate_G, betas=(0.0, 0.99)))
        self.opt_D = torch.optim.Adam(self.D.parameters(), rate, betas=(0.0, 0.99))
        self.loss = ProjectedHingeLoss('cpu', self.D, G=self.G, variety=variety)
        self.order, self.queue = np.random.default_rng(seed), []

    def step(self):
        begin, c = time.process_time(), torch.zeros([BATCH, 0])
        if len(self.queue) < BATCH:
            self.queue += self.order.permutation(len(self.target)).tolist()
        real, self.queue = self.target[self.queue[:BATCH]] / 127.5 - 1, self.queue[BATCH:]
        for network, phase, optimizer in ((self.G, 'Gboth', self.opt_G), (self.D, 'Dboth', self.opt_D)):
            network.requires_grad_(True)
            optimizer.zero_grad(set_to_none=True)
            z = torch.randn([BATCH, self.G.z_dim])
            self.loss.accumulate_gradients(phase, real, c, z, c, gain=1, cur_nimg=self.nimg)
            network.requires_grad_(False)
            optimizer.step()
        self.nimg += BATCH
        update(self.average, self.G, 0.5 ** (BATCH / (self.nimg * HALF_LIFE)))
        self.seconds += time.process_time() - begin

    def start_from(self, other, images):
        """Train `other` for so many images, and take the weights of its networks."""
        while other.nimg < images:
            other.step()
        for mine, its in zip((self.G, self.D, self.average), (other.G, other.D, other.average), strict=True):
            mine.load_state_dict(its.state_dict())

    def save(self, path):
        parts = {name: getattr(self, name).state_dict() for name in ('G', 'D', 'average', 'opt_G', 'opt_D')}
        with atomic_file(Path(path)) as temp:
            torch.save(dict(parts=parts, torch=torch.get_rng_state(), numpy=self.order.bit_generator.state, queue=self.queue,
                            nimg=self.nimg, seconds=self.seconds), temp)

    def load(self, path):
        state = torch.load(path, weights_only=False)
        for name, part in state['parts'].items():
            getattr(self, name).load_state_dict(part)
        torch.set_rng_state(state['torch'])
        self.order.bit_generator.state = state['numpy']
        self.queue, self.nimg, self.seconds = state['queue'], state['nimg'], state['seconds']

def run(pair, arm, strength, seed, images, at, log, state=None, options=None, stop=lambda line: False):
    """Train one arm and append a line to `log` for each evaluation, at the numbers of images in `at` and at the end.

    state:   file in which the run is kept at each evaluation, and from which it goes on. options: of Run, beside those of the
    arm. stop: of a line, whether the run ends there. Returns the Run."""
    options = ARMS.get(arm, {}) | (options or {})
    target, judge = judged(pair)
    pretrained = options.pop('pretrained', 0)
    match = options.pop('match', strength)
    pixels, strength = source_images(pair, options.pop('source', 'source'), match)
    bank = None if pixels is None else ImageBank.from_images(pixels, dict(name='source', sha256='', transform='', licence=''))
    trained = Run(target, bank, seed, images, **options)
    done = -1
    if state is not None and Path(state).is_file():
        trained.load(state)
        done = trained.nimg
    elif pretrained:
        trained.start_from(Run(source_images(pair, 'source', match)[0], None, seed, pretrained, **options), pretrained)
    while True:
        nimg = trained.nimg
        if nimg > done and (nimg in at or nimg in (0, images)):
            line = dict(pair=Path(pair).name, match=strength, arm=arm, seed=seed, images=nimg,
                        cpu_seconds=round(trained.seconds, 1)) | score(judge, trained.average)
            with open(log, 'a', encoding='utf-8') as file:
                file.write(json.dumps(line) + '\n')
            if state is not None:
                trained.save(state)
            if stop(line):
                return trained
        if nimg >= images:
            return trained
        trained.step()

@contextlib.contextmanager
def one_thread_in_a_host():
    """The loss reports to a host's statistics: within this context the reference host's are found."""
    torch.set_num_threads(1)
    sys.path.insert(0, str(resource_dir('reference_host')))
    try:
        yield
    finally:
        sys.path.remove(str(resource_dir('reference_host')))

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
    one.add_argument('--match', type=lambda text: text if text == 'auto' else int(text), choices=['auto', 0, 1, 2, 4, 8, 16],
                     default='auto')
    one.add_argument('--seed', type=int, default=0)
    one.add_argument('--images', type=int, default=1200)
    one.add_argument('--at', type=int, nargs='*', default=[120, 304, 600, 1200, 2400])
    one.add_argument('--log', required=True)
    one.add_argument('--state')
    several = commands.add_parser('table')
    several.add_argument('log', nargs='?', default=RESULTS)
    args = parser.parse_args()
    if args.command == 'table':
        lines = lines_of(args.log)
        print(table([line for line in lines if line['arm'] in ARMS]))
        print(table([line for line in lines if line['arm'] not in ARMS]))
        return
    with one_thread_in_a_host():
        run(args.pair, args.arm, args.match, args.seed, args.images, set(args.at), args.log, args.state)

if __name__ == '__main__':
    main()
