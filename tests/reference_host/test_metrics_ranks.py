"""metrics/ on several ranks: one result for all of them, and the features of real images that one rank finds."""

import os
import pathlib
import runpy
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch

from metrics import metric_main
from metrics.feature_stats import FeatureStats

JOB = pathlib.Path(__file__).with_name('metric_rank_job.py')

#----------------------------------------------------------------------------

def run_ranks(folder, num_ranks):
    """Return [(scores, the scores of a second run, and of a run that shares a pass)] of the ranks."""
    processes = [subprocess.Popen([sys.executable, JOB, folder, str(rank), str(num_ranks)], stderr=subprocess.PIPE, text=True)
                 for rank in range(num_ranks)]
    try:
        for process in processes:
            _out, errors = process.communicate(timeout=120)
            assert process.returncode == 0, errors
    finally:
        for process in processes:
            process.kill()
    return [torch.load(folder / f'rank{rank}.pt') for rank in range(num_ranks)]

def run_here(folder, monkeypatch):
    """Return the same of a single rank."""
    for name in ('DNNLIB_CACHE_DIR', 'LOCAL_RANK'): # The job sets them.
        monkeypatch.setenv(name, '')
    monkeypatch.setattr(metric_main, '_metric_dict', {})
    runpy.run_path(str(JOB), run_name='metric_rank_job')['main'](folder, 0, 1)
    return [torch.load(folder / 'rank0.pt')]

def test_two_ranks_agree_and_see_what_one_sees(make_zip, tmp_path, monkeypatch):
    results, kept = {}, {}
    for num_ranks in (1, 2):
        folder = tmp_path / f'ranks{num_ranks}'
        folder.mkdir()
        make_zip(folder / 'set.zip', n=41) # Not a multiple of two.
        if num_ranks > 1:
            shutil.copy(tmp_path / 'ranks1/pooled.pt', folder)
        results[num_ranks] = run_ranks(folder, num_ranks) if num_ranks > 1 else run_here(folder, monkeypatch)
        kept[num_ranks] = {path.name: FeatureStats.load(path) for path in (folder / 'disk0/gan-metrics').iterdir()}
        assert not os.path.exists(folder / 'disk1') # Only rank 0 writes.

    (single, single_again, single_together), (first, again, together), other = *results[1], *results[2]
    assert first == other[0] and again == other[1] and again.items() <= first.items()
    assert single_together == single_again and together == other[2] == again
    assert len(single_again) == 4 and single_again.items() <= single.items()
    assert first.keys() == single.keys() and len(first) == 7 and np.isfinite(list(first.values())).all()

    # Neither real features nor scores depend on the number of ranks.
    assert kept[1].keys() == kept[2].keys() and any('features' in name for name in kept[1])
    for name, stats in kept[1].items():
        actual, expected = [(s.get_all(),) if s.capture_all else s.get_mean_cov() for s in (stats, kept[2][name])]
        for a, b in zip(actual, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12)
    for name, value in single.items():
        assert first[name] == pytest.approx(value, rel=1e-6), name

#----------------------------------------------------------------------------
