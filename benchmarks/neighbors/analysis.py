"""The numbers of the neighbours study: how fast a source trains, and whether a distance knew it before.

Outcomes are arrays [sources, seeds] in which small is good and `inf` is a run that did not get there. Each seed ranks the
sources, tied where several did not get there, and a source's place is its mean rank: nothing is dropped, nothing is invented.
"""

import numpy as np
from scipy.stats import rankdata

from spider_plugin.demo.analysis import iterations_ratio

#----------------------------------------------------------------------------
# Curves: [[iteration, score], ...] -> one number for each outcome.

def smooth(curve):
    """Geometric mean over each evaluation and its neighbours; iteration 0, the identity score, stays what it is."""
    scores = np.log([score for iteration, score in curve if iteration > 0])
    means = [float(np.exp(scores[max(i - 1, 0) : i + 2].mean())) for i in range(len(scores))]
    return [list(curve[0])] * (curve[0][0] == 0) + [[i, mean] for (i, _), mean in zip(curve[-len(means):], means, strict=True)]

def outcomes(gaussian, spider, early):
    """Of one run and the Gaussian run of its seed, smoothed: iterations to the Gaussian's best over those of the Gaussian
    (inf where it is not reached), score at iteration `early`, score at the end."""
    gaussian, spider = smooth(gaussian), smooth(spider)
    ratio, _ = iterations_ratio(gaussian, spider)
    return dict(iterations=float('inf') if ratio is None else ratio, early=dict(spider)[early], end=spider[-1][1])

def mean_ranks(outcome):
    """[sources, seeds] -> [sources]: the mean over seeds of the rank among the sources, 1 is best, ties share."""
    return rankdata(outcome, axis=0).mean(axis=1)

#----------------------------------------------------------------------------
# Spearman's rank correlation between each predictor and the mean ranks. The bootstrap draws sources and, independently, seeds,
# with replacement; every predictor sees the same draws, so that differences between two predictors have an interval too.

def spearman(predictors, outcome):
    """predictors [P, sources], outcome [sources, seeds] -> float64 [P]; nan where all is tied."""
    x, y = rankdata(predictors, axis=1), rankdata(mean_ranks(outcome))
    x, y = x - x.mean(axis=1, keepdims=True), y - y.mean()
    scale = np.sqrt((x ** 2).sum(axis=1) * (y ** 2).sum())
    return np.divide(x @ y, scale, out=np.full(len(x), np.nan), where=scale > 0)

def bootstrap(predictors, outcome, draws=4000, seed=0):
    """float64 [draws, P]: `spearman` of resampled sources and seeds."""
    rng = np.random.default_rng(seed)
    num_sources, num_seeds = outcome.shape
    values = []
    for _ in range(draws):
        sources, seeds = rng.integers(num_sources, size=num_sources), rng.integers(num_seeds, size=num_seeds)
        values.append(spearman(predictors[:, sources], outcome[np.ix_(sources, seeds)]))
    return np.stack(values)

def correlations(predictors, outcome, against, draws=4000, seed=0):
    """For each predictor, {name: [sources]}: rho, ci95, its difference to predictor `against` with ci95, the source that it
    would choose (the smallest value), and the place of that source's mean rank among all, 1 is best."""
    names, table = list(predictors), np.array(list(predictors.values()), dtype=np.float64)
    rho, resampled = spearman(table, outcome), bootstrap(table, outcome, draws, seed)
    reference, places = names.index(against), rankdata(mean_ranks(outcome), method='min')
    interval = lambda x: [round(float(v), 3) for v in np.nanpercentile(x, [2.5, 97.5])]
    return {name: dict(
        rho=round(float(rho[i]), 3), ci95=interval(resampled[:, i]),
        minus=against, difference=round(float(rho[i] - rho[reference]), 3),
        difference_ci95=interval(resampled[:, i] - resampled[:, reference]),
        choice=int(table[i].argmin()), place_of_choice=int(places[table[i].argmin()]),
    ) for i, name in enumerate(names)}

#----------------------------------------------------------------------------
