"""Which source is nearest to a real target, by SID, FD and KID of its images as they are, and the start of a run from it.

    python -m benchmarks.convergence.real_sources PAIRS GOOGLE_DIR TWITTER_DIR BASEMAP_DIR OUT.json     # see real_pairs.py

Targets are those of the pairs earth and emoji. Of each source, COUNT images; features of EfficientNet-Lite1 as in real_method.py.
SID is its size, of the source against the target, as `spider neighbors` ranks by. `moved` has the Frechet distance of the images
moved to the target's moments by each match in MATCHES: the smallest of them is what an untrained Spider generator scores at the
best of these matches. Rank correlations (Spearman) are those with the smallest one, over sources."""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from scipy.stats import spearmanr

from benchmarks.convergence import real_method, real_pairs
from spider_plugin.files.cache import atomic_file
from spider_plugin.metrics.distances import Moments, fid, kid
from spider_plugin.metrics.sid import sid
from spider_plugin.registry import sources as drawn
from spider_plugin.sources.match import GaussianTransport

COUNT, SIDE, MATCHES = 1000, 32, (0, 1, 16)

def as_tensor(images):
    """uint8 [N, side, side, 3] -> [COUNT or fewer, 3, side, side], in a random order."""
    order = np.random.default_rng(1).permutation(len(images))[:COUNT]
    return torch.from_numpy(images[order]).permute(0, 3, 1, 2).contiguous()

def candidates(pairs, target, google, twitter, basemap):
    """Return {name: uint8 [N, 3, SIDE, SIDE]} for the target of a pair."""
    files = {'relief': 'earth/source', 'shaded relief': 'shaded/source', 'Noto Emoji': 'emoji/source',
             **({'Twemoji': 'emoji/target'} if target == 'earth' else {'satellite, Old World': 'earth/target'})}
    found = {name: as_tensor(real_method.read(pairs / f'{file}.zip').permute(0, 2, 3, 1).numpy()) for name, file in files.items()}
    if target == 'earth':
        found['satellite, New World'] = as_tensor(real_pairs.windows(basemap, 'bmng', True, COUNT, SIDE))
    else:
        found["Twemoji of the source's concepts"] = as_tensor(real_pairs.emoji(twitter, 'A', SIDE))
    reference = real_method.read(pairs / target / 'target.zip').numpy()
    for name in ('shapes', 'strokes', 'noise', 'covariance'):
        found[name] = torch.from_numpy(drawn[name](COUNT, SIDE, 3, np.random.default_rng(2), reference))
    return found

def study(pairs, target, folders):
    images, judge = real_method.judged(str(pairs / target))
    rows = {}
    for name, source in candidates(pairs, target, *folders).items():
        moved = {r: torch.from_numpy(GaussianTransport(source.numpy(), images.numpy(), r)(source.numpy())) if r else source
                 for r in MATCHES}
        features = {r: judge.features(x) for r, x in moved.items()}
        against = sid(features[0], judge.real)
        rows[name] = dict(sid=round(against.value, 1), sid_ci95=round(against.ci95, 1),
                          fd=round(fid(Moments(features[0]), judge.moments).value, 1),
                          kid=round(kid(features[0], judge.real).value, 3),
                          moved={str(r): round(fid(Moments(x), judge.moments).value, 1) for r, x in features.items()})
        print(target, name, json.dumps(rows[name]), flush=True)
    start = [min(row['moved'].values()) for row in rows.values()]
    predicted = {name: [abs(row[name]) for row in rows.values()] for name in ('sid', 'fd', 'kid')}
    return dict(target=target, rows=rows, spearman={name: round(float(spearmanr(x, start).statistic), 3)
                                                    for name, x in predicted.items()})

def main(pairs, google, twitter, basemap, out):
    torch.set_num_threads(1)
    found = []
    for target in ('earth', 'emoji'):
        found.append(study(Path(pairs), target, (google, twitter, basemap)))
        with atomic_file(Path(out)) as temp:
            temp.write_text(json.dumps(found, indent=1) + '\n')

if __name__ == '__main__':
    main(*sys.argv[1:])
