"""For `spider doctor`: which scripts of a checkout start, what each of them misses, and which options of the plugin work with
which of its configurations."""

import contextlib
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from spider_plugin.errors import SpiderError, shown
from spider_plugin.hosts.finding import Finding, last_line
from spider_plugin.hosts.line import NotUnderstood

ASKING  = {'click', 'argparse', 'hydra'}    # Packages by which a script answers --help, in place of its work.
OPTIONS = 900                               # Seconds that the table of options may take.

_GUARD = re.compile(rb'^if\s+__name__\s*==', re.MULTILINE)
_SHIM  = re.compile(r'^spider-plugin: shim (\w+): ', re.MULTILINE)

def scripts_of(scripts):
    """Return the Scripts of a checkout's folder that people start, train.py left out; scripts: of read_checkout()."""
    return [script for name, script in scripts.items() if name != 'train.py' and _GUARD.search(script.source)]

def examine_scripts(host, modules):
    """Yield a Finding for each script but train.py: whether it starts with the plugin, or what it misses.

    host: a doctor_checkout.Checkout; modules: {dotted name: Script} of its modules that are Python."""
    for script in scripts_of(host.scripts):
        with contextlib.suppress(OSError):
            yield _examine_script(host, modules, script)

def _examine_script(host, modules, script):
    name = script.name
    try:
        imported = script.imports
    except NotUnderstood as error:
        return Finding('script', f'{name} {shown(error)}', 'it starts under no Python 3; leave it, or correct it')
    missing = sorted(host.missing(modules, [script.path.stem]))
    if missing:
        return Finding('script', f'{name} needs {", ".join(missing)}', f'pip install {" ".join(map(host.pip_name, missing))}')
    if not imported & ASKING:
        return Finding('script', f'{name} has all packages; it was not started, because it may not know --help')
    code, _out, err = host.ask_help(script.path)
    if code is None:
        return Finding('script', f'{name} does not answer --help in time', 'find out what it waits for')
    if code:
        return Finding('script', f'{name} does not start ({shown(last_line(err))})',
                       'correct that; it was started with the shims of the plugin, which do not help')
    shims = sorted(set(_SHIM.findall(err)))
    by = f' by the shims {", ".join(shims)}, so start it by `spider run`, or attach it' if shims else ''
    return Finding('script', f'{name} starts{by}')

#----------------------------------------------------------------------------

def examine_options(root, environment):
    """Yield Findings about the options of the plugin in each configuration of a train.py, by its dry iteration."""
    from spider_plugin.hosts import dry_run
    try:
        if not dry_run.enabled():
            yield Finding('options', 'not tried, because SPIDER_DRY_RUN is off')
            return
    except SpiderError as error:
        yield Finding('options', error.message.split(';')[0], 'set SPIDER_DRY_RUN to off, or leave it out')
        return
    with tempfile.TemporaryDirectory(prefix='spider-options-') as out:
        result = Path(out, 'found.json')
        env = environment | dict(SPIDER_DEVICE='cpu', SPIDER_DRY_RUN='on')
        with open(Path(out, 'log.txt'), 'w+', encoding='utf-8', errors='replace') as log:
            process = subprocess.Popen([sys.executable, '-m', 'spider_plugin.hosts.option_table', str(root), str(result)],
                                       cwd=root, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            try:
                yield from _rows(process, result)
            finally:
                process.kill()
                process.wait()
            if not result.is_file():
                log.seek(0)
                yield Finding('options', f'not tried: {shown(last_line(log.read()).removeprefix("Error: "))}')

def _rows(process, result):
    """Yield a Finding about each option in each configuration as soon as it was tried, while the process goes on."""
    said, ends = set(), time.monotonic() + OPTIONS
    running = True
    while running and time.monotonic() < ends:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0.5)
        running = process.poll() is None
        for row, cells in _read(result).items():
            for column, verdict in cells.items():
                if (row, column) not in said:
                    said.add((row, column))
                    yield _cell(row, column, verdict)
    if running:
        yield Finding('options', f'the others were not tried, because it took more than {OPTIONS} seconds')

def _read(path):
    with contextlib.suppress(OSError, ValueError):
        return json.loads(path.read_text(encoding='utf-8'))
    return {}

def _cell(row, column, verdict):
    kind, _, why = verdict.partition(': ')
    word = dict(yes='works', no='refused').get(kind, 'not known')
    return Finding('options', f'{row}, {column.strip("`")}: {word}' + (f': {shown(why, 300)}' if why else ''))
