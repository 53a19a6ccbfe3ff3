"""`spider attach` and `spider detach`, on the bytes of single scripts and on folders like a checkout."""

import ast
import itertools
import os
import random
import stat

import pytest
from click.testing import CliRunner

from spider_plugin import cli
from spider_plugin.errors import SpiderError
from spider_plugin.hosts import attach as module
from spider_plugin.hosts.attach import skew
from spider_plugin.hosts.line import NotUnderstood, attach_source, detach_source, plugin_statements
from spider_plugin.resources import resource_dir

LINE, MARKER = module.patch()['line'], module.patch()['marker']
OLD_LINE = LINE.replace(b'going on without it', b'so it stays out')

#----------------------------------------------------------------------------
# One script: bytes to bytes.

HEADS = [b'', b'#!/usr/bin/env python\n', b'#!/usr/bin/env python\n# -*- coding: utf-8 -*-\n', b'# Licence.\n#\n# More.\n\n',
         b'\n# vim: set fileencoding=utf-8 :\n', b'\n\n', b'#!/bin/python\n\n# Licence.\n\n\n# Of what follows.\n',
         b'\x0c\n# a\n']
DOCS = [b'', b'"""A tool."""\n', b"'''A tool.\n\nIt says import spider_plugin.hosts.hook.\n'''\n", b"r'A\\d'\n",
        b"'A ' \\\n'tool'\n", b"('A'\n ' tool')\n", b'"""Caf\xc3\xa9."""  # why\n', b'u"A tool";\n']
FUTURES = [b'', b'from __future__ import annotations\n',
           b'\n# Later.\nfrom __future__ import (annotations,\n    division)\n']
BODIES = [b'', b'import os\n', b'\n\nimport os\n\nx = 1\n', b'# Imports.\nimport os\n', b'import os; import sys\n',
          b'@(lambda f: f)\ndef f():\n    """doc"""\n', b'\n# Only words.\n', b'if True:\n\tx = "\\\n"\n',
          b'x = """\n# attaches spider-plugin\n"""\n']

def spelled(source, ending, bom, last):
    """Return the source with other line endings (None for a mixture), with a byte order mark, or without a last newline."""
    lines, endings = source.split(b'\n'), itertools.cycle([b'\n', b'\r\n', b'\r\n'] if ending is None else [ending])
    text = b''.join(line + end for line, end in zip(lines[:-1], endings)) + lines[-1]
    return (b'\xef\xbb\xbf' if bom else b'') + (text if last else text.rstrip(b'\r\n'))

def scripts(count, seed=0):
    rng = random.Random(seed)
    for _ in range(count):
        parts = b''.join(map(rng.choice, (HEADS, DOCS, FUTURES, BODIES)))
        yield spelled(parts, rng.choice([b'\n', b'\r\n', b'\r', None]), rng.random() < 0.2, rng.random() < 0.7)

def test_detach_restores_the_bytes_of_many_scripts():
    for source in [b'\xef\xbb\xbf', b'\xef\xbb\xbfimport os\n', *scripts(600)]:
        attached = attach_source(source)
        assert detach_source(attached) == source
        assert attach_source(attached) == attached and attached.count(LINE) == 1
        assert detach_source(source) == source

def test_the_line_is_the_first_statement_after_the_header():
    for source in scripts(200, seed=1):
        before, after = ast.parse(source), ast.parse(attach_source(source))
        number = next(number for number, node in enumerate(after.body) if 'find_spec' in ast.dump(node))
        assert all(isinstance(node, ast.Expr) or node.module == '__future__' for node in after.body[:number])
        assert not any(getattr(node, 'module', None) == '__future__' for node in after.body[number:])
        assert ast.get_docstring(after) == ast.get_docstring(before)
        compile(attach_source(source), 'script', 'exec') # A __future__ import may only follow a docstring.

def test_the_line_ends_as_the_line_above():
    assert attach_source(b'"""d"""\r\nimport os\n') == b'"""d"""\r\n' + LINE + b'\r\nimport os\n'
    assert attach_source(b'"""d"""\nimport os\r\n') == b'"""d"""\n' + LINE + b'\nimport os\r\n'
    assert attach_source(b'import os\r\n') == LINE + b'\r\nimport os\r\n'
    assert attach_source(b'\xef\xbb\xbfimport os') == b'\xef\xbb\xbf' + LINE + b'\nimport os'
    assert attach_source(b'# a\r\n"""d"""') == b'# a\r\n"""d"""\r\n' + LINE
    assert attach_source(b'') == LINE + b'\n'

def test_comments_stay_with_their_statements():
    assert attach_source(b'#!/x\n# L\n\n# Imports\nimport os\n') == b'#!/x\n# L\n' + LINE + b'\n\n# Imports\nimport os\n'
    assert attach_source(b'# L\nimport os\n') == b'# L\n' + LINE + b'\nimport os\n'

def test_other_encodings():
    source = '# -*- coding: latin-1 -*-\nname = "é"\n'.encode('latin-1')
    assert attach_source(source) == b'# -*- coding: latin-1 -*-\n' + LINE + b'\n' + source.partition(b'\n')[2]
    for script in (source, b'\n' + source):
        attached = attach_source(script)
        assert ast.unparse(ast.parse(attached).body[-1]) == "name = 'é'" and detach_source(attached) == script

@pytest.mark.parametrize(['source', 'reason'], [
    (b'def f(:\n',                          'is not Python 3.*line 1'),
    (b'print "python 2"\n',                 'is not Python 3'),
    (b'\x89PNG\r\n\x1a\n\x00\x00',          'is not Python'),
    (b'x = "\xe9"\n',                       'is not Python 3'),
    (b'# coding: klingon\nx = 1\n',         'is not Python 3'),
    (b'x = ' + b'+'.join([b'1'] * 3000),    'is n(ot Python|ested too deeply)'),
    (b'"""d"""; import os\n',               'has another statement in line 1'),
    (b'from __future__ import annotations; x = 1\n', 'has another statement in line 1'),
    (b'"""d"""; \\\nimport os\n',           'cannot take a separate line after line 1'),
], ids=['syntax', 'python2', 'binary', 'encoding', 'cookie', 'nested', 'docstring', 'future', 'backslash'])
def test_sources_that_are_not_understood(source, reason):
    with pytest.raises(NotUnderstood, match=reason):
        attach_source(source)

#----------------------------------------------------------------------------
# After the user has edited the script.

SCRIPT = b'"""d"""\nimport os\n\nprint(os.name)\n'
ATTACHED = attach_source(SCRIPT)

@pytest.mark.parametrize('edit', [
    lambda source: b'# new\n' + source + b'x = 1\n',
    lambda source: source.replace(b'\n', b'\r\n'),
    lambda source: source.replace(b'"""d"""\n', b'import sys\n'),
    lambda source: source.replace(b'print(os', b'print((os'),           # No Python any more.
    lambda source: source.rstrip(b'\n') + b'  # attaches spider-plugin', # A line of the user's that ends like the plugin's.
], ids=['around', 'endings', 'docstring', 'broken', 'marker'])
def test_detach_removes_only_its_line(edit):
    wanted = edit(SCRIPT)
    if MARKER in wanted: # Words of the user's, in what is Python: left alone.
        assert detach_source(edit(ATTACHED)) == wanted
    else:
        assert detach_source(edit(ATTACHED)) == wanted and LINE not in wanted

def test_a_line_changed_by_a_formatter_is_recognised():
    test, body = LINE.split(b': import ')
    actual = test.replace(b' or ', b' \\\n    or ') + b':\n    import ' + body
    black = SCRIPT.replace(b'import os\n', b'\n' + actual + b'\n\nimport os\n')
    assert len(plugin_statements(black)) == 1 and module.is_current(plugin_statements(black)[0])
    assert detach_source(black) == SCRIPT.replace(b'import os\n', b'\n\nimport os\n')
    assert attach_source(black).count(LINE) == 1

def test_another_version_is_renewed_and_a_moved_line_moved_back():
    old = ATTACHED.replace(LINE, OLD_LINE)
    assert attach_source(old) == ATTACHED and detach_source(old) == SCRIPT
    assert attach_source(SCRIPT + LINE + b'\n') == ATTACHED
    assert attach_source(ATTACHED + LINE) == ATTACHED.rstrip(b'\n')

@pytest.mark.parametrize('edit', [
    lambda source: source.replace(LINE, LINE + b'\nelse: x = 1'),
    lambda source: source.replace(b': import', b': import sys; import'),
    lambda source: source.replace(b'import os\n', b'def f():\n    ' + LINE + b'\n'),
    lambda source: source.replace(LINE, LINE.replace(b'(', b'((', 1)) + LINE.replace(b'if', b'('),
], ids=['else', 'more', 'function', 'broken'])
def test_a_line_in_another_statement_is_refused(edit):
    with pytest.raises(NotUnderstood, match=r'the line of spider-plugin in a changed form in line [234] \(remove it by hand\)'):
        detach_source(edit(ATTACHED))

#----------------------------------------------------------------------------
# Folders.

TRAIN = b'''"""Trains."""
import click
import dnnlib

def launch_training(c, desc, outdir, dry_run):
    pass

@click.command()
@click.option('--outdir', required=True)
@click.option('--data', required=True)
def main(outdir, data):
    print('trained')

if __name__ == '__main__':
    main()
'''

TOOL = b'# A tool.\r\n\r\nimport click\r\nimport legacy\r\n\r\n@click.command()\r\ndef main():\r\n    print("ran")\r\n\r\nmain()'

@pytest.fixture
def checkout(tmp_path):
    """A folder with scripts that get the line and scripts that do not."""
    files = {'train.py': TRAIN, 'calc_metrics.py': b'\xef\xbb\xbf' + TRAIN, 'gen_images.py': TOOL, 'spectra.py': TOOL,
             'legacy.py': TOOL.replace(b'legacy', b'dnnlib'), 'dataset_tool.py': TOOL.replace(b'import legacy\r\n', b''),
             'projector.py': b'import legacy, gen_images\n', 'notes.py': b'not python at all', 'README.md': b'words'}
    path = tmp_path / 'checkout'
    path.mkdir()
    for name, data in files.items():
        (path / name).write_bytes(data)
    return path

def contents(path):
    return {file.name: (file.read_bytes(), stat.S_IMODE(file.stat().st_mode)) for file in path.iterdir()}

def spider(*args):
    return CliRunner().invoke(cli.main, list(map(str, args)))

def test_attach_and_detach(checkout):
    os.chmod(checkout / 'train.py', 0o755)
    os.chmod(checkout / 'gen_images.py', 0o444)
    before = contents(checkout)
    result = spider('attach', checkout)
    assert result.exit_code == 0 and result.output.splitlines() == [
        'Attached train.py, line 2', 'Attached calc_metrics.py, line 2',
        'Attached gen_images.py, line 2 (still read-only)',
        'Attached spectra.py, line 2', 'Left out projector.py, which has no click command',
        f'`spider detach {checkout}` removes the line again.']
    after = contents(checkout)
    changed = {name for name in before if after[name] != before[name]}
    assert changed == {'train.py', 'calc_metrics.py', 'gen_images.py', 'spectra.py'}
    assert {name: mode for name, (_, mode) in after.items()} == {name: mode for name, (_, mode) in before.items()}
    assert 'train.py is attached, line 2' in spider('attach', checkout).output and contents(checkout) == after
    result = spider('detach', checkout)
    assert result.exit_code == 0 and 'Detached gen_images.py (still read-only)' in result.output.splitlines()
    assert contents(checkout) == before
    assert spider('detach', checkout).output == f'No script in {checkout} is attached.\n'

def test_renewing(checkout):
    spider('attach', checkout)
    after = contents(checkout)
    (checkout / 'train.py').write_bytes(attach_source(TRAIN).replace(LINE, OLD_LINE))
    assert skew(checkout / 'calc_metrics.py') is None and skew(checkout / 'README.md') is None and skew('nowhere.py') is None
    sentence = skew(checkout / 'train.py')
    assert 'the line in train.py is of another version' in sentence and f'`spider attach {checkout}`' in sentence
    assert spider('attach', checkout).output.startswith('Renewed train.py, line 2\n') and contents(checkout) == after

def test_a_link_stays_a_link(checkout, tmp_path):
    (tmp_path / 'elsewhere').mkdir()
    (checkout / 'gen_images.py').rename(tmp_path / 'elsewhere' / 'tool.py')
    (checkout / 'gen_images.py').symlink_to(tmp_path / 'elsewhere' / 'tool.py')
    assert spider('attach', checkout).exit_code == 0
    assert (checkout / 'gen_images.py').is_symlink() and LINE in (tmp_path / 'elsewhere' / 'tool.py').read_bytes()

@pytest.mark.parametrize(['name', 'data', 'words'], [
    ('train.py',      TRAIN.replace(b'launch_training', b'go'), 'has no launch_training and no setup_training_loop_kwargs'),
    ('train.py',      TRAIN.replace(b'--outdir', b'--out'),     'has no click command that takes --outdir and --data'),
    ('train.py',      b'import argparse\n',                     'has no click command'),
    ('train.py',      b'',                                      'has no click command'),
    ('train.py',      b'\x7fELF\x00',                           'is not Python'),
    ('gen_images.py', b'def f(:\n',                             'is not Python 3'),
    ('gen_images.py', TOOL.replace(b'\r\nimport click', b'"""d"""; import click'), 'has another statement in line 2'),
])
def test_refusals_change_nothing(checkout, name, data, words):
    (checkout / name).write_bytes(data)
    before = contents(checkout)
    result = spider('attach', checkout)
    assert result.exit_code == 2 and words in result.output and str(checkout / name) in result.output
    assert result.output.count('\n') == 1 and contents(checkout) == before

def test_folders_that_are_not_checkouts(checkout, tmp_path):
    (checkout / 'train.py').unlink()
    for folder, words in ((checkout, 'has no train.py'), (checkout / 'README.md', 'is not a folder'),
                          (tmp_path / 'no', 'is not a folder')):
        result = spider('attach', folder)
        assert result.exit_code == 2 and f'{folder} {words}' in result.output
    assert spider('detach', tmp_path / 'no').exit_code == 2

def test_all_files_or_none(checkout, monkeypatch):
    before, replace = contents(checkout), os.replace
    def broken(source, target):
        if target.name == 'gen_images.py':
            raise OSError(13, 'Permission denied')
        replace(source, target)
    monkeypatch.setattr(module.os, 'replace', broken)
    result = spider('attach', checkout)
    assert result.exit_code == 2 and 'Permission denied' in result.output and contents(checkout) == before
    monkeypatch.setattr(module.os, 'replace', replace)
    monkeypatch.setattr(module.shutil, 'copymode', lambda *args: (_ for _ in ()).throw(OSError(28, 'No space left on device')))
    with pytest.raises(SpiderError, match='No space left'):
        module.attach(checkout)
    assert contents(checkout) == before

#----------------------------------------------------------------------------
# What the line does in a process.

def test_attached_scripts_run_with_the_plugin_and_without(checkout, python):
    (checkout / 'dnnlib.py').write_text('')
    spider('attach', checkout)
    shown = python(checkout / 'train.py', '--help')
    assert shown.returncode == 0 and '--spider-source' in shown.stdout
    alone = python(checkout / 'train.py', '--outdir=x', '--data=y', plugin=False)
    assert alone.stdout == 'trained\n' and alone.stderr == 'spider-plugin is not installed: going on without it\n'

def test_the_embedded_host_is_attached():
    done = module.attach(resource_dir('reference_host'))
    assert [line.split()[0] for line in done] == module.patch()['scripts'] and all('is attached' in line for line in done)
