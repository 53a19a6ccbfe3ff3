"""The table and the plot of docs/convergence.md, from benchmarks/results/convergence.json. Needs matplotlib."""

from pathlib import Path
from statistics import fmean

DOCS = Path(__file__).resolve().parents[1] / 'docs'
COLOURS = {'gaussian': '#6b7280', 'covariance': '#b7791f', 'residual': '#d0246b'}
SHOWN = [0, 100, 200, 300, 600]     # iterations with a column of their own

#----------------------------------------------------------------------------

def write(results):
    """Replaces the part of docs/convergence.md between its two marker lines, and writes docs/convergence.svg."""
    page = DOCS / 'convergence.md'
    before, _, rest = page.read_text().partition('<!-- table -->\n')
    _, _, after = rest.partition('<!-- end of table -->\n')
    page.write_text(f'{before}<!-- table -->\n{table(results)}<!-- end of table -->\n{after}')
    plot(results, DOCS / 'convergence.svg')

def groups(results):
    """{(network, arm): rows of all seeds}, in the order of the runs."""
    grouped = {}
    for row in results['rows']:
        grouped.setdefault((row['network'], row['arm']), []).append(row)
    return grouped

def table(results):
    lines = ['| network | arm | lr G / D | ' + ' | '.join(f'@{i}' for i in SHOWN)
             + ' | best, per seed | iterations over the Gaussian\'s, per seed | copy |', '|---' * (len(SHOWN) + 6) + '|']
    for (network, arm), rows in groups(results).items():
        curves = [dict(row['curve']) for row in rows]
        means = ' | '.join(f'{fmean(curve[i] for curve in curves):.0f}' for i in SHOWN)
        bests = ' '.join(f'{min(s for i, s in row["curve"] if i > 0):.0f}' for row in rows)
        lines.append(f'| {network} | {arm} | {rows[0]["glr"]:g} / {rows[0]["dlr"]:g} | {means} | {bests} | {ratios(rows)} '
                     f'| {copy(rows)} |')
    return '\n'.join(lines) + '\n'

def ratios(rows):
    """'.42 .50 >1', one for each seed, and how many reached the Gaussian's best at all."""
    if 'ratio' not in rows[0]:
        return '1'
    words = ['>' + '1' if row['ratio'] is None else ('<=' if row['upper_bound'] else '') + f'{row["ratio"]:.2f}' for row in rows]
    return ' '.join(words) + f' ({sum(row["ratio"] is not None for row in rows)} of {len(rows)} reached)'

def copy(rows):
    """Mean distance of a sample to its own source image over that to another one, pixels; 1 is no relation, 0 a copy."""
    if 'copy_check' not in rows[0]:
        return ''
    pixels = [row['copy_check']['pixels'] for row in rows]
    return f'{fmean(p["sample_to_own_source"] / p["sample_to_another_source"] for p in pixels):.2f}'

#----------------------------------------------------------------------------

def plot(results, path):
    """Score against iterations, a thin line for each seed."""
    import matplotlib
    matplotlib.use('Agg')
    matplotlib.rcParams['svg.hashsalt'] = 'convergence'
    from matplotlib import pyplot
    networks = list(dict.fromkeys(row['network'] for row in results['rows']))
    figure, axes = pyplot.subplots(1, len(networks), figsize=(5 * len(networks), 3.6), sharey=True, squeeze=False)
    for axis, network in zip(axes[0], networks, strict=True):
        for row in results['rows']:
            if row['network'] == network:
                axis.semilogy(*zip(*row['curve'], strict=True), color=COLOURS[row['arm']], linewidth=1, label=row['arm'])
        axis.set(title=network, xlabel='iterations')
        handles = dict(zip(axis.get_legend_handles_labels()[1], axis.get_legend_handles_labels()[0], strict=True))
        axis.legend(handles.values(), handles.keys(), frameon=False)
        axis.grid(alpha=0.3, which='both')
    axes[0][0].set_ylabel('fid1k, grey pair detector')
    figure.tight_layout()
    figure.savefig(path, metadata={'Date': None})

#----------------------------------------------------------------------------
