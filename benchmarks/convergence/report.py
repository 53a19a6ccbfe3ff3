"""The tables, plot and pictures of docs/convergence.md and convergence_tables.md from benchmarks/results/convergence.json.
Needs matplotlib."""


import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from benchmarks.common.page_parts import fill
from benchmarks.common.paths import ROOT
from benchmarks.convergence import pairs

DOCS = ROOT / 'docs'
# Colour and dashes of the arms that the plot names: the baseline, the default, its control, the source as it is, the paper.
STYLES = {
    'gaussian': ('#111827', '-'), 'tanh gaussian': ('#111827', '-'), 'learned skip': ('#e11d48', '-'),
    'learned skip, target covariance': ('#2f855a', '-'), 'residual': ('#2563a8', '--'), 'paper-16x32': ('#b7791f', '--')}
OTHERS = '#c4c9d1'      # colour of the other arms, which are in the tables
WITHOUT = ('pretraining',)  # arms that the plot and the pictures leave out

#----------------------------------------------------------------------------

def write(results, work):
    """Replaces the parts of the two pages between their marker lines; writes docs/convergence.svg and, of the pairs whose runs
    are still in `work`, docs/convergence_PAIR.png."""
    entries = [entry for entry in results['table'] if entry['arm'] != 'pretraining']
    parts = {}
    for network in dict.fromkeys(entry['network'] for entry in entries):
        own = [entry for entry in entries if entry['network'] == network]
        parts[f'{network} ratios'] = matrix(own, ratio_cell)
        parts[f'{network} ends'] = matrix(own, end_cell)
    fill(DOCS / 'convergence.md', parts)
    fill(DOCS / 'convergence_tables.md', dict(ratios=ratio_table(results['table']), scores=score_table(results['table'])))
    plot(results, DOCS / 'convergence.svg')
    for pair in pairs.PAIRS:
        pictures(results, work, pair, DOCS / f'convergence_{pair}.png')
    print(f'{len(results["rows"])} runs, {sum(row["cpu_seconds"] for row in results["rows"]) / 3600:.2f} CPU-hours of training')

def table(header, rows):
    return ['| ' + ' | '.join(cells) + ' |' for cells in [header, ['---'] * len(header), *rows]]

def cell_of(entry):
    return entry['network'], entry['pair'], entry['iterations']

#----------------------------------------------------------------------------
# Of one network: a line for each arm, a column for each pair and budget.

def matrix(entries, text):
    """text: entry -> {what is added to the arm's name: the cell's text}."""
    columns = list(dict.fromkeys(map(cell_of, entries)))
    lines = {}
    for entry in entries:
        for added, cell in text(entry).items():
            lines.setdefault(entry['arm'] + added, {})[cell_of(entry)] = cell
    header = ['arm', *(f'{pair}, {budget}' for _, pair, budget in columns)]
    return table(header, [[arm, *(found.get(column, '') for column in columns)] for arm, found in lines.items()])

def ratio_cell(entry):
    neutral = entry['neutral']
    if 'iterations' not in neutral:
        return {'': '1'}
    names = {'': 'iterations'} | ({', with its source': 'with_source'} if 'with_source' in neutral else {})
    return {added: with_count(neutral[name]) for added, name in names.items()}

def with_count(found):
    count = '' if found['reached'] == found['seeds'] else f', {found["reached"]} of {found["seeds"]}'
    return ('not reached' if found['median'] is None else interval(found)) + count

def end_cell(entry):
    neutral = entry['neutral']
    return {'': f'{neutral["identity"]:.0f} → {neutral["end"]:.0f}; {neutral["recall"]:.2f}'}

#----------------------------------------------------------------------------
# Everything: a row for each cell and arm.

def ratio_table(entries):
    """Iterations and CPU-seconds over the baseline's, median and interval, and who got there."""
    rows = []
    for entry in entries:
        neutral, pixels = entry['neutral'], entry['pixels']
        found = neutral.get('iterations')
        rows.append([*name(entry), *(interval(x.get('iterations')) for x in (neutral, pixels)), interval(neutral.get('cpu')),
                     interval(neutral.get('with_source')), f'{found["reached"]} of {found["seeds"]}' if found else '',
                     str(len(entry['seeds']))])
    return table(['network', 'pair', 'budget', 'arm', 'iterations, neutral', 'iterations, pixels', 'CPU-s, neutral',
                  'with its source', 'reached', 'seeds'], rows)

def name(entry):
    return [entry['network'], entry['pair'], str(entry['iterations']), entry['arm']]

def interval(found):
    """Of a ratio; `at most` where most seeds were there at their first evaluation, so that their ratios are bounds."""
    if found is None:
        return ''
    number = lambda x: 'not reached' if x is None else f'{x:.2f}'
    median, (low, high) = found['median'], found['ci95']
    if low is None:
        return 'not reached'
    bound = 'at most ' if 2 * found['bounds'] > found['seeds'] else ''
    return f'{bound}{number(median)} ({number(low)} to {number(high)})'

def score_table(entries):
    """Scores before training, at best and at the end, learned factors of the source, and whether samples are copies."""
    rows = []
    for entry in entries:
        neutral, copies = entry['neutral'], entry.get('copies')
        rows.append([*name(entry), f'{entry["rates"][0]:g} / {entry["rates"][1]:g}', f'{neutral["identity"]:.1f}',
                     ' '.join(f'{x:.1f}' for x in neutral['best']), f'{neutral["end"]:.1f}', f'{entry["pixels"]["end"]:.2f}',
                     ' '.join(f'{x:.2f}' for x in entry.get('skip', [])), f'{neutral["kid"]:.0f}',
                     f'{neutral["precision"]:.2f} / {neutral["recall"]:.2f}',
                     f'{copies["own_source"] / copies["another_source"]:.2f}' if copies else '',
                     f'{copies["nearest_target"] / copies["fresh_nearest_target"]:.2f}' if copies else ''])
    return table(['network', 'pair', 'budget', 'arm', 'lr G / D', '@0', 'best, per seed', 'end', 'end, pixels',
                  'factor, per seed', 'KID', 'precision / recall', 'own source', 'nearest target'], rows)

#----------------------------------------------------------------------------

def plot(results, path):
    """Score against iterations for each cell: the geometric mean over seeds; of the arms in STYLES with their range."""
    import matplotlib
    matplotlib.use('Agg')
    matplotlib.rcParams['svg.hashsalt'] = 'convergence'
    from matplotlib import pyplot
    cells = {}
    for row in results['rows']:
        if row['arm'] not in WITHOUT:
            arms = cells.setdefault((row['network'], row['pair'], row['curves']['neutral'][-1][0]), {})
            arms.setdefault(row['arm'], []).append(row['curves']['neutral'])
    columns = min(len(cells), 3)
    lines = -(-len(cells) // columns)
    figure, axes = pyplot.subplots(lines, columns, figsize=(5.4 * columns, 4.6 * lines), squeeze=False)
    for axis in axes.flat[len(cells):]:
        axis.set_axis_off()
    for axis, ((network, pair, budget), arms) in zip(axes.flat, cells.items(), strict=False):
        for arm, curves in arms.items():
            x, y = np.array(curves).transpose(2, 0, 1)      # [seeds, evaluations] each
            mean = np.exp(np.log(y).mean(axis=0))
            if arm not in STYLES:
                axis.semilogy(x[0], mean, color=OTHERS, linewidth=0.8, zorder=1)
                continue
            colour, dashes = STYLES[arm]
            axis.semilogy(x[0], mean, color=colour, linestyle=dashes, linewidth=1.8, label=arm)
            axis.fill_between(x[0], y.min(axis=0), y.max(axis=0), color=colour, alpha=0.12, linewidth=0)
        if arms.keys() - STYLES.keys():
            axis.plot([], [], color=OTHERS, linewidth=0.8, label='other arms')
        axis.legend(frameon=False, fontsize=8)
        axis.set(title=f'{network}, {pair}, {budget} iterations', xlabel='iterations')
        axis.grid(alpha=0.3, which='both')
    for axis in axes[:, 0]:
        axis.set_ylabel('Frechet distance, neutral detector')
    figure.tight_layout()
    figure.savefig(path, metadata={'Date': None})

#----------------------------------------------------------------------------

def pictures(results, work, pair, path, tile=32, label=300):
    """Lines of 16 images: target, source, then the last samples of each cell and arm of the pair, of the first seed."""
    drawn = pairs.PAIRS[pair]
    lines = {f'target: {pair}': drawn.target(16, 0), 'source': drawn.source(16, 0)}
    for row in results['rows']:
        shown = work / row['folder'] / 'shown.pt'
        if (row['pair'] == pair and row['seed'] == results['plan'][0]['seeds'][0] and row['arm'] not in WITHOUT
                and shown.is_file()):
            lines[f'{row["network"]}, {row["curves"]["neutral"][-1][0]}: {row["arm"]}'] = torch.load(shown)
    if len(lines) == 2:
        return
    page = Image.new('RGB', (label + 16 * tile, tile * len(lines)), 'white')
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(size=13)
    for i, (said, images) in enumerate(lines.items()):
        pen.text((4, tile * i + 8), said, fill='black', font=font)
        strip = torch.cat(list(images), dim=2).expand(3, -1, -1).permute(1, 2, 0)
        page.paste(Image.fromarray(strip.contiguous().numpy()).resize((16 * tile, tile), Image.NEAREST), (label, tile * i))
    page.save(path)

#----------------------------------------------------------------------------
