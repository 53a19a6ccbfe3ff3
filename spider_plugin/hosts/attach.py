"""`spider attach` and `spider detach` put the line of patches/attach.json into the scripts of a host's checkout and remove it.

All files of a checkout are read before the first one is written. If one cannot be written, the others are restored. A
read-only file is replaced, because the user named its folder, and stays read-only; a read-only folder is refused. Errors that a
user can cause raise SpiderError."""

import ast
import contextlib
import functools
import os
import shutil
import tempfile
from pathlib import Path

from spider_plugin.errors import SpiderError
from spider_plugin.hosts.line import (
    NotUnderstood,
    attach_source,
    detach_source,
    is_current,
    parse,
    patch,
    plugin_statements,
)

LAUNCHES = ('launch_training', 'setup_training_loop_kwargs')  # One of these is where a host's config can be edited.
OWN_LOOP = 'two lines of it with spider_plugin.edit_config do: docs/own-loop.md'     # What serves another train.py.
HOST_MODULES = {'dnnlib', 'legacy'}                           # Imports that show that a script loads networks.

#----------------------------------------------------------------------------
# The scripts of a checkout that get the line.

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
        """For each click command, the strings in its decorators, which include the names of its options."""
        return [{part.value for decorator in node.decorator_list for part in ast.walk(decorator)
                 if isinstance(part, ast.Constant) and isinstance(part.value, str)}
                for node in ast.walk(self.tree) if isinstance(node, ast.FunctionDef) and _is_command(node)]

    def check_training(self):
        """Raise NotUnderstood if the plugin's options could not reach the training of this train.py."""
        if not any({'--outdir', '--data'} <= strings for strings in self.commands):
            raise NotUnderstood(f'has no click command that takes --outdir and --data ({OWN_LOOP})')
        if not any(isinstance(node, ast.FunctionDef) and node.name in LAUNCHES for node in self.tree.body):
            raise NotUnderstood(f'has no {" and no ".join(LAUNCHES)}, so the plugin\'s options could not '
                                f'reach its training ({OWN_LOOP})')

def _is_command(function):
    for decorator in function.decorator_list:
        name = decorator.func if isinstance(decorator, ast.Call) else decorator
        if getattr(name, 'attr', getattr(name, 'id', None)) in ('command', 'group'):
            return True
    return False

def read_scripts(directory):
    """Return {name: Script} for the .py files in a folder, those of patches/attach.json first. Raises SpiderError."""
    directory = Path(directory)
    if not directory.is_dir():
        raise SpiderError(f'{directory} is not a folder; give the folder of a checkout, which holds train.py.')
    first = patch()['scripts']
    paths = sorted((path for path in directory.glob('*.py') if path.is_file()),
                   key=lambda path: (first.index(path.name) if path.name in first else len(first), path.name))
    try:
        return {path.name: Script(path) for path in paths}
    except OSError as error:
        raise SpiderError(f'Cannot read {error.filename} ({error.strerror}); make it readable, or give another '
                          'folder.') from error

def read_checkout(directory):
    """Return `read_scripts` of a folder. Raises SpiderError if it has no train.py."""
    scripts = read_scripts(directory)
    if 'train.py' not in scripts:
        raise SpiderError(f'{directory} has no train.py, so it is not a checkout of a StyleGAN-style codebase; give the folder '
                          f'of one, make one by `spider init`, or edit your own loop ({OWN_LOOP}).')
    return scripts

def attachable(scripts):
    """Return the Scripts that get the line. These are the click scripts that patches/attach.json names, and other click scripts
    that load networks and are not imported by a script.

    scripts: the result of `read_checkout`.
    Raises SpiderError if a named script is not understood."""
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
    """Turn NotUnderstood about a script into a SpiderError."""
    try:
        yield
    except NotUnderstood as error:
        raise SpiderError(f'{script.path} {error}; no file was changed.') from error

#----------------------------------------------------------------------------
# The two commands.

def attach(directory):
    """Attach the scripts of a checkout, and return a report, a line for each script. Raises SpiderError."""
    scripts = read_checkout(directory)
    changes, report = [], []
    for script in attachable(scripts):
        with explained(script):
            changes.append((script, attach_source(script.source)))
        report.append(_what_attach_does(script, changes[-1][1]))
    left = [name for name in patch()['scripts'] if name in scripts and name not in {script.name for script, _ in changes}]
    write_all(changes)
    return report + [f'Left out {name}, which has no click command' for name in left]

def detach(directory):
    """Remove the line from every script in a folder, and return a report, a line for each script. Raises SpiderError."""
    changes = []
    for script in read_scripts(directory).values():
        if patch()['marker'] in script.source:
            with explained(script):
                changes.append((script, detach_source(script.source)))
    write_all(changes)
    return [f'Detached {script.name}{_mode(script)}' for script, new in changes if new != script.source]

def _what_attach_does(script, new):
    line = plugin_statements(new)[0].lineno
    if new == script.source:
        return f'{script.name} is attached, line {line}'
    return f'{"Renewed" if plugin_statements(script.source) else "Attached"} {script.name}, line {line}{_mode(script)}'

def _mode(script):
    return '' if script.path.stat().st_mode & 0o222 else ' (still read-only)'

def write_all(changes):
    """Replace the files of [(script, new bytes)], all of them or none. Raises SpiderError."""
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
        raise SpiderError(f'Cannot write into {next(iter(files)).parent} ({error.strerror}), so no file was changed; make the '
                          'folder writable, or use `spider run`, which writes nothing.') from error
    finally:
        for _, backup, temp in temps:
            backup.unlink(missing_ok=True)
            temp.unlink(missing_ok=True)

def _write_beside(path, data):
    """Write a new file in the folder of `path`, with its mode and owner, and return the new path."""
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
    """Return a sentence if the line in a running script is not the one that this version writes, else None."""
    try:
        lines = plugin_statements(Path(script).read_bytes())
    except OSError:
        return None
    if all(map(is_current, lines)):
        return None
    from spider_plugin import __version__
    return (f'spider-plugin {__version__}: the line in {Path(script).name} is of another version, and works; renew it by '
            f'`spider attach {Path(script).absolute().parent}`')

#----------------------------------------------------------------------------
