"""`spider attach` and `spider detach`: the one line of patches/attach.json in the scripts of a host's checkout.

The line stands where the anchor rule of that file says, found by the syntax tree; the bytes around it are left alone. A
script is read and written as bytes, so that its encoding, its line endings and a missing last newline survive.

All files of a checkout are looked at before the first one is written, and one that cannot be written takes back the others.
A read-only file is replaced like any other, because the command names it, and stays read-only; a read-only folder is
refused. What a user can cause raises UserError."""

import ast
import codecs
import contextlib
import functools
import json
import os
import shutil
import sys
import tempfile
import tokenize
import warnings
from pathlib import Path

from spider_plugin.errors import UserError
from spider_plugin.resources import resource_dir

LAUNCHES = ('launch_training', 'setup_training_loop_kwargs')  # One of these is where a host's config can be edited.
HOST_MODULES = {'dnnlib', 'legacy'}                           # What other scripts than the named ones import to load networks.

class NotUnderstood(ValueError):
    """A script that is left alone; the message is the reason, without the script's name."""

@functools.cache
def patch():
    """What patches/attach.json holds; `line` and `marker` as bytes."""
    values = json.loads((resource_dir('patches') / 'attach.json').read_text(encoding='utf-8'))
    return values | {name: values[name].encode() for name in ('line', 'marker')}

#----------------------------------------------------------------------------
# One script: bytes to bytes.

def attach_source(source):
    """The source with our line at its place; one that has it elsewhere, or another version's, gets it anew.

    Raises NotUnderstood."""
    bare = detach_source(source)
    tree = parse(bare)
    bom = bare[:3] if bare.startswith(codecs.BOM_UTF8) else b''
    lines = bare[len(bom):].splitlines(keepends=True)
    at = _anchor(tree, lines)
    if at > 0 and not _ending(lines[at - 1]): # The end of a file without a last newline, which it stays.
        ours = (next(filter(None, map(_ending, reversed(lines))), b'\n'), patch()['line'])
    else:
        ours = (patch()['line'], next(filter(None, map(_ending, lines[max(at - 1, 0):])), b'\n'))
    attached = bom + b''.join([*lines[:at], *ours, *lines[at:]])
    if not _says_the_same(attached, bare, tree):
        raise NotUnderstood(f'takes no line of its own after line {at}: end the statement there')
    return attached

def _says_the_same(attached, bare, tree):
    """Whether nothing but our statement has come to the source `bare`, whose syntax tree is `tree`."""
    try:
        rest = parse(attached)
    except NotUnderstood:
        return False
    rest.body = [node for node in rest.body if not _is_ours(node, attached)]
    try:
        return ast.dump(rest) == ast.dump(tree) and _encoding(attached) == _encoding(bare)
    except RecursionError as error:
        raise NotUnderstood('is nested too deeply') from error

def detach_source(source):
    """The source without our line, in whatever version; of a source that is no Python any more, the line alone is read.

    Raises NotUnderstood where the line has become part of something else."""
    lines = source.splitlines(keepends=True)
    spans = [(node.lineno - 1, node.end_lineno) for node in our_statements(source)]
    for start, end in reversed(spans):
        if not _ending(lines[end - 1]) and start > 0: # The last line, and the file ended without a newline.
            lines[start - 1] = lines[start - 1].rstrip(b'\r\n')
        bom = codecs.BOM_UTF8 if start == 0 and lines[0].startswith(codecs.BOM_UTF8) else b''
        lines[start:end] = [bom]
    rest = b''.join(lines)
    for number in _marked_imports(rest):
        raise NotUnderstood(f'has our line in a changed form, line {number}: take it out by hand')
    return rest

def our_statements(source):
    """The syntax trees of our line in a source: none, one, or more where somebody has copied it."""
    try:
        return [node for node in parse(source).body if _is_ours(node, source)]
    except NotUnderstood:
        return [node for number, line in enumerate(source.splitlines()) for node in _our_line(line, number)]

def is_current(node):
    """Whether a statement of ours is what this version writes, however it is laid out."""
    return ast.dump(node) == ast.dump(ast.parse(patch()['line']).body[0])

def parse(source):
    """The syntax tree of a script's bytes. Raises NotUnderstood."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            return ast.parse(source)
    except SyntaxError as error:
        where = f', line {error.lineno}' if error.lineno else ''
        raise NotUnderstood(f'is not Python {sys.version_info[0]}.{sys.version_info[1]} ({error.msg}{where})') from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise NotUnderstood(f'is not Python ({error})') from error

def _is_ours(node, source):
    """An `if` that does nothing but import from the plugin, and bears the marker."""
    return (isinstance(node, ast.If) and not node.orelse and len(node.body) == 1 and isinstance(node.body[0], ast.Import)
            and all(alias.name.startswith('spider_plugin.') for alias in node.body[0].names)
            and patch()['marker'] in b'\n'.join(source.splitlines()[node.lineno - 1 : node.end_lineno]))

def _marked_imports(source):
    """Line numbers that bear the marker, of code alone where the source is Python."""
    marked = {number for number, line in enumerate(source.splitlines(), start=1) if patch()['marker'] in line}
    with contextlib.suppress(NotUnderstood):
        marked &= {node.lineno for node in ast.walk(parse(source)) if isinstance(node, ast.Import)}
    return sorted(marked)

def _our_line(line, number):
    if patch()['marker'] in line:
        with contextlib.suppress(NotUnderstood):
            return [ast.increment_lineno(node, number) for node in parse(line).body if _is_ours(node, line)]
    return []

def _anchor(tree, lines):
    """How many lines stand above ours. The header ends with the docstring and the __future__ imports; where there are none,
    with the leading comments, but for those directly above a statement that are not the first."""
    header = [node for number, node in enumerate(tree.body) if number == 0 and ast.get_docstring(tree) is not None]
    for node in tree.body[len(header):]:
        if not isinstance(node, ast.ImportFrom) or node.module != '__future__':
            break
        header.append(node)
    if header:
        at = header[-1].end_lineno
        if len(tree.body) > len(header) and tree.body[len(header)].lineno <= at:
            raise NotUnderstood(f'has another statement in line {at}, where its docstring or __future__ imports end: '
                                'put that on a line of its own')
        return at
    starts = [part.lineno for node in tree.body[:1] for part in (node, *getattr(node, 'decorator_list', ()))]
    first = min(starts, default=len(lines) + 1) - 1
    blocks = [end for end in range(1, first + 1) if lines[end - 1].strip() and (end == first or not lines[end].strip())]
    if len(blocks) > 1 and blocks[-1] == first:
        del blocks[-1]
    return blocks[-1] if blocks else 0

def _ending(line):
    return line[len(line.rstrip(b'\r\n')):]

def _encoding(source):
    try:
        return tokenize.detect_encoding(iter(source.splitlines(keepends=True)).__next__)[0]
    except SyntaxError as error:
        raise NotUnderstood(f'has an encoding that is not known ({error})') from error

#----------------------------------------------------------------------------
# A checkout: which of its scripts get the line.

class Script:
    """One .py file in the folder of a checkout."""

    def __init__(self, path):
        self.path, self.source = path, path.read_bytes()

    @property
    def name(self):
        return self.path.name

    @functools.cached_property
    def tree(self):
        return parse(self.source)

    @functools.cached_property
    def imports(self):
        """Top-level names that the module imports, anywhere in it."""
        nodes = [node for node in ast.walk(self.tree) if isinstance(node, (ast.Import, ast.ImportFrom))]
        names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
        names += [node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module and not node.level]
        return {name.partition('.')[0] for name in names}

    @property
    def is_python(self):
        with contextlib.suppress(NotUnderstood):
            return self.tree is not None

    @functools.cached_property
    def commands(self):
        """For each click command, the strings in its decorators: the names of its options are among them."""
        return [{part.value for decorator in node.decorator_list for part in ast.walk(decorator)
                 if isinstance(part, ast.Constant) and isinstance(part.value, str)}
                for node in ast.walk(self.tree) if isinstance(node, ast.FunctionDef) and _is_command(node)]

    def check_training(self):
        """Raises NotUnderstood where our options could not reach this train.py."""
        if not any({'--outdir', '--data'} <= strings for strings in self.commands):
            raise NotUnderstood('has no click command that takes --outdir and --data')
        if not any(isinstance(node, ast.FunctionDef) and node.name in LAUNCHES for node in self.tree.body):
            raise NotUnderstood(f'has no {" and no ".join(LAUNCHES)}, so options of ours could not reach what it trains')

def _is_command(function):
    for decorator in function.decorator_list:
        name = decorator.func if isinstance(decorator, ast.Call) else decorator
        if getattr(name, 'attr', getattr(name, 'id', None)) in ('command', 'group'):
            return True
    return False

def read_scripts(directory):
    """{name: Script} of the .py files in a folder, those of patches/attach.json first. Raises UserError."""
    directory = Path(directory)
    if not directory.is_dir():
        raise UserError(f'{directory} is not a folder; give that of a checkout, which holds train.py.')
    first = patch()['scripts']
    paths = sorted((path for path in directory.glob('*.py') if path.is_file()),
                   key=lambda path: (first.index(path.name) if path.name in first else len(first), path.name))
    try:
        return {path.name: Script(path) for path in paths}
    except OSError as error:
        raise UserError(f'Cannot read {error.filename} ({error.strerror}); make it readable, or give another folder.') from error

def read_checkout(directory):
    """`read_scripts` of a folder that has a train.py. Raises UserError."""
    scripts = read_scripts(directory)
    if 'train.py' not in scripts:
        raise UserError(f'{directory} has no train.py, so it is no checkout of a StyleGAN-like codebase; give the folder of '
                        'one, or make one by `spider init`.')
    return scripts

def attachable(scripts):
    """[Script] that get the line: the click scripts that patches/attach.json names, and of the others those that load networks
    and that no script imports.

    scripts: what `read_checkout` returns. Raises UserError where a named script is not understood."""
    named = [script for script in scripts.values() if script.name in patch()['scripts']]
    for script in named:
        with explained(script):
            parse(script.source)
    with explained(scripts['train.py']):
        scripts['train.py'].check_training()
    modules = [script for script in scripts.values() if script.is_python]
    imported = set().union(*(script.imports for script in modules))
    return [script for script in modules if script.commands and
            (script in named or script.imports & HOST_MODULES and script.path.stem not in imported)]

@contextlib.contextmanager
def explained(script):
    """Makes what is not understood about a script the user's sentence."""
    try:
        yield
    except NotUnderstood as error:
        raise UserError(f'{script.path} {error}; no file was changed.') from error

#----------------------------------------------------------------------------
# The two commands.

def attach(directory):
    """Attaches the scripts of a checkout; returns what was done, a line for each script. Raises UserError."""
    scripts = read_checkout(directory)
    changes, report = [], []
    for script in attachable(scripts):
        with explained(script):
            changes.append((script, attach_source(script.source)))
        report.append(_what_attach_does(script, changes[-1][1]))
    left = [name for name in patch()['scripts'] if name in scripts and name not in {script.name for script, _ in changes}]
    write_all(changes)
    return report + [f'Left out {name}: it has no click command' for name in left]

def detach(directory):
    """Takes the line out of every script in a folder; returns what was done. Raises UserError."""
    changes = []
    for script in read_scripts(directory).values():
        if patch()['marker'] in script.source:
            with explained(script):
                changes.append((script, detach_source(script.source)))
    write_all(changes)
    return [f'Detached {script.name}{_mode(script)}' for script, new in changes if new != script.source]

def _what_attach_does(script, new):
    line = our_statements(new)[0].lineno
    if new == script.source:
        return f'{script.name} is attached, line {line}'
    return f'{"Renewed" if our_statements(script.source) else "Attached"} {script.name}, line {line}{_mode(script)}'

def _mode(script):
    return '' if script.path.stat().st_mode & 0o222 else ' (read-only, and left so)'

def write_all(changes):
    """Replaces the files of [(script, new bytes)], all of them or none. Raises UserError."""
    files = {script.path.resolve(): (script.source, new) for script, new in changes if new != script.source}
    temps, replaced = [], []
    try:
        for path, (old, new) in files.items():
            temps.append((path, _write_beside(path, old), _write_beside(path, new)))
        for path, backup, temp in temps:
            os.replace(temp, path)
            replaced.append((backup, path))
    except BaseException as error:
        for backup, path in replaced:
            os.replace(backup, path)
        if not isinstance(error, OSError):
            raise
        raise UserError(f'Cannot write into {next(iter(files)).parent} ({error.strerror}), so no file was changed; make folder '
                        'and scripts writable, or use `spider run`, which writes nothing.') from error
    finally:
        for _, backup, temp in temps:
            backup.unlink(missing_ok=True)
            temp.unlink(missing_ok=True)

def _write_beside(path, data):
    """A new file in the folder of `path`, with its mode and owner; returns its path."""
    handle, temp = tempfile.mkstemp(prefix='.spider-', suffix='.tmp', dir=path.parent)
    try:
        with open(handle, 'wb') as file:
            file.write(data)
        with contextlib.suppress(OSError, AttributeError): # Another user's file, or a system without owners.
            os.chown(temp, path.stat().st_uid, path.stat().st_gid)
        shutil.copymode(path, temp)
    except BaseException:
        os.unlink(temp)
        raise
    return Path(temp)

#----------------------------------------------------------------------------
# Version skew.

def skew(script):
    """A sentence where the line in a running script is not the one that this version writes, else None."""
    try:
        lines = our_statements(Path(script).read_bytes())
    except OSError:
        return None
    if all(map(is_current, lines)):
        return None
    from spider_plugin import __version__
    return (f'spider-plugin {__version__}: the line in {Path(script).name} is of another version, and works; renew it by '
            f'`spider attach {Path(script).absolute().parent}`')

#----------------------------------------------------------------------------
