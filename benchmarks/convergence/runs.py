"""One run of the convergence study: train.py of the reference host, then every score of every snapshot in one pass."""

import json
import os
import resource
import subprocess
import sys

import torch

from benchmarks.convergence import arms, pairs
from spider_plugin.files.cache import atomic_file
from spider_plugin.metrics.distances import Moments, fid, kid
from spider_plugin.resources import resource_dir
from spider_plugin.snapshots.rebuild import load_generator

SAMPLES, REALS, NEIGHBOURS = 1000, 4000, 3

#----------------------------------------------------------------------------

def train(work, cells, arm, seed, rates, pretrained=None):
    """Trains unless it is done; returns the run's folder, which arms with equal options and rates share. CPU-seconds of the
    process are in its file `finished`."""
    spec, pair = arms.ARMS[arm], work / cells.pair
    glr, dlr = rates
    same = next(name for name, other in arms.ARMS.items() if (other.options, other.data) == (spec.options, spec.data))
    name = f'{cells.network}-{same.replace(" ", "")}-{glr:g}-{dlr:g}-{cells.iterations}-seed{seed}'
    outdir = pair / 'runs' / name
    if not (outdir / 'finished').is_file():
        outdir.mkdir(parents=True, exist_ok=True)
        kimg = arms.BATCH / 1000
        options = dict(arms.COMMON, **arms.NETWORKS[cells.network], outdir=outdir, data=pair / f'{spec.data}.zip', seed=seed,
                       glr=glr, dlr=dlr, kimg=kimg * cells.iterations, tick=kimg * cells.every)
        options |= {key: str(value).format(pair=pair, pretrained=pretrained) for key, value in spec.options.items()}
        options['metric-at-start'] = 'true'         # the snapshot of iteration 0
        command = [sys.executable, '-m', 'spider_plugin.hosts.run', resource_dir('reference_host') / 'train.py',
                   *(f'--{key}={value}' for key, value in options.items())]
        env = dict(os.environ, OMP_NUM_THREADS='1', SPIDER_CACHE_DIR=str(work / 'cache'), DNNLIB_CACHE_DIR=str(work / 'cache'))
        before = _children_seconds()
        with open(outdir / 'output.txt', 'w') as log:
            subprocess.run(command, check=True, stdout=log, stderr=subprocess.STDOUT, env=env)
        (outdir / 'finished').write_text(f'{_children_seconds() - before:.2f}\n')
    return outdir

def _children_seconds():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime

def snapshots(outdir, cells):
    """Paths of the snapshots in the order of training, and their iterations."""
    paths = sorted(max(outdir.glob('*-gpus1-*')).glob('network-snapshot-*.pkl'))
    return list(zip(range(0, cells.iterations + 1, cells.every), paths, strict=True))

#----------------------------------------------------------------------------
# Scores.

class Scorer:
    """What the samples of one pair are held against: features of real images in two spaces."""

    def __init__(self, work, pair):
        self.detector = torch.jit.load(str(work / 'neutral.pt'))
        target = pairs.PAIRS[pair].target
        self.target, self.fresh = target(REALS, 0), target(SAMPLES, 1)
        self.components = pairs.PixelComponents(self.target)
        self.reals = {space: Moments(x) for space, x in self.features(self.target).items()}

    def features(self, images):
        return dict(neutral=pairs.neutral_features(self.detector, images), pixels=self.components(images))

    def distances(self, images):
        """{space: Frechet distance}"""
        return {space: round(fid(Moments(x), self.reals[space]).value, 3) for space, x in self.features(images).items()}

    def details(self, images):
        """{space: KID, precision and recall}"""
        found = {}
        for space, x in self.features(images).items():
            reals = self.reals[space].features
            precision, recall = precision_recall(reals[: len(x)], x)
            found[space] = dict(kid=round(kid(x, reals).value, 3), precision=round(precision, 3), recall=round(recall, 3))
        return found

    def copies(self, images, sources):
        """Root mean square differences in pixels. own_source is 0 for a copy of the source; nearest_target far below that of
        fresh target images would be a copy of the training set."""
        x, s, t, f = (y.flatten(1).double() for y in (images, sources, self.target, self.fresh))
        rms = lambda d: round(float(d.mean()) / x.shape[1] ** 0.5, 2)
        return dict(own_source=rms((x - s).norm(dim=1)), another_source=rms((x - s.roll(1, dims=0)).norm(dim=1)),
                    nearest_target=rms(torch.cdist(x, t).amin(dim=1)), fresh_nearest_target=rms(torch.cdist(f, t).amin(dim=1)))

def precision_recall(real, fake, k=NEIGHBOURS):
    """Kynkaanniemi et al. 2019, equation 2: the share of fakes inside the k-nearest-neighbour balls of the reals, and the
    reverse; features [N, F] and [M, F]."""
    inside = lambda points, centres: float(
        (torch.cdist(points, centres) <= torch.cdist(centres, centres).kthvalue(k + 1).values).any(dim=1).double().mean())
    return inside(fake, real), inside(real, fake)

@torch.no_grad()
def sample(G, latents):
    images = torch.cat([G(z, torch.zeros([len(z), 0]), noise_mode='const') for z in latents.split(250)])
    return (images * 127.5 + 128).clamp(0, 255).to(torch.uint8)

def score(outdir, cells, scorer, shown=16):
    """{'curves': {space: [[iteration, FD], ...]}, 'end': {...}}; kept beside the run. Removes all but the last snapshot."""
    path = outdir / 'scores.json'
    if not path.is_file():
        curves, found = dict(neutral=[], pixels=[]), snapshots(outdir, cells)
        for iteration, snapshot in found:
            G = load_generator(snapshot).eval()
            z = torch.randn([SAMPLES, G.z_dim], generator=torch.Generator().manual_seed(0))
            images = sample(G, z)
            for space, distance in scorer.distances(images).items():
                curves[space].append([iteration, distance])
        end = scorer.details(images)
        skip = getattr(G.synthesis, 'source_skip_gain', None)
        if isinstance(skip, torch.nn.Parameter):
            end['skip'] = round(float(skip), 3)
        if getattr(G, 'source', None) is not None and G.source.channels == images.shape[1]:
            sources = (G.source.sample(z) * 127.5 + 128).clamp(0, 255).to(torch.uint8)
            if sources.shape == images.shape:
                end['copies'] = scorer.copies(images, sources)
        torch.save(images[:shown].clone(), outdir / 'shown.pt')
        for _, snapshot in found[:-1]:
            snapshot.unlink()
        with atomic_file(path) as temp:
            temp.write_text(json.dumps(dict(curves=curves, end=end)))
    return json.loads(path.read_text())

#----------------------------------------------------------------------------

_scorers = {}   # of this process

def row(work, cells, arm, seed, rates):
    """Everything about one run; a run that starts from a generator of the source trains that first."""
    torch.set_num_threads(1)
    spec, pretrained, before = arms.ARMS[arm], None, 0.0
    if spec.pretrained:
        folder = train(work, cells, 'pretraining', seed, rates['pretraining'])
        pretrained, before = snapshots_left(folder), float((folder / 'finished').read_text())
    outdir = train(work, cells, arm, seed, rates[arm], pretrained)
    if cells.pair not in _scorers:
        _scorers[cells.pair] = Scorer(work, cells.pair)
    scores = score(outdir, cells, _scorers[cells.pair])
    glr, dlr = rates[arm]
    return dict(cells=cells.name, network=cells.network, pair=cells.pair, arm=arm, seed=seed, glr=glr, dlr=dlr,
                cpu_seconds=float((outdir / 'finished').read_text()), folder=str(outdir.relative_to(work)),
                pretraining=dict(iterations=cells.iterations, cpu_seconds=before) if spec.pretrained else None, **scores)

def snapshots_left(folder):
    """The last snapshot of a run."""
    return sorted(max(folder.glob('*-gpus1-*')).glob('network-snapshot-*.pkl'))[-1]

#----------------------------------------------------------------------------
