"""The `spider` command."""

import functools
import http.server
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner

from spider_plugin import __version__, cli
from spider_plugin.resources import resource_dir

def spider(*args):
    return CliRunner().invoke(cli.main, list(map(str, args)))

def test_help_is_quick_and_complete():
    script = 'import sys; from spider_plugin import cli; cli.main(["-h"], standalone_mode=False); print("torch" in sys.modules)'
    root = resource_dir('patches').parent
    result = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True, cwd=root)
    assert result.returncode == 0 and result.stdout.endswith('\nFalse\n'), result.stderr
    for command in cli.main.commands:
        assert f'\n  {command} ' in result.stdout
        assert command in SCRIPTS or spider(command, '--help').exit_code == 0

def test_version():
    assert __version__ in spider('version').output
    assert spider('--version').output == f'spider, version {__version__}\n'

SCRIPTS = dict(train='sid50k_full', metrics='sid50k_full', video='--w-frames', project='--num-steps', mix='--styles')

@pytest.mark.parametrize('command', ['train', *(pytest.param(name, marks=pytest.mark.slow) for name in [*SCRIPTS][1:])])
def test_the_help_of_scripts_is_that_of_the_command(command):
    env = dict(os.environ, PYTHONPATH=str(resource_dir('patches').parent), OMP_NUM_THREADS='1')
    done = subprocess.run([sys.executable, '-m', 'spider_plugin.cli', command, '-h'], capture_output=True, text=True, env=env)
    assert done.returncode == 0 and done.stdout.startswith(f'Usage: spider {command} [OPTIONS]'), done.stderr
    assert '-h, --help' in done.stdout and SCRIPTS[command] in done.stdout
    assert 'python ' not in done.stdout and f'spider {command} --' in done.stdout

def test_init_copies_the_host(tmp_path):
    result = spider('init', tmp_path / 'new')
    assert result.exit_code == 0 and 'python train.py' in result.output
    (tmp_path / 'empty').mkdir()
    assert spider('init', tmp_path / 'empty').exit_code == 0
    wanted = {path.relative_to(resource_dir('reference_host')): path.read_bytes()
              for path in resource_dir('reference_host').rglob('*') if path.is_file() and '__pycache__' not in path.parts}
    for tree in ('new', 'empty'):
        files = [path for path in (tmp_path / tree).rglob('*') if path.is_file()]
        found = {path.relative_to(tmp_path / tree): path.read_bytes() for path in files}
        assert found == wanted

def test_init_overwrites_nothing(tmp_path):
    (tmp_path / 'mine.txt').write_text('mine')
    for target in (tmp_path, tmp_path / 'mine.txt'):
        result = spider('init', target)
        assert result.exit_code == 2 and 'is not empty' in result.output
    assert [path.name for path in tmp_path.iterdir()] == ['mine.txt']

def test_an_interrupted_init_leaves_nothing(tmp_path, monkeypatch):
    def broken(source, target, **kwargs):
        target.mkdir()
        (target / 'half').write_text('')
        raise OSError(28, 'No space left on device')
    monkeypatch.setattr(cli.shutil, 'copytree', broken)
    result = spider('init', tmp_path / 'new')
    assert result.exit_code == 2 and 'No space left' in result.output
    assert list((tmp_path / 'new').iterdir()) == []

@pytest.fixture
def script(tmp_path):
    """A script that prints its arguments and exits with its first one as the code."""
    path = tmp_path / 'script.py'
    path.write_text('import os, sys\nprint(__name__, sys.argv[1:], file=open("seen", "w"))\n'
                    'os.kill(os.getpid(), 15) if sys.argv[1] == "kill" else sys.exit(int(sys.argv[1]))\n')
    return path

@pytest.mark.parametrize(['args', 'code'], [
    (['0', '--help', '-x', '--spider-source=a b'], 0), (['2'], 2), (['3', '--', '-n'], 3),
    pytest.param(['kill'], 143, marks=pytest.mark.skipif(os.name == 'nt', reason='processes on Windows get no signals')),
], ids=['arguments', 'two', 'restart', 'signal'])
def test_run_passes_arguments_and_exit_codes(script, monkeypatch, tmp_path, args, code):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('PYTHONPATH', str(resource_dir('patches').parent))
    assert spider('run', script, *args).exit_code == code
    assert (tmp_path / 'seen').read_text() == f'__main__ {args}\n'

def test_train_and_metrics_run_the_embedded_host(monkeypatch):
    calls = []
    monkeypatch.setattr(cli, '_run', lambda path, args, **environment: calls.append((path, args)))
    for command in ('train', 'metrics'):
        spider(command, '--help', '--spider-source=x', '-n')
    host, args = resource_dir('reference_host'), ('--help', '--spider-source=x', '-n')
    assert calls == [(host / 'train.py', args), (host / 'calc_metrics.py', args)]

@pytest.fixture
def published(make_snapshot, monkeypatch):
    """URL of a snapshot on a server of this machine."""
    path = Path(make_snapshot())
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=path.parent)
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
        yield f'http://127.0.0.1:{server.server_port}/{path.name}'
        server.shutdown()

def test_generate_and_export_take_a_url(published, tmp_path):
    result = spider('generate', f'--network={published}', '--seeds=0', '--outdir', tmp_path)
    assert result.exit_code == 0 and (tmp_path / 'seed0000.png').is_file(), result.output
    result = spider('export', published, '--out', tmp_path / 'g.pt')
    assert result.exit_code == 0 and (tmp_path / 'g.pt').is_file(), result.output
    result = spider('generate', f'--network={published}x', '--seeds=0', '--outdir', tmp_path)
    assert result.exit_code == 2 and f'--network={published}x' in result.output.replace('\n', ' ')

def test_user_errors(tmp_path):
    assert spider('run', tmp_path / 'nothing.py').exit_code == 2
    result = spider('generate', '--network=missing.pkl', '--outdir', tmp_path, '--seeds=1-')
    assert result.exit_code == 2 and "'--seeds': '1-' is not" in result.output
    result = spider('generate', '--network=missing.pkl', '--outdir', tmp_path)
    assert result.exit_code == 2 and 'missing.pkl' in result.output
