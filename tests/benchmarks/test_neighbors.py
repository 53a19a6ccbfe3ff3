"""The analysis of the neighbours study on made-up numbers: outcomes of censored runs, rank correlations, their bootstrap."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from benchmarks.neighbors import analysis

INF = float('inf')

#----------------------------------------------------------------------------
# Curves.

def test_smooth_is_a_running_geometric_mean_after_the_start():
    curve = [[0, 900.0], [50, 1.0], [100, 10.0], [150, 100.0]]
    smoothed = analysis.smooth(curve)
    assert [iteration for iteration, _ in smoothed] == [0, 50, 100, 150]
    assert [score for _, score in smoothed] == pytest.approx([900, 10 ** 0.5, 10, 10 ** 1.5])

def test_smooth_without_an_evaluation_at_the_start():
    assert analysis.smooth([[50, 4.0], [100, 1.0]]) == [[50, pytest.approx(2)], [100, pytest.approx(2)]]

def test_outcomes_of_a_faster_and_of_a_censored_run():
    gaussian = [[0, 999.0]] + [[i, 1000 * 0.5 ** (i / 100)] for i in range(50, 601, 50)]
    faster = [[0, 10.0]] + [[i, 1000 * 0.5 ** (i / 50)] for i in range(50, 601, 50)]
    found = analysis.outcomes(gaussian, faster, early=200)
    assert found['iterations'] == pytest.approx(0.5, abs=0.03)
    assert found['early'] == pytest.approx(1000 / 16)
    assert found['end'] == pytest.approx(1000 * 2 ** -11.5)
    stalled = [[0, 1.0]] + [[i, 500.0] for i in range(50, 601, 50)]     # a perfect start counts for nothing
    found = analysis.outcomes(gaussian, stalled, early=200)
    assert found == dict(iterations=INF, early=pytest.approx(500), end=pytest.approx(500))

#----------------------------------------------------------------------------
# Ranks.

def test_censored_runs_share_the_last_ranks_of_their_seed():
    outcome = np.array([[0.5, 0.9], [INF, 0.4], [INF, INF], [0.8, INF]])
    assert analysis.mean_ranks(outcome).tolist() == [(1 + 2) / 2, (3.5 + 1) / 2, (3.5 + 3.5) / 2, (2 + 3.5) / 2]

def test_spearman_is_scipys_with_ties():
    rng = np.random.default_rng(0)
    predictors, outcome = rng.integers(5, size=[3, 12]).astype(float), rng.integers(6, size=[12, 1]).astype(float)
    expected = [spearmanr(x, outcome[:, 0]).statistic for x in predictors]
    assert analysis.spearman(predictors, outcome) == pytest.approx(expected)

def test_spearman_of_runs_that_are_all_censored_is_no_number():
    assert np.isnan(analysis.spearman(np.arange(4.0)[None], np.full([4, 3], INF))).all()

#----------------------------------------------------------------------------
# Intervals.

def made_up(rng, sources=12, seeds=4, noise=0.5):
    truth = rng.permutation(sources).astype(float)
    return truth, truth[:, None] + noise * rng.standard_normal([sources, seeds])

def test_correlations_find_the_predictor_that_knows():
    rng = np.random.default_rng(1)
    truth, outcome = made_up(rng)
    predictors = dict(knows=truth, opposite=-truth, guesses=rng.standard_normal(12))
    found = analysis.correlations(predictors, outcome, 'guesses', draws=500)
    assert found['knows']['rho'] > 0.95 and found['opposite']['rho'] == -found['knows']['rho']
    assert found['knows']['ci95'][0] > 0.7 and found['opposite']['ci95'][1] < -0.7
    low, high = found['guesses']['ci95']
    assert high - low > 0.6
    assert found['knows']['difference_ci95'][0] > 0
    assert found['guesses']['difference'] == 0 and found['guesses']['difference_ci95'] == [0, 0]
    assert found['knows']['choice'] == truth.argmin() and found['opposite']['choice'] == truth.argmax()
    assert found['knows']['place_of_choice'] <= 2 and found['opposite']['place_of_choice'] >= 11

def test_the_interval_is_as_wide_as_the_number_of_sources_makes_it():
    """A predictor that knows nothing: the standard error of rho is 1 / sqrt(sources - 1), and its 95% interval holds 0
    in most of thirty studies."""
    rng = np.random.default_rng(2)
    halves, holds = [], 0
    for _ in range(30):
        _, outcome = made_up(rng)
        low, high = analysis.correlations(dict(x=rng.standard_normal(12)), outcome, 'x', draws=100)['x']['ci95']
        halves.append((high - low) / 2)
        holds += low <= 0 <= high
    assert np.mean(halves) == pytest.approx(1.96 / 11 ** 0.5, rel=0.2)
    assert holds >= 24

def test_seeds_that_disagree_lower_rho_and_widen_its_interval():
    rng = np.random.default_rng(3)
    truth = rng.permutation(12).astype(float)
    steady, erratic = (truth[:, None] + noise * rng.standard_normal([12, 4]) for noise in (0.1, 6))
    width = {name: analysis.correlations(dict(x=truth), outcome, 'x', draws=300)['x'] for name, outcome in
             dict(steady=steady, erratic=erratic).items()}
    assert width['steady']['rho'] > width['erratic']['rho']
    assert np.ptp(width['steady']['ci95']) < np.ptp(width['erratic']['ci95'])

def test_bootstrap_is_a_function_of_its_seed():
    truth, outcome = made_up(np.random.default_rng(4))
    draw = lambda seed: analysis.bootstrap(truth[None], outcome, draws=20, seed=seed)
    assert (draw(0) == draw(0)).all() and (draw(0) != draw(1)).any()

#----------------------------------------------------------------------------
