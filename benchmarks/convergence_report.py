"""The tables, the plot and the pictures of docs/convergence.md, from benchmarks/results/convergence.json. Needs matplotlib."""

from pathlib import Path

import torch
from page_parts import fill
from PIL import Image

DOCS = Path(__file__).resolve().parents[1] / 'docs'
COLOURS = {'gaussian': '#6b7280', 'tanh gaussian': '#374151', 'residual': '#d0246b', 'matched': '#7c3aed',
           'covariance': '#b7791f', 'target covariance': '#2f855a', 'noise': '#2563a8'}
OTHER = '#94a3b8'

#----------------------------------------------------------------------------

def write(results, work):
    """Replaces the parts of docs/convergence.md between their marker lines; writes docs/convergence.svg and, where the runs are
    still in `work`, docs/convergence.png."""
    picture = ['', '![Score against iterations, a line for each seed](convergence.svg)']
    fill(DOCS / 'convergence.md', dict(ratios=ratio_table(results['table']) + picture, scores=score_table(results['table'])))
    plot(results, DOCS / 'convergence.svg')
    pictures(results, work, DOCS / 'convergence.png')

def table(header, rows):
    return ['| ' + ' | '.join(cells) + ' |' for cells in [header, ['---'] * len(header), *rows]]

def name(entry):
    return [entry['network'], entry['pair'], str(entry['iterations']), entry['arm']]

#----------------------------------------------------------------------------

def ratio_table(entries):
    """A row for each cell and arm: iterations and CPU-seconds over the baseline's, median and interval, and who got there."""
    rows = []
    for entry in entries:
        neutral, pixels = entry['neutral'], entry['pixels']
        found = neutral.get('iterations')
        rows.append([*name(entry), *(interval(x.get('iterations')) for x in (neutral, pixels)), interval(neutral.get('cpu')),
                     interval(neutral.get('with_source')), f'{found["reached"]} of {found["seeds"]}' if found else '',
                     str(len(entry['seeds']))])
    return table(['network', 'pair', 'budget', 'arm', 'iterations, neutral', 'iterations, pixels', 'CPU-s, neutral',
                  'with its source', 'reached', 'seeds'], rows)

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
    """A row for each cell and arm: scores before training, at best and at the end, and whether samples are copies."""
    rows = []
    for entry in entries:
        neutral, copies = entry['neutral'], entry.get('copies')
        rows.append([*name(entry), f'{entry["rates"][0]:g} / {entry["rates"][1]:g}', f'{neutral["identity"]:.1f}',
                     ' '.join(f'{x:.1f}' for x in neutral['best']), f'{neutral["end"]:.1f}', f'{entry["pixels"]["end"]:.2f}',
                     f'{neutral["kid"]:.0f}', f'{neutral["precision"]:.2f} / {neutral["recall"]:.2f}',
                     f'{copies["own_source"] / copies["another_source"]:.2f}' if copies else '',
                     f'{copies["nearest_target"] / copies["fresh_nearest_target"]:.2f}' if copies else ''])
    return table(['network', 'pair', 'budget', 'arm', 'lr G / D', '@0', 'best, per seed', 'end', 'end, pixels', 'KID',
                  'precision / recall', 'own source', 'nearest target'], rows)

#----------------------------------------------------------------------------

def cells_of(rows):
    """{(network, pair, budget): rows}, in the order of the runs."""
    cells = {}
    for row in rows:
        cells.setdefault((row['network'], row['pair'], row['curves']['neutral'][-1][0]), []).append(row)
    return cells

def plot(results, path):
    """Score against iterations for each cell, a thin line for each seed."""
    import matplotlib
    matplotlib.use('Agg')
    matplotlib.rcParams['svg.hashsalt'] = 'convergence'
    from matplotlib import pyplot
    cells = cells_of(results['rows'])
    columns = min(len(cells), 3)
    lines = -(-len(cells) // columns)
    figure, axes = pyplot.subplots(lines, columns, figsize=(4.6 * columns, 3.6 * lines), squeeze=False)
    for axis in axes.flat[len(cells):]:
        axis.set_axis_off()
    for axis, ((network, pair, budget), rows) in zip(axes.flat, cells.items(), strict=False):
        for row in rows:
            axis.semilogy(*zip(*row['curves']['neutral'], strict=True), color=COLOURS.get(row['arm'], OTHER), linewidth=1,
                          label=row['arm'])
        handles, labels = axis.get_legend_handles_labels()
        shown = dict(zip(labels, handles, strict=True))
        axis.legend(shown.values(), shown.keys(), frameon=False, fontsize=8)
        axis.set(title=f'{network}, {pair}, {budget} iterations', xlabel='iterations')
        axis.grid(alpha=0.3, which='both')
    for axis in axes[:, 0]:
        axis.set_ylabel('Frechet distance, neutral detector')
    figure.tight_layout()
    figure.savefig(path, metadata={'Date': None})

def pictures(results, work, path, scale=2):
    """A line for each cell and arm of the first seed: 16 samples of the last snapshot. Grey and colour pairs are not mixed."""
    lines, said = [], []
    for (network, pair, budget), rows in cells_of(results['rows']).items():
        for row in rows:
            shown = work / row['folder'] / 'shown.pt'
            if row['seed'] == rows[0]['seed'] and shown.is_file() and row['curves']['neutral'][-1][0] == budget:
                images = torch.load(shown)
                if images.shape[-1] == 16:
                    lines.append(torch.cat(list(images[:, 0]), dim=1))
                    said.append(f'{network} {pair} {row["arm"]}')
    if lines:
        image = torch.cat(lines).numpy()
        Image.fromarray(image).resize((image.shape[1] * scale, image.shape[0] * scale), Image.NEAREST).save(path)
        print('\n'.join(['lines of docs/convergence.png, from the top:', *said]))

#----------------------------------------------------------------------------
