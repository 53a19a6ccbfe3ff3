"""The tables and the plot of docs/neighbors.md, from benchmarks/results/neighbors.json. The plot needs matplotlib."""

from pathlib import Path
from statistics import fmean, geometric_mean

DOCS = Path(__file__).resolve().parents[1] / 'docs'
OUTCOMES = dict(iterations='iterations to the Gaussian\'s best', early='score at iteration {early}', end='score at the end')
COLOURS = dict(sid_source_target='#d0246b', sid_target_source='#b7791f', fid='#2563a8', kid='#2f855a', location='#6b7280')

#----------------------------------------------------------------------------

def write(results):
    """Replaces the parts of docs/neighbors.md between their marker lines, and writes docs/neighbors.svg."""
    page = DOCS / 'neighbors.md'
    text = page.read_text()
    for name, lines in dict(sources=source_table(results), neutral=correlation_table(results, 'neutral'),
                            scoring=correlation_table(results, 'scoring')).items():
        before, _, rest = text.partition(f'<!-- {name} -->\n')
        _, _, after = rest.partition(f'<!-- end of {name} -->\n')
        text = f'{before}<!-- {name} -->\n' + '\n'.join(lines) + f'\n<!-- end of {name} -->\n{after}'
    page.write_text(text)
    plot(results, DOCS / 'neighbors.svg')

def table(header, rows):
    return ['| ' + ' | '.join(cells) + ' |' for cells in [header, ['---'] * len(header), *rows]]

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
        rows.append([source, *sids, f'{d["fid"]:.1f}', f'{d["kid"]:.3g}', f'{d["location"]:.1f}', iterations,
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
        early, end = entries['early'][name], entries['end'][name]
        against = '' if name == early['minus'] else interval(early, 'difference', 'difference_ci95')
        rows.append([label, *cells, against, f'{end["choice"]} ({end["place_of_choice"]})'])
    names = [name.format(**results['settings']) for name in OUTCOMES.values()]
    return table(['distance', *names, f'{names[1]}: minus FID\'s', 'chooses (place at the end)'], rows)

def interval(entry, value, ci95):
    return f'{entry[value]:+.2f} ({" to ".join(f"{x:+.2f}" for x in entry[ci95])})'

#----------------------------------------------------------------------------

def plot(results, path):
    """Early score over three distances, a dot for each source, and below them every rank correlation with its interval."""
    import matplotlib
    matplotlib.use('Agg')
    matplotlib.rcParams['svg.hashsalt'] = 'neighbors'
    from matplotlib import pyplot
    figure, axes = pyplot.subplots(2, 3, figsize=(11, 7))
    for axis, name in zip(axes[0], ('sid_source_target', 'fid', 'kid'), strict=True):
        for source, runs in by_source(results).items():
            x, y = results['distances']['neutral'][source][name], [run['outcomes']['early'] for run in runs]
            axis.plot([x] * len(y), y, '_', color=COLOURS[name], alpha=0.5)
            axis.plot(x, geometric_mean(y), 'o', color=COLOURS[name], markersize=4)
            axis.annotate(source, (x, geometric_mean(y)), xytext=(4, 3), textcoords='offset points', fontsize=7)
        axis.set(xscale='log', yscale='log', xlabel=f'{results["predictors"][name]}, neutral detector')
    axes[0][0].set_ylabel(OUTCOMES['early'].format(**results['settings']))
    for axis, (outcome, title) in zip(axes[1], OUTCOMES.items(), strict=True):
        for y, name in enumerate(reversed(results['predictors'])):
            entry = results['correlations']['neutral'][outcome][name]
            axis.plot(entry['ci95'], [y, y], color=COLOURS[name])
            axis.plot(entry['rho'], y, 'o', color=COLOURS[name])
        axis.axvline(0, color='#9ca3af', linewidth=0.8)
        axis.set(xlim=(-1, 1), yticks=range(len(COLOURS)), yticklabels=list(results['predictors'].values())[::-1],
                 title=title.format(**results['settings']), xlabel='rank correlation, 95 %')
        axis.title.set_fontsize(9)
    for axis in axes.flat:
        axis.grid(alpha=0.3)
    for axis in axes[1][1:]:
        axis.set_yticklabels([])
    figure.tight_layout()
    figure.savefig(path, metadata={'Date': None})

#----------------------------------------------------------------------------
