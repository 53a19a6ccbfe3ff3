"""The numbers of the convergence study: iterations and CPU-seconds to the Gaussian's best, paired by seed, censored runs counted,
bootstrap intervals."""

import numpy as np

from benchmarks.neighbors.analysis import smooth
from spider_plugin.demo.analysis import iterations_to

#----------------------------------------------------------------------------

def best(curve):
    """(lowest score after iteration 0, the iteration of it)."""
    return min((score, iteration) for iteration, score in curve if iteration > 0)

def ratio(gaussian, other, gaussian_cost=1.0, other_cost=1.0, head_start=0.0):
    """Cost of `other` to get to the Gaussian's best, over what the Gaussian needed; both curves are smoothed first.

    costs:      of an iteration; 1 and 1 give a ratio of iterations.
    head_start: iterations (in the cost of the Gaussian's) that went before the run, into its source.
    returns (ratio, state): 'reached'; 'bound', there at its first evaluation, so the ratio is at most that; 'censored', never
    there, so the ratio is at least that of the whole run, and more than 1 where both are equally long."""
    gaussian, other = smooth(gaussian), smooth(other)
    score, needed = best(gaussian)
    got = iterations_to(other, score)
    state = 'censored' if got is None else 'bound' if got == first(other) else 'reached'
    got = other[-1][0] if got is None else got
    return (got * other_cost / gaussian_cost + head_start) / needed, state

def first(curve):
    return min(iteration for iteration, _ in curve if iteration > 0)

#----------------------------------------------------------------------------
# Over seeds. A censored run counts as infinite: the (upper) median needs only its rank, and is infinite itself where half of the
# runs are censored. A mean would need values that nobody has.

def summary(ratios, states, draws=4000, seed=0):
    """Median of the ratios of all seeds and its 95 % bootstrap interval, None where that is not reached; counts."""
    x = np.where(np.array(states) == 'censored', np.inf, ratios)
    rng = np.random.default_rng(seed)
    medians = np.sort(np.sort(x[rng.integers(len(x), size=[draws, len(x)])], axis=1)[:, len(x) // 2])
    low, high = medians[int(0.025 * draws)], medians[int(0.975 * draws)]
    finite = lambda v: None if np.isinf(v) else round(float(v), 3)
    return dict(median=finite(np.sort(x)[len(x) // 2]), ci95=[finite(low), finite(high)], seeds=len(x),
                reached=int(np.isfinite(x).sum()), below_one=int((x < 1).sum()), bounds=sum(s == 'bound' for s in states))

#----------------------------------------------------------------------------
# All rows -> one entry for each cell and arm.

def compare(rows, baselines):
    """Entries of the table, in the rows' order. Adds 'ratio' to each row that has a baseline of its cell and seed.

    baselines: {network: arm}."""
    gaussian = {key(row) + (row['seed'],): row for row in rows if row['arm'] == baselines[row['network']]}
    groups = {}
    for row in rows:
        groups.setdefault(key(row) + (row['arm'],), []).append(row)
        baseline = gaussian.get(key(row) + (row['seed'],))
        if baseline is not None and row is not baseline and row['arm'] != 'pretraining':
            row['ratio'] = {space: ratios_of(row, baseline, space) for space in row['curves']}
    return [entry(*name, group) for name, group in groups.items()]

def key(row):
    return row['network'], row['pair'], row['curves']['neutral'][-1][0]

def ratios_of(row, baseline, space):
    curves = baseline['curves'][space], row['curves'][space]
    before = row['pretraining'] or dict(iterations=0, cpu_seconds=0)
    seconds = [r['cpu_seconds'] / r['curves'][space][-1][0] for r in (baseline, row)]
    value, state = ratio(*curves)
    found = dict(iterations=round(value, 4), state=state, cpu=round(ratio(*curves, *seconds)[0], 4))
    if row['pretraining']:
        found['with_source'] = round(ratio(*curves, head_start=before['iterations'])[0], 4)
    return found

def entry(network, pair, iterations, arm, rows):
    found = dict(network=network, pair=pair, iterations=iterations, arm=arm, rates=[rows[0]['glr'], rows[0]['dlr']],
                 seeds=[row['seed'] for row in rows], cpu_seconds=round(float(np.mean([row['cpu_seconds'] for row in rows])), 1))
    for space in rows[0]['curves']:
        smoothed = [smooth(row['curves'][space]) for row in rows]
        found[space] = dict(identity=mean(row['curves'][space][0][1] for row in rows),
                            best=[round(best(curve)[0], 2) for curve in smoothed],
                            end=mean(curve[-1][1] for curve in smoothed))
        for name in ('kid', 'precision', 'recall'):
            found[space][name] = mean((row['end'][space][name] for row in rows), 3)
        ratios = [row['ratio'][space] for row in rows if 'ratio' in row]
        for name in ('iterations', 'cpu', 'with_source') if ratios else ():
            if name in ratios[0]:
                found[space][name] = summary([r[name] for r in ratios], [r['state'] for r in ratios])
    copies = [row['end']['copies'] for row in rows if 'copies' in row['end']]
    if copies:
        found['copies'] = {name: mean(c[name] for c in copies) for name in copies[0]}
    if all('skip' in row['end'] for row in rows):
        found['skip'] = [row['end']['skip'] for row in rows]
    return found

def mean(values, digits=2):
    return round(float(np.mean(list(values))), digits)

#----------------------------------------------------------------------------
