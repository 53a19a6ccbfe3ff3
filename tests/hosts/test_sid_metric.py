"""sid1k in the embedded host: calc_metrics.py through the attached line, and the features that KID and SID share."""

import json
import sys
import types

import numpy as np
import pytest
import torch

from spider_plugin.hosts import sid_metric
from spider_plugin.metrics.sid import MIN_SAMPLES, sid
from spider_plugin.resources import resource_dir

class Pooled(torch.nn.Module):
    """A detector of twelve features, the image pooled to 2x2."""
    def forward(self, img: torch.Tensor, return_features: bool = False):
        return torch.nn.functional.adaptive_avg_pool2d(img.to(torch.float32) / 128, 2).flatten(1)

#----------------------------------------------------------------------------

@pytest.fixture(scope='module')
def run(tmp_path_factory, make_zip, make_snapshot):
    """A folder with data, a detector, and a run directory with a snapshot."""
    path = tmp_path_factory.mktemp('sid')
    make_zip(path / 'data.zip', n=60, res=16)
    torch.jit.script(Pooled()).save(str(path / 'pooled.pt'))
    snapshot = make_snapshot(seed=1)
    (path / 'run').mkdir()
    (path / 'run/training_options.json').write_text('{}')
    (path / 'run/network-snapshot-000001.pkl').write_bytes(open(snapshot, 'rb').read())
    return path

def calc_metrics(python, run, cache, *options):
    result = python(resource_dir('reference_host') / 'calc_metrics.py', f'--network={run}/run/network-snapshot-000001.pkl',
                    f'--data={run}/data.zip', f'--detector={run}/pooled.pt', '--threads=1', *options, DNNLIB_CACHE_DIR=str(cache))
    assert result.returncode == 0, result.stderr
    return result.stdout

def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]

@pytest.mark.slow
def test_sid_shares_the_features_of_kid_on_any_number_of_ranks(python, run, tmp_path):
    out = calc_metrics(python, run, tmp_path / 'one', '--metrics=kid1k,sid1k')
    # One pass over real and one over generated images, and one sentence on the sign, which names the two sets.
    assert out.count('dataset features') == out.count('generator features') == 1
    assert 'the set of generated images' in out and 'data.zip' in out.partition('SID ')[2]
    both = calc_metrics(python, run, tmp_path / 'two', '--metrics=sid1k', '--gpus=2')
    assert both.count('"metric": "sid1k"') == 1

    first, second = [line['results'] for line in lines(run / 'run/metric-sid1k.jsonl')]
    assert set(first) == {'sid1k', 'sid1k_ci95', 'sid1k_r1', 'sid1k_location', 'sid1k_spread'}
    for name, value in first.items():
        assert second[name] == pytest.approx(value, rel=1e-6), name

    curve, _ = lines(run / 'run/curve-sid1k.jsonl')
    assert curve['snapshot_pkl'] == 'network-snapshot-000001.pkl' and curve['num_p'] == 1000 and curve['num_q'] == 60
    assert sum(curve['curve']) == pytest.approx(first['sid1k'], rel=1e-9) and len(curve['radii']) == 199

def test_the_least_number_of_real_images_is_that_of_sid():
    assert sid_metric.LEAST_REAL == MIN_SAMPLES

def test_without_the_option_the_url_of_the_hosts_kid_is_used(monkeypatch):
    def compute_kid(opts):
        url = 'https://example.org/inception.pkl'
        return url, dict(return_features=True)
    monkeypatch.setitem(sys.modules, 'metrics', types.ModuleType('metrics'))
    monkeypatch.setitem(sys.modules, 'metrics.kernel_inception_distance',
                        types.SimpleNamespace(compute_kid=compute_kid))
    assert sid_metric.detector_url(types.SimpleNamespace()) == 'https://example.org/inception.pkl'
    assert sid_metric.detector_url(types.SimpleNamespace(detector='mine.pt')) == 'mine.pt'

def test_fewer_real_images_are_chosen_here_and_never_requested_from_the_cache(monkeypatch, capsys):
    rng = np.random.default_rng(0)
    real, fake, asked = rng.normal(size=[400, 16]), rng.normal(size=[300, 16]) + 1, []
    def stats(features):
        def compute(opts, **kwargs):
            asked.append(kwargs['max_items'])
            return types.SimpleNamespace(get_all=lambda: features)
        return compute
    utils = types.SimpleNamespace(compute_feature_stats_for_dataset=stats(real), compute_feature_stats_for_generator=stats(fake))
    monkeypatch.setitem(sys.modules, 'metrics', types.ModuleType('metrics'))
    monkeypatch.setitem(sys.modules, 'metrics.metric_utils', utils)
    opts = types.SimpleNamespace(dataset_kwargs={}, detector='d', rank=0)
    found = sid_metric.compute_sid(opts, 'sid', max_real=100, num_gen=300)
    assert asked == [sid_metric.MAX_ITEMS, 300]
    chosen = sid_metric.choose(real, 100)
    assert len(np.unique(chosen, axis=0)) == 100 and np.array_equal(sid_metric.choose(real, 100), chosen)
    assert found['sid'] == pytest.approx(sid(fake, chosen).value) and found['sid'] > 0
    fake[:] = 3.0 # A collapsed generator does not end a run.
    collapsed = sid_metric.compute_sid(opts, 'sid', max_real=None, num_gen=300)
    assert np.isnan(list(collapsed.values())).all() and 'same features for every image' in capsys.readouterr().err
    opts.rank = 1
    assert all(np.isnan(value) for value in sid_metric.compute_sid(opts, 'sid', 100, 300).values())
    sid_metric._results.clear()

#----------------------------------------------------------------------------
