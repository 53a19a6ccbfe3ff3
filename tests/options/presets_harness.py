"""Runs train.py of the tree that is first on the path once for each JSON list of arguments on stdin, in one process; prints a
JSON line [exit code, output] for each."""

import json
import os
import sys

sys.path.insert(0, os.getcwd())
sys.argv[0] = 'train.py'

from click.testing import CliRunner  # noqa: E402

import spider_plugin.hosts.hook  # noqa: E402, F401
import train  # noqa: E402, I001

for line in sys.stdin:
    result = CliRunner().invoke(train.main, json.loads(line), terminal_width=200)
    print(json.dumps([result.exit_code, result.output + (repr(result.exception) if result.exit_code == 1 else '')]), flush=True)
