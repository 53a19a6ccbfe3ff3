"""sid1k in an unmodified checkout: its own feature cache, scores and reports."""

import pathlib

import pytest

HARNESS = pathlib.Path(__file__).with_name('sid_harness.py')

def test_sid_in_stylegan3(stylegan3, run_in, make_zip, tmp_path):
    found = run_in(stylegan3, 'scores', harness=HARNESS, data=make_zip(tmp_path / 'data.zip', n=60), run_dir=str(tmp_path))
    assert {'sid50k_full', 'sid50k', 'sid5k', 'sid1k', 'fid50k_full'} <= set(found['metrics'])
    assert len(found['urls']) == 1 and 'inception' in found['urls'][0]  # The detector of the host's KID.
    kid, sid = found['looks']
    assert kid >= 60 + 100 and 1000 <= sid < 1060                       # No second pass over the 60 real images.
    score, curve = found['metric-sid1k.jsonl'], found['curve-sid1k.jsonl']
    assert score['metric'] == 'sid1k' and score['snapshot_pkl'] == curve['snapshot_pkl'] == 'network-snapshot-000001.pkl'
    assert sum(curve['curve']) == pytest.approx(score['results']['sid1k'], rel=1e-9) and curve['num_q'] == 60

def test_spider_detector_in_stylegan3(stylegan3, run_in, make_zip, tmp_path):
    found = run_in(stylegan3, 'scores', harness=HARNESS, data=make_zip(tmp_path / 'data.zip', n=300), run_dir=str(tmp_path),
                   detector='demo')
    assert len(found['urls']) == 1 and 'inception' in found['urls'][0] and found['looks'][1] == 0   # KID keeps the host's.
    assert found['curve-sid1k.jsonl']['num_q'] == 300
