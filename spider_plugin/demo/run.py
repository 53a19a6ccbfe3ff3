"""`spider demo` builds two datasets, trains twice side by side, and writes summary.json and report.html.

Both runs are the reference host's train.py, started as a user would start it."""

import importlib.metadata
import json
import os
import platform
import shutil
import time
from pathlib import Path

import torch

import spider_plugin
from spider_plugin.demo import analysis, pairs, report
from spider_plugin.demo.training import RECALL, SCORE, Run, command, environment, train
from spider_plugin.errors import SpiderError
from spider_plugin.files.cache import atomic_file
from spider_plugin.neighbors.detector import HostDetector
from spider_plugin.snapshots.rebuild import load_generator
from spider_plugin.sources.match import GaussianTransport

MARKER  = '.spider-demo'    # a folder that holds this file is an earlier demo and may be replaced
PARTS   = ('data', 'runs', 'cache', 'summary.json', 'report.html')
NAMES   = ('spider', 'baseline')

#----------------------------------------------------------------------------

def run_demo(outdir, seed=0, threads=1, quick=False, pair=None):
    """Run the demo, and return the dict that is written to summary.json.

    outdir:     new or empty folder, or that of an earlier demo, which is replaced.
    seed:       seed of data, initialisation and training.
    threads:    CPU threads of each of the two runs.
    quick:      take half of the time or less, on less data and with rougher curves.
    pair:       'maps' or 'digits'; None: maps where the weights of its networks are installed.
    Raises SpiderError for errors that the user can correct, and RunFailed if a run ends with an error."""
    pair, remark = pairs.choose(pair)
    start, plan, outdir = time.time(), pair.quick if quick else pair.full, Path(outdir).absolute()
    prepare_outdir(outdir)
    if remark:
        print(remark, flush=True)
    print(f'Building {plan["images"]} {pair.target} (target) and as many {pair.source} (source) ...', flush=True)
    target, source = pair.build(outdir / 'data', seed=seed, n=plan['images'])
    common = (plan, seed, threads, target)
    runs = dict(baseline=Run('baseline', outdir, plan, pair.batch, command(pair, outdir, 'baseline', *common)),
                spider=Run('spider', outdir, plan, pair.batch, command(pair, outdir, 'spider', *common, source)))
    built = time.time()
    train(runs.values(), environment(outdir, threads))
    trained = time.time()
    print('Drawing samples and writing the report ...', flush=True)
    torch.set_num_threads(threads)
    pictures = draw(pair, runs, seed, plan)
    summary = summarise(pair, runs, pictures, plan, seed, threads, quick)
    summary['seconds'] = dict(data=built - start, training=trained - built, analysis=time.time() - trained,
                              total=time.time() - start)
    write(outdir / 'summary.json', json.dumps(summary, indent=2))
    write(outdir / 'report.html', report.render(summary, pictures))
    print(closing_words(summary, outdir), flush=True)
    return summary

def write(path, text):
    with atomic_file(path) as temp:
        temp.write_text(text, encoding='utf-8')

#----------------------------------------------------------------------------
# The folder.

def prepare_outdir(outdir):
    """Make `outdir`, or remove an earlier demo from it. Raises SpiderError if it holds anything else."""
    try:
        if outdir.is_dir() and any(outdir.iterdir()) and not (outdir / MARKER).is_file():
            raise SpiderError(f'--outdir={outdir} has content that is not a demo; give a new folder.')
        outdir.mkdir(parents=True, exist_ok=True)
        (outdir / MARKER).write_text('Written by `spider demo`, which may replace the files beside this one.\n')
        for path in (outdir / name for name in PARTS):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    except OSError as error:
        raise SpiderError(f'--outdir={outdir} cannot be written ({error.strerror}); give another folder.') from error

#----------------------------------------------------------------------------
# Pictures and numbers.

def draw(pair, runs, seed, plan, shown=8, stages=4):
    """Return samples of the best and the last snapshots, and of `stages` snapshots during training, from the same latents.

    returns     uint8 tensors [N, 3, R, R]: 'spider' and 'baseline' (the last snapshots), 'spider_best' and 'baseline_best' (of
                those after training began), 'sources' (as G gets them), 'redrawn' (the last snapshot on the same source
                images and other latents), 'target' (the training set), 'fresh' (target images of another seed), 'raw' (the
                first `shown` source images as they are in the dataset), 'nearest' (the target images that are nearest to the
                first `shown` samples), and {'spider_stages', 'baseline_stages': {iteration: [shown, ...]}}."""
    n = plan['samples']
    pictures = dict(target=pair.target_images(plan['images'], seed), fresh=pair.target_images(n, seed + 1))
    for name, run in runs.items():
        snapshots = run.snapshots()
        iterations, best = list(snapshots), analysis.best_after_start(run.curve())[0]
        picked = {iterations[round(i * (len(iterations) - 1) / (stages - 1))] for i in range(stages)} | {best}
        networks = {i: load_generator(str(snapshots[i])) for i in sorted(picked)}
        z = torch.randn([n, networks[best].z_dim], generator=torch.Generator().manual_seed(seed + 1))
        pictures[f'{name}_stages'] = {i: sample(G, z[:shown]) for i, G in networks.items()}
        final = networks[iterations[-1]]
        pictures[name] = sample(final, z)
        pictures[f'{name}_best'] = pictures[name] if best == iterations[-1] else sample(networks[best], z)
        if final.source is not None:
            pictures['sources'] = to_uint8(final.source.sample(z))
            pictures['redrawn'] = redraw(final, z)
    pictures['raw'] = before_match(pair, pictures['sources'][:shown], pictures['target'], plan, seed)
    pictures['nearest'] = pictures['target'][analysis.nearest(pictures['spider'][:shown], pictures['target'])]
    return pictures

@torch.no_grad()
def sample(G, z):
    return torch.cat([to_uint8(G(part, None)) for part in z.split(100)])

@torch.no_grad()
def redraw(G, z):
    """Return samples with the source images of z [N, z_dim] and the latents of its neighbours, uint8 [N, 3, R, R]."""
    images, slots = [], G.mapping.key_slots
    for part in z.split(100):
        ws = G.mapping(part, None)
        images.append(to_uint8(G.synthesis(torch.cat([ws.roll(1, dims=0)[:, :-slots], ws[:, -slots:]], dim=1))))
    return torch.cat(images)

def to_uint8(images):
    return (images * 127.5 + 128).clamp(0, 255).to(torch.uint8)

def before_match(pair, moved, target, plan, seed):
    """Return the source images of the dataset that were moved to `moved`, both uint8 [N, 3, R, R]."""
    raw = pair.source_images(plan['images'], seed)
    return raw[analysis.nearest(moved, torch.from_numpy(GaussianTransport(raw.numpy(), target.numpy())(raw.numpy())))]

def summarise(pair, runs, pictures, plan, seed, threads, quick):
    """Return the content of summary.json, except the seconds."""
    curves = {name: run.curve() for name, run in runs.items()}
    recalls = {name: run.recall() for name, run in runs.items()}
    detector = HostDetector(pair.detector)
    features = {name: analysis.detector_features(detector, pictures[name])
                for name in ('spider', 'sources', 'redrawn', 'baseline', 'target', 'fresh')}
    reference = {name: analysis.frechet_distance(features[key], features['target'])
                 for name, key in dict(fresh_target='fresh', source='sources').items()}
    result = {}
    for name in NAMES:
        best, recall = analysis.best_after_start(curves[name]), dict(recalls[name])
        result[name] = dict(curve=curves[name], recall=recalls[name], seconds=runs[name].progress()[1],
                            best=dict(iteration=best[0], score=best[1], recall=recall[best[0]]),
                            last=dict(iteration=curves[name][-1][0], score=curves[name][-1][1], recall=recalls[name][-1][1]))
    return dict(
        format=2, seed=seed, quick=quick, pair=pair.name, metric=SCORE, recall_metric=RECALL, score_name=pair.score, **result,
        untrained=dict(score=curves['spider'][0][1], recall=recalls['spider'][0][1]),
        adds_to_source=analysis.adds_to_source(curves['spider']), goal=analysis.reached_goal(**curves),
        reference_scores=reference, copy_check=analysis.copy_check({k: pictures[k] for k in features}, features),
        settings=dict(pair.options, **plan, batch=pair.batch, detector=pair.detector, threads=threads,
                      spider=pair.spider, noise=pair.noise),
        versions=dict({name: importlib.metadata.version(name) for name in ('torch', 'numpy')},
                      spider_plugin=spider_plugin.__version__, python=platform.python_version(),
                      machine=f'{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs'),
        attribution=pair.attribution)

def closing_words(summary, outdir):
    """Return what the user reads at the end."""
    pair, spider, baseline = pairs.PAIRS[summary['pair']], summary['spider'], summary['baseline']
    return (f'{report.verdict(summary)}\n'
            f'{summary["score_name"]}, lower is better. Untrained source: {summary["untrained"]["score"]:.0f}. After '
            f'{spider["last"]["iteration"]} iterations: {spider["last"]["score"]:.0f} from {pair.sources}, '
            f'{baseline["last"]["score"]:.0f} from noise.\n'
            f'This is one seed. Open {outdir / "report.html"} ({summary["seconds"]["total"]:.0f} s).')

#----------------------------------------------------------------------------
