"""The scripts of examples/, run as a user runs them, with the `spider` command of this interpreter first on the path."""

import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import PIL.Image
import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / 'examples' / 'journeys'))

from make_photos import make_photos  # noqa: E402

@pytest.fixture(scope='module')
def run_example():
    """run_example(name, argument ...) -> what it prints."""
    def run(name, *args):
        if name.endswith('.sh') and shutil.which('bash') is None:
            pytest.skip('needs bash')
        folders = [sysconfig.get_path('scripts'), str(Path(sys.executable).parent), os.environ['PATH']]
        env = dict(os.environ, PATH=os.pathsep.join(folders), PYTHONPATH=str(ROOT))
        command = ['bash' if name.endswith('.sh') else sys.executable, ROOT / 'examples' / name, *args]
        done = subprocess.run(list(map(str, command)), env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout
    return run

@pytest.fixture(scope='module')
def laptop(run_example, tmp_path_factory):
    """The folder that examples/laptop.sh has filled."""
    folder = tmp_path_factory.mktemp('laptop')
    run_example('laptop.sh', folder.as_posix())
    return folder

#----------------------------------------------------------------------------

def test_laptop_trains_and_draws(laptop):
    images, source = (PIL.Image.open(laptop / 'images' / name) for name in ('seed0000.png', 'seed0000-source.png'))
    assert images.size == source.size == (32, 32) and images.tobytes() != source.tobytes()
    assert PIL.Image.open(laptop / 'images' / 'walk.gif').n_frames > 8
    assert list(laptop.glob('runs/*/metric-fid1k.jsonl'))

@pytest.mark.slow
def test_own_checkout_trains_and_draws_without_the_plugin(run_example, tmp_path):
    said = run_example('own_checkout.sh', tmp_path.as_posix())
    assert 'Attached train.py' in said
    assert 'attaches spider-plugin' not in (tmp_path / 'host' / 'train.py').read_text(encoding='utf-8')
    drawn = sorted((tmp_path / 'host' / 'images').glob('*.png'))
    assert len(drawn) == 4 and PIL.Image.open(drawn[0]).size == (32, 32)

def test_python_api_measures_sources_and_a_snapshot(run_example, laptop):
    snapshot = max(laptop.glob('runs/*/network-snapshot-*.pkl'))
    lines = run_example('python_api.py', snapshot).splitlines()
    scores = {line[:20].strip(): float(line.split()[line.split().index('FID') + 1]) for line in lines if 'FID' in line}
    assert list(scores) == ['source', 'source, matched', 'generator']
    assert scores['source, matched'] < scores['source'] and scores['generator'] < scores['source']

# Journeys: each from an empty directory, shrunk by JOURNEY=short.

@pytest.fixture
def journey(run_example, tmp_path, monkeypatch):
    """journey(name, argument ...) -> what it prints; it runs in tmp_path, which is empty."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('JOURNEY', 'short')
    return lambda name, *args: run_example(f'journeys/{name}', *args)

@pytest.mark.slow
def test_the_artist(journey, tmp_path):
    said = journey('artist.sh')
    run = next((tmp_path / 'training-runs').glob('00000-*'))
    assert (run / 'report.html').is_file() and 'turned upright by EXIF' not in said and 'Chosen; give an option' in said
    assert PIL.Image.open(tmp_path / 'pictures' / 'grid.png').width >= 64
    assert len(list((tmp_path / 'photos').iterdir())) == 24

@pytest.mark.slow
@pytest.mark.skipif(os.name != 'posix', reason='^C of a terminal is sent to a group of processes')
def test_the_artist_stops_the_run_and_sees_pictures(tmp_path):
    make_photos(tmp_path / 'photos', 24)
    env = dict(os.environ, PATH=os.pathsep.join([sysconfig.get_path('scripts'), os.environ['PATH']]), PYTHONPATH=str(ROOT))
    script = subprocess.Popen(['bash', ROOT / 'examples/journeys/artist.sh'], cwd=tmp_path, env=env, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)
    try:
        while script.poll() is None and not list(tmp_path.glob('training-runs/0*/network-snapshot-*.pkl')):
            time.sleep(0.5)
        os.killpg(script.pid, signal.SIGINT)
        said = script.communicate()[0]
    finally:
        if script.poll() is None:
            os.killpg(script.pid, signal.SIGKILL)
    assert script.returncode == 0 and 'Stopped by SIGINT' in said, said
    assert PIL.Image.open(tmp_path / 'pictures' / 'grid.png').width >= 64

@pytest.mark.slow       # test_write_a_plugin.py has the kind
def test_the_engineer(journey, tmp_path):
    journey('engineer.sh')
    assert (tmp_path / 'sketch.pt').is_file() and PIL.Image.open(tmp_path / 'pictures' / 'seed0000.png').size == (16, 16)

@pytest.mark.slow
@pytest.mark.skipif(not Path(os.environ.get('SPIDER_HOSTS') or 'none', 'stylegan3').is_dir(),
                    reason='SPIDER_HOSTS holds no checkout of stylegan3')
def test_the_researcher(journey, make_zip, make_snapshot, tmp_path_factory, tmp_path):
    folder = tmp_path_factory.mktemp('sets')
    data, source = (make_zip(folder / f'{name}.zip', n=16, res=16, seed=seed) for seed, name in enumerate(('data', 'source')))
    said = journey('researcher.sh', make_snapshot(z_dim=512), data, source)
    assert 'Spider source' in said and 'The checkout is as it was.' in said
    run = next((tmp_path / 'runs').glob('00000-*'))
    assert (run / 'report.html').is_file() and 'Spider source' in (run / 'log.txt').read_text()
    assert PIL.Image.open(tmp_path / 'pictures' / 'seed0000.png').size == (16, 16)

def test_every_example_is_run_here():
    text = Path(__file__).read_text(encoding='utf-8')
    scripts = [path.name for path in (ROOT / 'examples').rglob('*') if path.suffix in ('.sh', '.py')
               and path.parent.name != 'own_loop']     # run by tests/hosts/test_own_loops.py
    scripts.remove('make_photos.py')    # of which the journeys make their pictures
    assert len(scripts) == 6 and all(f"'{name}'" in text for name in scripts)
