"""sid1k in an unmodified checkout: its own feature cache, scores and reports."""

import pathlib
import zipfile

import pytest

HARNESS = pathlib.Path(__file__).with_name('sid_harness.py')

def folder(make_zip, tmp_path, n):
    """A folder of images. The host's workers would share one position in a zip that it has opened before it forks them."""
    zipfile.ZipFile(make_zip(tmp_path / 'data.zip', n=n)).extractall(tmp_path / 'data')
    return str(tmp_path / 'data')

def test_sid_in_stylegan3(stylegan3, run_in, make_zip, tmp_path):
    found = run_in(stylegan3, 'scores', harness=HARNESS, data=folder(make_zip, tmp_path, 60), run_dir=str(tmp_path))
    assert {'sid50k_full', 'sid50k', 'sid5k', 'sid1k', 'fid50k_full'} <= set(found['metrics'])
    assert len(found['urls']) == 1 and 'inception' in found['urls'][0]  # The detector of the host's KID.
    kid, sid = found['looks']
    assert kid >= 60 + 100 and 1000 <= sid < 1060                       # No second pass over the 60 real images.
    score, curve = found['metric-sid1k.jsonl'], found['curve-sid1k.jsonl']
    assert score['metric'] == 'sid1k' and score['snapshot_pkl'] == curve['snapshot_pkl'] == 'network-snapshot-000001.pkl'
    assert sum(curve['curve']) == pytest.approx(score['results']['sid1k'], rel=1e-9) and curve['num_q'] == 60

def test_metrics_of_one_call_share_their_images(stylegan3, run_in, make_zip, tmp_path):
    """FID, KID, precision and recall, and SID of 1000 images: one pass, each of the host's two networks once."""
    found = run_in(stylegan3, 'together', harness=HARNESS, data=folder(make_zip, tmp_path, 60), run_dir=str(tmp_path))
    assert found['drawn'] == [16 * 64, 0, 0, 0] and found['apart'] == 16 * 64
    assert found['looks'] == [60 + 16 * 64, 60, 60 + 16 * 64, 0]     # The host's cache has features and moments apart.
    assert all(value == value for value in found['values'])

def test_spider_detector_in_stylegan3(stylegan3, run_in, make_zip, tmp_path):
    found = run_in(stylegan3, 'scores', harness=HARNESS, data=folder(make_zip, tmp_path, 300), run_dir=str(tmp_path),
                   detector='demo')
    assert found['urls'] == [] and found['looks'] == [0, 0]     # Neither KID nor SID looks by the host's network.
    assert found['label'] == 'sid1k (demo)' and found['curve-sid1k.jsonl']['num_q'] == 300
