"""Does `--spider-match=auto` choose the right strength? On pairs of this study and on pairs of real images (real_pairs.py).

    pip install 'spider-plugin[imagenet]'
    python -m benchmarks.convergence.match_choice REAL_PAIRS_DIR WORK PAIR...

For each strength: the distances that the choice looks at, and those of a judge that it does not see, the Frechet distance of
JUDGED source images, moved by the transport that training would use, to as many target images. The judge is EfficientNet-Lite0
on real images, and on the drawn pairs the study's neutral detector, which is trained into WORK where that lacks it: networks of
ImageNet see little in grey images of 16 x 16. A strength is right where the judge's distance is at most 1.10 times the smallest.
The same choice is then made in DRAWS more orders of the images, by which other images are held out: `draws` has what is chosen,
and the smallest mean of the two distances over that without a match.
Results: benchmarks/results/match_choice.json."""

import io
import json
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from benchmarks.common.paths import ROOT
from benchmarks.convergence import pairs
from spider_plugin import detectors
from spider_plugin.metrics.distances import Moments, fid
from spider_plugin.portable.discriminator.feature_networks import FrozenFeatures
from spider_plugin.sources.match import GaussianTransport
from spider_plugin.sources.match_choice import choose, mean, name_of
from spider_plugin.weights import prepare_backbone

IMAGES, JUDGED, RIGHT, DRAWS = 4000, 1000, 1.10, 5
HELD_OUT = ('grey', 'shaded')       # looked at once, after the rule was fixed on the others

def read(path):
    """Return uint8 [N, C, R, R] of a dataset zip, shuffled."""
    with zipfile.ZipFile(path) as archive:
        names = sorted(name for name in archive.namelist() if name.endswith('.png'))
        order = np.random.RandomState(0).permutation(len(names))[:IMAGES]
        images = [np.atleast_3d(np.array(Image.open(io.BytesIO(archive.read(names[i]))))) for i in order]
    return np.ascontiguousarray(np.stack(images).transpose(0, 3, 1, 2))

def load(pair, folder):
    """Return (source, target), uint8 [N, C, R, R]."""
    if pair in pairs.PAIRS:
        return pairs.PAIRS[pair].source(IMAGES, 3).numpy(), pairs.PAIRS[pair].target(IMAGES, 3).numpy()
    return tuple(read(Path(folder, pair, f'{side}.zip')) for side in ('source', 'target'))

def judge(pair, work):
    """Return a function of uint8 [N, C, R, R] to features, float64 [N, n]."""
    if pair in pairs.PAIRS:
        path = Path(work, 'neutral.pt')
        if not path.is_file():
            pairs.train_detector(path, iterations=1500)
        network = torch.jit.load(str(path))
        return lambda images: pairs.neutral_features(network, torch.from_numpy(images))
    network = FrozenFeatures(*prepare_backbone('tf_efficientnet_lite0'))
    def features(images):
        found = []
        for part in torch.from_numpy(images).split(64):
            x = F.interpolate(part.float().expand(-1, 3, -1, -1) / 127.5 - 1, size=[64, 64], mode='bilinear')
            with torch.no_grad():
                found.append(network.features(x)[-1].mean(dim=[2, 3]))
        return torch.cat(found).double()
    return features

def study(pair, folder, features):
    """Return the row of a pair."""
    source, target = load(pair, folder)
    start, network = time.process_time(), detectors.open_detector('lite1', torch.device('cpu'))
    choice = choose(source, target, network)
    seconds = time.process_time() - start
    draws = [draw(source, target, network, np.random.default_rng(seed)) for seed in range(DRAWS)]
    moments, judged = Moments(features(target[:JUDGED])), {}
    for strength in (0, 1, 2, 4, 8, 16):
        moved = GaussianTransport(source, target, strength)(source[:JUDGED]) if strength else source[:JUDGED]
        judged[name_of(strength)] = round(fid(Moments(features(moved)), moments).value, 1)
    best = min(judged.values())
    alone = lambda which: min(choice.distances, key=lambda name: choice.distances[name][which])
    right = lambda name: judged[name] <= RIGHT * best
    chosen, patches, lite1 = name_of(choice.strength), alone(0), alone(1)
    rounded = {name: [round(value, 3) for value in row] for name, row in choice.distances.items()}
    return dict(pair=pair, held_out=pair in HELD_OUT, images=[len(source), len(target)], distances=rounded, judge=judged,
                chosen=chosen, right=right(chosen), patches_alone=patches, patches_alone_right=right(patches),
                lite1_alone=lite1, lite1_alone_right=right(lite1), cpu_seconds=round(seconds, 1), draws=draws)

def draw(source, target, network, rng):
    """Return [the choice in orders by rng, the smallest mean of the distances over that without a match]."""
    choice = choose(*(images[rng.permutation(len(images))] for images in (source, target)), network)
    means = {name: mean(row) for name, row in choice.distances.items()}
    return [name_of(choice.strength), round(min(means.values()) / means[name_of(0)], 3)]

def markdown(rows):
    """Return the table of docs/convergence.md: the judge's distances, that of the choice in bold."""
    names, wrong = list(rows[0]['judge']), lambda right: '' if right else ' (wrong)'
    lines = ['| pair | ' + ' | '.join(names) + ' | patches alone | lite1 alone |', '|' + '---|' * (len(names) + 3)]
    for row in rows:
        cells = [f'**{row["judge"][name]:.0f}**' if name == row['chosen'] else f'{row["judge"][name]:.0f}' for name in names]
        alone = [row[f'{by}_alone'] + wrong(row[f'{by}_alone_right']) for by in ('patches', 'lite1')]
        lines.append(f'| {row["pair"]}{", held out" if row["held_out"] else ""} | ' + ' | '.join(cells + alone) + ' |')
    return '\n'.join(lines)

def main(folder, work, *names):
    torch.set_num_threads(1)
    path = ROOT / 'benchmarks/results/match_choice.json'
    rows = {row['pair']: row for row in json.loads(path.read_text())['rows']} if path.is_file() else {}
    for pair in names:
        rows[pair] = study(pair, folder, judge(pair, work))
        print(json.dumps(rows[pair]), flush=True)
        about = dict(device='one CPU thread', torch=torch.__version__, judged=JUDGED, right=RIGHT)
        path.write_text(json.dumps(dict(about=about, rows=list(rows.values())), indent=1) + '\n')
    print(markdown(list(rows.values())))

if __name__ == '__main__':
    main(*sys.argv[1:])
