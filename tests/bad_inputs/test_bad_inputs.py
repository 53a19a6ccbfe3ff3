"""Every bad input ends a command with one sentence that names the option or the file, before anything is written."""

import os
import subprocess
import sys

import bad_files
import bad_rows as rows
import pytest

from spider_plugin.errors import printable
from spider_plugin.resources import resource_dir

#----------------------------------------------------------------------------

@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Empty, as every row leaves it."""
    return tmp_path_factory.mktemp('folder')

@pytest.fixture(scope='module')
def paths(tmp_path_factory, make_zip, make_snapshot):
    return bad_files.make(tmp_path_factory.mktemp('bad'), make_zip, make_snapshot)

#----------------------------------------------------------------------------

def filled(texts, paths, folder):
    """Return the texts with the paths in place of {NAME}."""
    return [text if '{' not in text else text.format(**paths, out=f'{folder}/out') for text in texts]

def request(row, paths, folder):
    args = filled((*rows.BASE.get(row.command, ()), *row.args), paths, folder)
    return dict(command=rows.SCRIPTS.get(row.command, row.command), args=args, folder=str(folder))

def check(answer, args, words):
    """words: all of them are in the sentence; without any, it names an option or a value of args, which are those of the row."""
    stderr = answer['stderr']
    assert answer['trace'] == '' and 'Traceback' not in stderr, answer['trace'] or stderr
    assert answer['code'] != 0, f'accepted: {args}'
    before, error, sentence = stderr.partition('Error: ')
    assert error and 'Error' not in before, stderr
    assert sentence.count('\n') == 1 and sentence.endswith('\n') and sentence[:-1].isprintable() and len(sentence) > 20, stderr
    named = words or [part for arg in args for part in arg.split('=', 1) if part.strip()]
    named = [os.path.expanduser(text) for text in named]     # ~ is said as the folder that it is
    found = [printable(text)[: 30 if words == [] else None] in sentence for text in named]
    assert all(found) if words else any(found), sentence

@pytest.mark.parametrize('row', rows.ROWS, ids=str)
def test_one_sentence(row, runner, paths, folder):
    answer = runner.ask(request(row, paths, folder))
    check(answer, filled(row.args, paths, folder), filled(row.words, paths, folder))
    assert [path for path in folder.rglob('*') if path.is_file()] == []

@pytest.mark.parametrize('command', sorted(rows.BASE.keys() - {'demo', *rows.SCRIPTS}))
def test_the_rest_of_a_row_is_good(command, runner, paths, tmp_path):
    answer = runner.ask(request(rows.Row(command, (), ()), paths, tmp_path))
    assert answer['code'] == 0, answer

@pytest.mark.parametrize('row', [row for row in rows.ROWS if row.args[0] in ('--gamma=nan', '--threads=1025')][:2], ids=str)
def test_the_command_line_shows_the_same(row, runner, paths, folder):
    asked = request(row, paths, folder)
    answer = runner.ask(asked)
    root = resource_dir('patches').parent
    command = {'train': ['-m', 'spider_plugin.cli', 'train']}.get(row.command, [root / 'reference_host' / f'{row.command}.py'])
    done = subprocess.run([sys.executable, *command, *asked['args']], text=True, capture_output=True, cwd=folder,
                          env=dict(os.environ, PYTHONPATH=str(root)))
    assert (done.returncode, done.stderr.splitlines()[-1]) == (answer['code'], answer['stderr'].splitlines()[-1])

@pytest.mark.parametrize('command, option', [('train', '--data'), ('train', '--spider-source'), ('dataset_tool', '--source')])
def test_what_is_no_file_is_left_out(command, option, runner, tmp_path, paths):
    """Pipes, broken links, folders named like images and links in a circle, beside images."""
    bad_files.write_folder(tmp_path / 'set', bad_files.images())
    bad_files.strange(tmp_path / 'set')
    answer = runner.ask(request(rows.Row(command, (f'{option}={tmp_path}/set',), ()), paths, tmp_path))
    assert answer['code'] == 0, answer

def test_the_corpus_is_large():
    assert len(rows.ROWS) >= 400 and {row.command for row in rows.ROWS} >= set(rows.BASE)

def test_numbers_have_a_least_and_a_most(runner):
    assert runner.ask(None) == []
