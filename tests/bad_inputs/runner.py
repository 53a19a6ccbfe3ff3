"""Runs commands of the plugin and of the reference host in one process, away from that of the tests: scripts install the hook.

Reads a JSON line {command, args, folder} from stdin, and writes a JSON line {code, stdout, stderr, trace} to the descriptor
that is its argument. `trace` is that of an exception that reached the command line, else an empty text."""

import functools
import importlib
import json
import os
import sys
import traceback

import click
from click.testing import CliRunner

from spider_plugin import cli
from spider_plugin.resources import resource_dir

SCRIPTS = ('train', 'calc_metrics', 'gen_images', 'gen_video', 'style_mixing', 'projector', 'dataset_tool')

@functools.cache
def script(name):
    """Return the click command of a script of the reference host."""
    sys.path.insert(0, str(resource_dir('reference_host')))
    found = [value for value in vars(importlib.import_module(name)).values() if isinstance(value, click.Command)]
    return found[0]

def run(command, args, folder):
    os.chdir(folder)
    command, args = (script(command), args) if command in SCRIPTS else (cli.main, [command, *args])
    result = CliRunner().invoke(command, args)
    failed = result.exc_info is not None and not isinstance(result.exception, SystemExit)
    trace = ''.join(traceback.format_exception(*result.exc_info)) if result.exception is not None and failed else ''
    return dict(code=result.exit_code, stdout=result.stdout, stderr=result.stderr, trace=trace)

def loose_numbers():
    """Return the names of the options of numbers without a least and a most, and of those whose type is click's."""
    commands = {name: script(name) for name in SCRIPTS} | dict(cli.main.commands)
    return [f'{name} {param.opts[0]}' for name, command in commands.items() for param in command.params
            if type(param.type).__module__.startswith('click') and ('int' in param.type.name or 'float' in param.type.name)]

if __name__ == '__main__':
    with open(int(sys.argv[1]), 'w') as answers:
        for line in sys.stdin:
            request = json.loads(line)
            print(json.dumps(run(**request) if request else loose_numbers()), file=answers, flush=True)
