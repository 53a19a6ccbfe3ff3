"""The study on real images: which runs, how long, and what they say. Rules and results: docs/real-images.md.

    python -m benchmarks.convergence.real_study run PAIRS WORK [CELL ...]   # PAIRS: the folder that real_pairs.py wrote
    python -m benchmarks.convergence.real_study report [WORK]      # adds WORK to the JSON; the tables of docs/real-images.md

A cell is PAIR/ARM/SEED/IMAGES; without one, all of PLAN. A run that was stopped goes on where it was, also to more images, and
one that is done is not made again. WORK/runs.jsonl has a line for each evaluation, to which real_peer.py adds its own,
WORK/sources.json what real_sources.py found, WORK/pictures a grid of samples at the end of each run.

The mark of a pair is MARK times the distance of its untrained source, at 0 images of an arm with the match that is chosen by
--spider-match=auto. The images to the mark are those of the first evaluation at or below it. The drawn pairs of the table of
matches are the dcgan runs of study.py."""

import argparse
import json
import os
import platform
import re
from pathlib import Path

import torch
from PIL import Image

import spider_plugin
from benchmarks.common.page_parts import fill
from benchmarks.common.paths import ROOT
from benchmarks.convergence import real_method, real_sources
from spider_plugin.files.cache import atomic_file
from spider_plugin.sources.match_choice import name_of

RESULTS = ROOT / 'benchmarks' / 'results' / 'real_study.json'
AT      = (304, 600, 1200, 1800, 2400, 3000, 3600, 4800, 6000, 9000, 12000)
MARK    = 0.7

#----------------------------------------------------------------------------
# What the page wants: (pair, arm, seed, images). The match is --spider-match=auto, but for the arms that say another.

TRIED = 0, 2, 16                                        # pixels of a match that were trained, 0 for none
MATCHES = 'default', 'default, not matched', 'default, matched at 2', 'default, matched at 16'
DRAWN = {'residual': 0, 'matched': 16}                  # the same among the arms of study.py
NOISE = 'gaussian, no DiffAugment'                      # its best options
SEEDS = 0, 1, 2
AUTO = 'default', 'steady', 'steady, wide'              # arms with the match that is chosen
AS_LONG = {'steady, wide': 1200, 'steady, wide, DSC': 1944}     # images that take as many CPU-seconds

PLAN = [*(('earth', arm, seed, 3000) for seed in SEEDS for arm in ('steady', NOISE, 'default', 'default, no DiffAugment')),
        *(('emoji', arm, seed, images) for seed in SEEDS for arm, images in (('steady', 2400), ('default', 1200), (NOISE, 1200))),
        *(('earth', 'covariance', seed, 600) for seed in SEEDS), ('earth', 'gaussian, steady, no DiffAugment', 0, 3000),
        *((pair, arm, seed, 600) for seed in SEEDS for pair, arms in
          dict(emoji=MATCHES[2:], earth=MATCHES[1:2], shaded=MATCHES[:2]).items() for arm in arms),
        *(('earth', NOISE, seed, 15000) for seed in SEEDS), *(('split', 'steady', seed, 3000) for seed in SEEDS),
        *(('earth64', arm, seed, images) for seed in SEEDS for arm, images in AS_LONG.items())]

def slug(pair, arm, seed):
    return f'{pair}-{re.sub("[^a-z0-9]+", "-", arm.lower())}-{seed}'

def picture(path, trained, columns=10, rows=4):
    """Write a grid of samples, each below its source image where it has one."""
    z = torch.randn([columns * rows, trained.G.z_dim], generator=torch.Generator().manual_seed(123))
    with torch.no_grad():
        tiles = [trained.average.synthesis(trained.average.mapping(z, None), noise_mode='const')]
    if trained.G.source is not None:
        tiles.insert(0, trained.G.source.sample(z))
    save_grid(path, [(x * 127.5 + 128).clamp(0, 255).to(torch.uint8) for x in tiles], columns, rows)

def save_grid(path, tiles, columns=10, rows=4):
    """Write a grid of images; tiles: kinds of them, uint8 [columns * rows, C, R, R], of which each is below the one before."""
    tiles = torch.stack(tiles)
    kinds, _, channels, side, _ = tiles.shape
    grid = tiles.reshape(kinds, rows, columns, channels, side, side).permute(1, 0, 4, 2, 5, 3)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(grid.reshape(rows * kinds * side, columns * side, channels).numpy()).save(path)

def train(pairs, work, pair, arm, seed, images):
    state = work / f'{slug(pair, arm, seed)}.pt'
    if state.is_file() and torch.load(state, weights_only=False)['nimg'] >= images:
        return
    trained = real_method.run(str(pairs / pair), arm, 'auto', seed, images, set(AT), work / 'runs.jsonl', state)
    picture(work / 'pictures' / f'{slug(pair, arm, seed)}.png', trained)

#----------------------------------------------------------------------------
# The tables.

def curves(lines):
    """Return {(pair, arm, seed): its lines by images}. The arm of a peer ends with its width."""
    found = {}
    for line in sorted(lines, key=lambda line: (line['pair'], line['arm'], line['seed'], line['images'])):
        arm = line['arm'] + (f', {line["fmap_max"]} maps' if 'fmap_max' in line else '')
        found.setdefault((line['pair'], arm, line['seed']), []).append(line)
    return found

def images_to(curve, mark):
    """Return the images of the first line at or below `mark`, or None."""
    return next((line['images'] for line in curve if line['images'] > 0 and line['fd'] <= mark), None)

def marks(runs):
    """Return {pair: its mark}."""
    starts = {pair: curve[0]['fd'] for (pair, arm, _), curve in runs.items() if arm in AUTO and curve[0]['images'] == 0}
    return {pair: MARK * fd for pair, fd in starts.items()}

def table(lines):
    """Return Markdown: a row for each run, but for those of the table of matches alone."""
    runs = curves(lines)
    mark = marks(runs)
    rows = ['| pair, mark | arm | seed | source, untrained | distance (at images) | to the mark | last, over the source | '
            'recall: start, end | own | latent | CPU-s |', '|' + '---|' * 11]
    for (pair, arm, seed), curve in runs.items():
        if pair == 'shaded' or arm in (MATCHES[1], MATCHES[3]):
            continue
        start, end = curve[0], curve[-1]
        fed = 'own' in end
        reached = images_to(curve, mark[pair])
        cells = [f'{pair}, {mark[pair]:.0f}', arm, str(seed), f'{start["fd"]:.0f}' if fed else 'none',
                 ', '.join(f'{line["fd"]:.0f} ({line["images"]})' for line in curve if line['images'] > 0 or not fed),
                 f'more than {end["images"]}' if reached is None else str(reached), f'{MARK * end["fd"] / mark[pair]:.2f}',
                 f'{start["recall"]:.2f}, {end["recall"]:.2f}', f'{end["own"]:.2f}' if fed else '',
                 f'{end["latent"]:.2f}' if 'latent' in end else '', f'{end["cpu_seconds"]:.0f}']
        rows.append(f'| {" | ".join(cells)} |')
    return '\n'.join(rows)

def trained_by_match(pair, lines, drawn):
    """Return (the network, a name of the budget's unit, {pixels of a match: [{budget: distance} of each seed]})."""
    found = {pixels: [] for pixels in TRIED}
    for (of, arm, _), curve in curves(lines).items():
        if of == pair and arm in MATCHES:
            found[curve[0]['match']].append({line['images']: line['fd'] for line in curve})
    if any(found.values()):
        return 'FastGAN-lite', 'images', found
    for row in drawn:
        if (row['cells'], row['network'], row['pair']) == ('controls', 'dcgan', pair) and row['arm'] in DRAWN:
            found[DRAWN[row['arm']]].append(dict(row['curves']['neutral']))
    return 'dcgan', 'iterations', found

def matches_table(lines, choices, drawn):
    """Return Markdown: what each match starts and ends at, after the longest budget that all runs of a pair have.

    lines: of runs; choices: rows of match_choice.json; drawn: rows of convergence.json."""
    rows = [f'| pair | `auto` is | trained | {" | ".join(map(name_of, TRIED))} |', '|' + '---|' * (3 + len(TRIED))]
    for choice in choices:
        network, unit, found = trained_by_match(choice['pair'], lines, drawn)
        curves = sum(found.values(), [])
        if curves:
            last = max(set.intersection(*map(set, curves)))
            cells = [', '.join(f'{curve[0]:.0f} -> {curve[last]:.0f}' for curve in found[pixels]) for pixels in TRIED]
            rows.append(f'| {choice["pair"]} | {choice["chosen"]} | {network}, {last} {unit} | {" | ".join(cells)} |')
    return '\n'.join(rows)

def of_other_studies():
    """Return (rows of match_choice.json, rows of convergence.json)."""
    return [json.loads((RESULTS.parent / f'{name}.json').read_text(encoding='utf-8'))['rows']
            for name in ('match_choice', 'convergence')]

def sources_table(found):
    """Return Markdown: the sources of each target by |SID|, and what a run from each starts at."""
    rows = ['| target | source | SID | FD | KID | as is | moved at 1 x 1 | at 16 x 16 |', '|' + '---|' * 8]
    for one in found:
        for name, row in sorted(one['rows'].items(), key=lambda item: abs(item[1]['sid'])):
            least = min(row['moved'].values())
            bold = lambda fd, least=least: f'**{fd:.0f}**' if fd == least else f'{fd:.0f}'
            moved = [bold(row['moved'][str(r)]) for r in real_sources.MATCHES]
            rows.append(f'| {one["target"]} | {name} | {row["sid"]:+.0f} ± {row["sid_ci95"]:.0f} | {row["fd"]:.0f} | '
                        f'{row["kid"]:.3g} | {" | ".join(moved)} |')
    return '\n'.join(rows)

def joined(old, new):
    """Return the lines of both, of a run that both have those of the longer one; of `new`, where they are equally long."""
    found = curves(old)
    for key, curve in curves(new).items():
        if key not in found or curve[-1]['images'] >= found[key][-1]['images']:
            found[key] = curve
    return [line for _, curve in sorted(found.items()) for line in curve]

def report(work):
    """Add the runs of WORK, where there is one, to the JSON, and write the tables of the page from the JSON."""
    if work is not None:
        old = json.loads(RESULTS.read_text(encoding='utf-8'))
        about = dict(about=__doc__.split('\n\n')[-1].replace('\n', ' '), device=f'{platform.processor() or platform.machine()}, '
                     f'one thread of {os.cpu_count()} cores that others used too', torch=torch.__version__,
                     plugin=spider_plugin.__version__, python=platform.python_version())
        sources = work / 'sources.json'
        record = about | dict(lines=joined(old['lines'], real_method.lines_of(work / 'runs.jsonl')),
                              sources=json.loads(sources.read_text(encoding='utf-8')) if sources.is_file() else old['sources'])
        with atomic_file(RESULTS) as temp:
            temp.write_text(one_a_line(record), encoding='utf-8')
    record = json.loads(RESULTS.read_text(encoding='utf-8'))
    fill(ROOT / 'docs' / 'real-images.md', {'study': table(record['lines']) + '\n',
                                            'matches': matches_table(record['lines'], *of_other_studies()) + '\n',
                                            'nearest': sources_table(record['sources']) + '\n'})

def one_a_line(record):
    """Return JSON with a line of text for each line of a run."""
    lines = ',\n'.join('  ' + json.dumps(line) for line in record['lines'])
    return json.dumps(record | dict(lines=[]), indent=1).replace('"lines": []', f'"lines": [\n{lines}\n ]') + '\n'

def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    commands = parser.add_subparsers(dest='command', required=True)
    runs = commands.add_parser('run')
    runs.add_argument('pairs', type=Path)
    runs.add_argument('work', type=Path)
    runs.add_argument('cells', nargs='*')
    commands.add_parser('report').add_argument('work', type=Path, nargs='?')
    args = parser.parse_args()
    if args.command == 'report':
        return report(args.work)
    args.work.mkdir(parents=True, exist_ok=True)
    cells = [cell.split('/') for cell in args.cells]
    with real_method.one_thread_in_a_host():
        for pair, arm, seed, images in cells or PLAN:
            train(args.pairs, args.work, pair, arm, int(seed), int(images))

if __name__ == '__main__':
    main()
