"""The rules of a test run: a dead worker ends it, a test marked `alone` has its process, no checkouts mean no tests of them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CONFIG = Path(__file__).parents[1] / 'pyproject.toml'

DIES = """
import os, pytest

@pytest.mark.parametrize('number', range(6))
def test_dies(number):
    if number == 2:
        os.abort()
"""

LIVES = """
import pytest

@pytest.mark.parametrize('number', range(6))
def test_lives(number):
    pass
"""

ALONE = """
import os, pytest

@pytest.fixture
def pid(tmp_path):
    return os.getpid()

@pytest.mark.alone
def test_passes(pid):
    assert pid != {pid} and pid == os.getpid()

@pytest.mark.alone
def test_fails(pid):
    assert pid is None

@pytest.mark.alone
def test_skips():
    pytest.skip('for a reason')
"""

def run(folder, files, *options):
    """pytest with this project's settings, on test files in a folder."""
    for name, text in files.items():
        (folder / name).write_text(text)
    env = {name: value for name, value in os.environ.items() if not name.startswith(('PYTEST_', 'SPIDER_TEST_'))}
    tests = sorted(set(files) - {'conftest.py'})
    command = [sys.executable, '-m', 'pytest', '-c', CONFIG, '-p', 'no:cacheprovider', '-rfs', *options, *tests]
    return subprocess.run(command, cwd=folder, env=env, text=True, capture_output=True, timeout=500) # A run that hangs fails.

@pytest.mark.parametrize('workers', [1, 2])
def test_a_dead_worker_ends_the_run(tmp_path, workers):
    files = {f'test_{i}.py': DIES if i == 1 else LIVES for i in range(4)}
    done = run(tmp_path, files, f'--numprocesses={workers}', '--dist=loadfile')
    assert done.returncode == 1, done.stdout + done.stderr
    assert 'crashed and worker restarting disabled' in done.stdout and 'test_dies[2]' in done.stdout

def test_alone(tmp_path):
    conftest = (CONFIG.parent / 'tests' / 'conftest.py').read_text()
    done = run(tmp_path, {'conftest.py': conftest, 'test_alone.py': ALONE.format(pid=os.getpid())}, '-n0')
    assert done.returncode == 1 and '1 failed, 1 passed, 1 skipped' in done.stdout, done.stdout + done.stderr
    assert 'FAILED' in done.stdout and 'for a reason' in done.stdout

COPIES = """
import pytest

@pytest.mark.parametrize('time', range(2))
def test_in_a_copy(attached, time):
    assert attached('stylegan3')
"""

def test_without_checkouts_every_test_in_a_copy_of_one_is_skipped(tmp_path, monkeypatch):
    monkeypatch.delenv('SPIDER_HOSTS', raising=False)
    conftest = (CONFIG.parent / 'tests' / 'checkouts' / 'conftest.py').read_text()
    done = run(tmp_path, {'conftest.py': conftest, 'test_copies.py': COPIES}, '-n0')
    assert done.returncode == 0 and '2 skipped' in done.stdout, done.stdout + done.stderr
