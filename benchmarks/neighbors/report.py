"""The tables and the plot of docs/neighbors.md, from benchmarks/results/neighbors.json. The plot needs matplotlib."""

from statistics import fmean, geometric_mean

from scipy.stats import rankdata

from benchmarks.common.page_parts import fill
from benchmarks.common.paths import ROOT

DOCS = ROOT / 'docs'
OUTCOMES = dict(iterations='iterations to the Gaussian\'s best', early='score at iteration {early}', end='score at the end')
COLOURS = dict(sid_source_target='#d0246b', sid_target_source='#b7791f', fid='#2563a8', kid='#2f855a', location='#6b7280')

#----------------------------------------------------------------------------

def write(results):
    """Replaces the parts of docs/neighbors.md between their marker lines, and writes docs/neighbors.svg."""
    tables = {detector: correlation_table(results, detector) for detector in results['correlations']}
    fill(DOCS / 'neighbors.md', dict(sources=source_table(results), **tables))
    plot(results, DOCS / 'neighbors.svg')

def table(header, rows):
    """Lines of a markdown table; a bar inside a cell is written as one."""
    clean = lambda cell: cell.replace('|', '\\|')
    return ['| ' + ' | '.join(map(clean, cells)) + ' |' for cells in [header, ['---'] * len(header), *rows]]

def by_source(results):
    """{source: its rows of all seeds}, from the best end score to the worst."""
    grouped = {}
    for row in results['rows']:
        if row['arm'] != 'gaussian':
            grouped.setdefault(row['arm'], []).append(row)
    return dict(sorted(grouped.items(), key=lambda item: mean_score(item[1], 'end')))

def mean_score(rows, outcome):
    return geometric_mean(row['outcomes'][outcome] for row in rows)

#----------------------------------------------------------------------------

def source_table(results):
    early, end = results['settings']['early'], results['settings']['iterations']
    rows = []
    for source, runs in by_source(results).items():
        d = results['distances']['neutral'][source]
        reached = [run['outcomes']['iterations'] for run in runs if run['outcomes']['iterations'] is not None]
        iterations = f'{fmean(reached):.2f} ({len(reached)} of {len(runs)})' if reached else f'> 1 (0 of {len(runs)})'
        sids = [f'{d[f"signed_{way}"]:.0f} ± {d[f"signed_{way}_ci95"]:.0f}' for way in ('source_target', 'target_source')]
        rows.append([source, *sids, f'{d["fid"]:.1f}', f'{d["kid"]:.0f}', f'{d["location"]:.1f}', iterations,
                     *(f'{mean_score(runs, outcome):.0f}' for outcome in ('early', 'end'))])
    curves = [dict(row['curve']) for row in results['rows'] if row['arm'] == 'gaussian']
    rows.append(['*Gaussian*'] + [''] * 5 + ['1'] + [f'{geometric_mean(curve[i] for curve in curves):.0f}' for i in (early, end)])
    return table(['source', 'SID(source, target)', 'SID(target, source)', 'FID', 'KID', 'location', 'iterations (reached)',
                  f'@{early}', f'@{end}'], rows)

def correlation_table(results, detector):
    entries = results['correlations'][detector]
    rows = []
    for name, label in results['predictors'].items():
        cells = [interval(entries[outcome][name], 'rho', 'ci95') for outcome in OUTCOMES]
        first, end = entries['iterations'][name], entries['end'][name]
        against = '' if name == first['minus'] else interval(first, 'difference', 'difference_ci95')
        rows.append([label, *cells, against, f'{end["choice"]} ({end["place_of_choice"]})'])
    names = [name.format(**results['settings']) for name in OUTCOMES.values()]
    return table(['distance', *names, 'iterations, minus FID\'s', 'chooses (place at the end)'], rows)

def interval(entry, value, ci95):
    return f'{entry[value]:+.2f} ({" to ".join(f"{x:+.2f}" for x in entry[ci95])})'

#----------------------------------------------------------------------------

def plot(results, path):
    """Rank by end score over three distances, a dot for each source; below, every rank correlation with its interval."""
    import matplotlib
    matplotlib.use('Agg')
    matplotlib.rcParams['svg.hashsalt'] = 'neighbors'
    from matplotlib import pyplot, ticker
    figure, axes = pyplot.subplots(2, 3, figsize=(11, 7))
    grouped = by_source(results)
    ranks = rankdata([[row['outcomes']['end'] for row in rows] for rows in grouped.values()], axis=0)
    for axis, name in zip(axes[0], ('sid_source_target', 'fid', 'kid'), strict=True):
        for source, seeds in zip(grouped, ranks, strict=True):
            x = results['distances']['neutral'][source][name]
            axis.plot([x] * len(seeds), seeds, '_', color=COLOURS[name], alpha=0.5)
            axis.plot(x, seeds.mean(), 'o', color=COLOURS[name], markersize=4)
            axis.annotate(source, (x, seeds.mean()), xytext=(5, -2), textcoords='offset points', fontsize=7)
        axis.set(xscale='log', xlabel=f'{results["predictors"][name]}, neutral detector')
        axis.margins(x=0.18)
        axis.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 3)))
        axis.xaxis.set_major_formatter('{x:g}')
        axis.xaxis.set_minor_locator(ticker.NullLocator())
    axes[0][0].set_ylabel(f'rank by {OUTCOMES["end"]}, 1 is best')
    labels = list(results['predictors'].values())[::-1]
    for axis, (outcome, title) in zip(axes[1], OUTCOMES.items(), strict=True):
        for y, name in enumerate(reversed(results['predictors'])):
            entry = results['correlations']['neutral'][outcome][name]
            axis.plot(entry['ci95'], [y, y], color=COLOURS[name])
            axis.plot(entry['rho'], y, 'o', color=COLOURS[name])
        axis.axvline(0, color='#9ca3af', linewidth=0.8)
        axis.set(xlim=(-1, 1), yticks=range(len(COLOURS)), yticklabels=labels if axis is axes[1][0] else [],
                 title=title.format(**results['settings']), xlabel='rank correlation, 95 %')
        axis.title.set_fontsize(9)
    for axis in axes.flat:
        axis.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, metadata={'Date': None})

#----------------------------------------------------------------------------
