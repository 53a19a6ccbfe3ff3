"""benchmarks/convergence/study.py: its numbers on curves with known answers, its pairs, and a run of two short arms."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.convergence import analysis, arms, pairs, report, runs, study

ROOT = Path(__file__).resolve().parents[2]

def curve(halving, start=1000.0, end=600):
    """Halves every so many iterations: what smoothing leaves as it is, but for its ends."""
    return [[0, start]] + [[i, start * 0.5 ** (i / halving)] for i in range(50, end + 1, 50)]

#----------------------------------------------------------------------------
# Ratios.

def test_a_curve_twice_as_steep_needs_half_the_iterations():
    value, state = analysis.ratio(curve(100), curve(50))
    assert state == 'reached' and value == pytest.approx(0.5, abs=0.03)

def test_seconds_weigh_iterations_and_a_source_costs_a_head_start():
    plain, _ = analysis.ratio(curve(100), curve(50))
    assert analysis.ratio(curve(100), curve(50), 2.0, 3.0)[0] == pytest.approx(1.5 * plain)
    assert analysis.ratio(curve(100), curve(50), head_start=300)[0] == pytest.approx(plain + 300 / 600)

def test_a_run_that_is_not_there_is_censored_and_a_perfect_start_counts_for_nothing():
    stalled = [[0, 1.0]] + [[i, 500.0] for i in range(50, 601, 50)]
    assert analysis.ratio(curve(100), stalled) == (1.0, 'censored')

def test_a_run_that_is_there_at_once_is_a_bound():
    value, state = analysis.ratio(curve(100), [[0, 1.0]] + [[i, 1.0] for i in range(50, 601, 50)])
    assert (value, state) == (pytest.approx(50 / 600), 'bound')

def test_one_lucky_evaluation_does_not_make_the_best():
    lucky = curve(100)
    lucky[3][1] /= 50
    assert analysis.best(lucky)[1] == 150 and analysis.best(analysis.smooth(lucky))[1] == 600

#----------------------------------------------------------------------------
# Over seeds.

def test_median_and_interval_of_ratios():
    found = analysis.summary([0.4, 0.5, 0.6, 0.45, 0.55], ['reached'] * 5)
    assert found['median'] == 0.5 and found['reached'] == found['below_one'] == 5 and found['bounds'] == 0
    assert found['ci95'] == [0.4, 0.6]

def test_censored_runs_are_counted_and_make_the_interval_open():
    found = analysis.summary([0.4, 1.0, 1.0, 0.5, 0.6], ['reached', 'censored', 'censored', 'reached', 'bound'])
    assert found['median'] == 0.6 and found['ci95'] == [0.4, None] and found['reached'] == 3 and found['bounds'] == 1
    assert analysis.summary([1.0, 1.0, 0.5], ['censored', 'censored', 'reached'])['median'] is None

def test_interval_narrows_with_seeds_and_holds_the_truth():
    rng = np.random.default_rng(0)
    draw = lambda n: analysis.summary(rng.normal(0.5, 0.1, n), ['reached'] * n)['ci95']
    few, many = draw(5), draw(200)
    assert np.ptp(many) < np.ptp(few) and many[0] < 0.5 < many[1]

def made_up_row(arm, seed, halving, pretraining=None, seconds=60.0):
    end = {space: dict(kid=1.0, precision=0.5, recall=0.5) for space in ('neutral', 'pixels')}
    return dict(cells='c', network='dcgan', pair='grey', arm=arm, seed=seed, glr=1, dlr=2, cpu_seconds=seconds, folder='none',
                pretraining=pretraining, curves=dict(neutral=curve(halving), pixels=curve(halving)), end=end)

def made_up_rows():
    rows = [made_up_row('gaussian', seed, 100) for seed in range(5)]
    rows += [made_up_row('residual', seed, 50, seconds=120.0) for seed in range(5)]
    return rows + [made_up_row('cascade', seed, 50, dict(iterations=600, cpu_seconds=60.0)) for seed in range(5)]

def test_rows_are_paired_with_the_baseline_of_their_seed():
    rows = made_up_rows()
    gaussian, residual, cascade = analysis.compare(rows, dict(dcgan='gaussian'))
    assert 'iterations' not in gaussian['neutral'] and 'ratio' not in rows[0]
    assert residual['neutral']['iterations']['median'] == pytest.approx(0.5, abs=0.03)
    assert residual['neutral']['cpu']['median'] == pytest.approx(1.0, abs=0.06)
    assert cascade['neutral']['with_source']['median'] == pytest.approx(1.5, abs=0.03)
    assert cascade['neutral']['iterations'] == residual['neutral']['iterations']

def test_report_writes_a_row_for_each_arm():
    entries = analysis.compare(made_up_rows(), dict(dcgan='gaussian'))
    lines = report.ratio_table(entries)
    assert len(lines) == 2 + 3 and all(line.count('|') == lines[0].count('|') for line in lines)
    assert '5 of 5' in next(line for line in lines if '| residual |' in line)

def test_matrix_has_a_line_for_each_arm_and_a_column_for_each_pair():
    rows = made_up_rows()
    stalled = dict(made_up_row('residual', 0, 1e9), pair='wall')
    entries = analysis.compare(rows + [dict(rows[0], pair='wall'), stalled], dict(dcgan='gaussian'))
    lines = report.matrix(entries, report.ratio_cell)
    assert lines[0] == '| arm | grey, 600 | wall, 600 |' and lines[2] == '| gaussian | 1 | 1 |'
    assert lines[3].startswith('| residual | 0.48') and lines[3].endswith('| not reached, 0 of 1 |')
    assert [line.split(' | ')[0] for line in lines[4:]] == ['| cascade', '| cascade, with its source']

def test_rows_of_a_later_run_take_their_place(tmp_path):
    rows = made_up_rows()
    study.publish(tmp_path, rows[5:10])
    study.publish(tmp_path, [dict(row, pair='wall') for row in rows[:2]])
    study.publish(tmp_path, rows[:5] + [dict(rows[5], glr=3)])
    found = json.loads((tmp_path / 'convergence.json').read_text())['rows']
    grey = [('grey', arm, seed) for arm in ('gaussian', 'residual') for seed in range(5)]
    assert [(row['pair'], row['arm'], row['seed']) for row in found] == [('wall', 'gaussian', 0), ('wall', 'gaussian', 1)] + grey
    assert found[7]['glr'] == 3 and found[7]['ratio']['neutral']['iterations'] < 1

@pytest.mark.parametrize('median, ci95, bounds, text', [
    (0.5, [0.4, 0.6], 0, '0.50 (0.40 to 0.60)'), (0.1, [0.08, 0.2], 3, 'at most 0.10 (0.08 to 0.20)'),
    (None, [0.8, None], 0, 'not reached (0.80 to not reached)'), (None, [None, None], 0, 'not reached')])
def test_ratios_say_where_they_are_bounds_or_were_not_reached(median, ci95, bounds, text):
    assert report.interval(dict(median=median, ci95=ci95, seeds=5, bounds=bounds)) == text

#----------------------------------------------------------------------------
# Pairs and scores.

@pytest.mark.parametrize('name', pairs.PAIRS)
def test_pairs_are_functions_of_their_seed_and_source_is_not_target(name):
    pair = pairs.PAIRS[name]
    for draw in (pair.target, pair.source):
        x = draw(20, 0)
        assert x.shape == (20, pair.channels, pair.resolution, pair.resolution) and x.dtype == torch.uint8
        assert x.equal(draw(20, 0)) and not x.equal(draw(20, 1))
    assert not pair.target(20, 0).equal(pair.source(20, 0))

def test_precision_and_recall_of_known_sets():
    x = torch.randn([300, 4], dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert runs.precision_recall(x, x) == (1, 1)
    assert runs.precision_recall(x, x + 100) == (0, 0)
    precision, recall = runs.precision_recall(x, x[:1].expand(300, 4) + 1e-6 * x)     # collapsed on one real image
    assert precision > 0.99 and recall < 0.05

def test_pixel_components_see_a_shift():
    x = torch.randint(0, 256, [200, 1, 16, 16], generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    components = pairs.PixelComponents(x)
    assert components(x).shape == (200, 32) and components(x).mean(dim=0).abs().max() < 1e-6

#----------------------------------------------------------------------------
# The plan.

def test_plan_holds_what_the_rules_ask():
    assert arms.TUNING_PAIR not in [name for name, pair in pairs.PAIRS.items() if not pair.tuned_on]
    assert not set(arms.TUNING_SEEDS) & {seed for cells in arms.PLAN for seed in cells.seeds}
    assert sum(not pair.tuned_on for pair in pairs.PAIRS.values()) >= 2
    for cells in arms.PLAN:
        assert cells.every * arms.BATCH >= 1000 and cells.iterations % cells.every == 0
        assert {arms.BASELINES[cells.network]} <= {arm for other in arms.PLAN for arm in other.arms
                                                   if (other.network, other.pair) == (cells.network, cells.pair)}
        assert not any(arms.ARMS[arm].pretrained for arm in cells.arms) or 'pretraining' in cells.arms
    assert {len(grid) for grid in arms.GRIDS.values()} == {4}

@pytest.mark.slow
def test_quick_run_and_its_resumption(tmp_path):
    command = [sys.executable, '-m', 'benchmarks.convergence.study', 'run', '--quick', f'--work={tmp_path}', '--processes=1']
    first = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert first.returncode == 0, first.stderr
    results = json.loads((tmp_path / 'convergence.json').read_text())
    gaussian, spider = results['rows']
    assert [i for i, _ in spider['curves']['neutral']] == [0, 32, 64, 96]
    assert spider['ratio']['neutral']['state'] in ('reached', 'bound', 'censored') and 'ratio' not in gaussian
    assert 0.5 < spider['end']['skip'] != 1 and 'skip' not in gaussian['end']
    copies = spider['end']['copies']
    assert 0 < copies['own_source'] < copies['another_source']  # 96 iterations leave much of the source
    finished = [path.stat().st_mtime_ns for path in sorted(tmp_path.glob('*/runs/*/finished'))]
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert again.returncode == 0 and json.loads((tmp_path / 'convergence.json').read_text())['rows'] == results['rows']
    assert [path.stat().st_mtime_ns for path in sorted(tmp_path.glob('*/runs/*/finished'))] == finished

#----------------------------------------------------------------------------
