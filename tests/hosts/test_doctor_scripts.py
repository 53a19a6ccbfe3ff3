"""`spider doctor` about each script of odd checkouts, and about options by configuration: sentences, never a traceback."""

import os

import click
import pytest
from click.testing import CliRunner

from spider_plugin import cli
from spider_plugin.hosts import doctor, doctor_scripts, option_table

GUARD = '\nif __name__ == "__main__":\n    main()\n'

@pytest.fixture
def host(fake_host):
    return fake_host().parent

def said(host, script):
    """The Finding about a script of a checkout."""
    (finding,) = [finding for finding in doctor.examine(str(host), options=False)
                  if finding.topic == 'script' and finding.text.startswith(script)]
    assert '\n' not in finding.text
    return finding

ODD = {     # a script -> (words about it, is it a fault)
    'import argparse\ndef main():\n    argparse.ArgumentParser().parse_args()':             ('a.py starts', False),
    'import click\n@click.command()\ndef main():\n    pass':                                ('a.py starts', False),
    'print "of Python 2"\ndef main(): pass':                                                ('a.py is not Python', True),
    'def main(:':                                                                           ('a.py is not Python', True),
    'import argparse, no_such_package, no_other.part\ndef main(): pass':                    ('no_other, no_such_package', True),
    'import helper\ndef main(): pass':                                                      ('needs not_here', True),
    'def main(): open("ran", "w")':                                                         ('was not started', False),
    'import click\nraise RuntimeError("no display")\ndef main(): pass': ('does not start (RuntimeError', True),
    'import argparse, sys\nsys.exit("needs a login")\ndef main(): pass': ('does not start (needs a login', True),
}

@pytest.mark.parametrize('source', ODD, ids=lambda source: ODD[source][0][:30])
def test_odd_scripts(host, source):
    (host / 'helper.py').write_text('import not_here\n')
    (host / 'a.py').write_text(source + GUARD)
    words, fault = ODD[source]
    found = said(host, 'a.py')
    assert words in found.text and bool(found.remedy) == fault and not (host / 'ran').exists()

def test_packages_that_pip_calls_otherwise(host):
    (host / 'a.py').write_text('import click, OpenGL.GL, clip, imgui\ndef main(): pass' + GUARD)
    assert said(host, 'a.py').remedy == 'pip install PyOpenGL git+https://github.com/openai/CLIP.git imgui'

@pytest.mark.parametrize('where, folder', [('..', None), ('.', '.'), ('../..', None)])
def test_a_folder_by_its_relative_path(host, monkeypatch, where, folder):
    (host / 'a.py').write_text('import argparse\ndef main():\n    argparse.ArgumentParser().parse_args()' + GUARD)
    monkeypatch.chdir(host / where)
    assert said(folder or os.path.relpath(host), 'a.py').text == 'a.py starts'

def test_a_script_that_cannot_be_decoded(host):
    (host / 'a.py').write_bytes(b'\xff\xfe\x00\nname = "\xe4"\nif __name__ == "__main__":\n    pass\n')
    assert said(host, 'a.py').remedy

@pytest.mark.parametrize('train', ['print "2"', 'def f(:', '', 'import no_such_package', 'raise SystemExit(3)',
                                   'import hydra', '\x00'])
def test_any_train_py_is_a_sentence(host, train):
    (host / 'train.py').write_text(train)
    result = CliRunner().invoke(cli.main, ['doctor', str(host)])
    assert result.exit_code == 1 and isinstance(result.exception, SystemExit) and 'Traceback' not in result.output
    assert 'FIX  host ' in result.output and 'options' not in [line.split()[1] for line in result.output.splitlines()]

def test_no_train_py_names_the_page(tmp_path):
    result = CliRunner().invoke(cli.main, ['doctor', str(tmp_path)])
    assert result.exit_code == 2 and 'docs/own-loop.md' in result.output

#----------------------------------------------------------------------------
# Options by configuration.

def command(*extra, cfg=('stylegan2', 'big')):
    params = [click.Option(['--outdir'], required=True), click.Option(['--data'], required=True), click.Option(['--gpus']),
              click.Option(['--cfg'], type=click.Choice(list(cfg))), click.Option(['-n', '--dry-run'], is_flag=True)]
    return click.Command('main', params=[*params, *extra])

def test_command_lines_of_a_host(tmp_path):
    lines = option_table.lines_of(command(click.Option(['--batch'], required=True), click.Option(['--preset'], required=True,
                                  type=click.Choice(['A', 'B']))), str(tmp_path))
    assert list(lines) == ['--cfg=stylegan2', '--cfg=big'] and list(lines['--cfg=big']) == list(option_table.COLUMNS)
    line = lines['--cfg=big']['`--dsc`']
    assert line[0] == '-n' and {'--cfg=big', '--batch=4', '--gpus=1', '--preset=A', '--dsc'} <= set(line)
    assert os.path.isfile(tmp_path / 'images.zip')

@pytest.mark.parametrize('params, words', [
    ([click.Option(['--outdir']), click.Option(['--data'])], 'has no --dry-run'),
    (None, '--cameras is required'), ([click.Option(['--data'])], 'has no --dry-run')])
def test_hosts_whose_command_line_is_not_known(params, words, tmp_path):
    host = click.Command('main', params=params) if params else command(click.Option(['--cameras'], required=True))
    with pytest.raises(ValueError, match=words):
        option_table.lines_of(host, str(tmp_path))

@pytest.mark.parametrize('verdict, words', [
    ('yes', '--cfg=a, --dsc: works'), ('no: it cannot be used.', '--cfg=a, --dsc: refused: it cannot be used.'),
    ('note: no network', '--cfg=a, --dsc: not known: no network')])
def test_cells(verdict, words):
    assert str(doctor_scripts._cell('--cfg=a', '`--dsc`', verdict)).endswith(words)

@pytest.mark.slow
def test_the_table_of_a_checkout(tmp_path, monkeypatch):
    monkeypatch.setenv('SPIDER_DRY_RUN', 'on')
    assert CliRunner().invoke(cli.main, ['init', str(tmp_path / 'host')]).exit_code == 0
    result = CliRunner().invoke(cli.main, ['doctor', str(tmp_path / 'host')])
    rows = [line for line in result.output.splitlines() if line.split()[1] == 'options']
    assert any('--cfg=stylegan2, source: works' in row for row in rows), result.output
    assert any('--cfg=stylegan3-t, source: works' in row for row in rows)
