"""Every bad input ends a command with one sentence that names the option or the file, before anything is written."""

import importlib.util
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from spider_plugin.resources import resource_dir

HERE = Path(__file__).parent

def load(name):
    """Import a module that lies beside this one."""
    spec = importlib.util.spec_from_file_location(f'bad_inputs_{name}', HERE / f'{name}.py')
    sys.modules[spec.name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

rows, files = load('rows'), load('files')

#----------------------------------------------------------------------------

class Runner:
    """runner.py as a process. One that hangs on an input is ended, and a new one started for the next."""

    PATIENCE = 120      # seconds

    def __init__(self):
        self.process = None

    def ask(self, request):
        if self.process is None:
            self.start()
        watch = threading.Timer(self.PATIENCE, self.process.kill)
        watch.start()
        print(json.dumps(request), file=self.process.stdin, flush=True)
        answer = self.answers.readline()
        watch.cancel()
        if not answer:
            code = self.close()
            raise AssertionError(f'the process ended with code {code}, or hung')
        return json.loads(answer)

    def start(self):
        reading, writing = os.pipe()
        env = dict(os.environ, PYTHONPATH=str(resource_dir('patches').parent))
        self.process = subprocess.Popen([sys.executable, HERE / 'runner.py', str(writing)], text=True, env=env,
                                        pass_fds=[writing], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL)
        os.close(writing)
        self.answers = os.fdopen(reading)

    def close(self):
        process, self.process = self.process, None
        if process is not None:
            process.stdin.close()
            process.wait()
            self.answers.close()
            return process.returncode

@pytest.fixture(scope='module')
def runner():
    runner = Runner()
    yield runner
    runner.close()

@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Empty, as every row leaves it."""
    return tmp_path_factory.mktemp('folder')

@pytest.fixture(scope='module')
def bad_files(tmp_path_factory, make_zip, make_png, make_snapshot):
    return files.make(tmp_path_factory.mktemp('bad'), make_zip, make_png, make_snapshot)

def check(row, code, stderr, trace):
    assert trace == '' and 'Traceback' not in stderr, trace or stderr
    assert code not in (0, None), f'accepted: {row}'
    before, error, sentence = stderr.partition('Error: ')
    assert error and 'Error' not in before, stderr
    assert sentence.count('\n') == 1 and sentence.endswith('\n') and len(sentence) > 20, stderr
    for words in row.words:
        assert words in sentence, sentence

def arguments(row, paths, folder):
    names = dict(paths, out=f'{folder}/out')
    fill = lambda text: text if '{' not in text else text.format(**names)
    return [fill(arg) for arg in (*rows.BASE.get(row.command, ()), *row.args)]

#----------------------------------------------------------------------------

@pytest.mark.parametrize('row', rows.ROWS, ids=str)
def test_one_sentence(row, runner, bad_files, folder):
    answer = runner.ask(dict(command=row.command, args=arguments(row, bad_files, folder), folder=str(folder)))
    check(row, answer['code'], answer['stderr'], answer['trace'])
    assert [path for path in folder.rglob('*') if path.is_file()] == []

@pytest.mark.parametrize('command', sorted(rows.BASE.keys() - {'demo'}))
def test_the_rest_of_a_row_is_good(command, runner, bad_files, tmp_path):
    good = rows.Row(command, (), ())
    answer = runner.ask(dict(command=command, args=arguments(good, bad_files, tmp_path), folder=str(tmp_path)))
    assert answer['code'] == 0, answer

@pytest.mark.parametrize('row', [row for row in rows.ROWS if row.args[0] in ('--gamma=nan', '--threads=1025')][:2], ids=str)
def test_the_command_line_shows_the_same(row, runner, bad_files, folder):
    args = arguments(row, bad_files, folder)
    answer = runner.ask(dict(command=row.command, args=args, folder=str(folder)))
    root = resource_dir('patches').parent
    command = {'train': ['-m', 'spider_plugin.cli', 'train']}.get(row.command, [root / 'reference_host' / f'{row.command}.py'])
    done = subprocess.run([sys.executable, *command, *args], text=True, capture_output=True, cwd=folder,
                          env=dict(os.environ, PYTHONPATH=str(root)))
    assert (done.returncode, done.stderr.splitlines()[-1]) == (answer['code'], answer['stderr'].splitlines()[-1])

def test_the_corpus_is_large():
    assert len(rows.ROWS) >= 400 and {row.command for row in rows.ROWS} >= set(rows.BASE)

def test_numbers_have_a_least_and_a_most(runner):
    assert runner.ask(None) == []
