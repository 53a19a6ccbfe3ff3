"""In an environment with the plugin, a process that does not attach imports nothing of it."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

def test_a_process_that_does_not_attach_imports_nothing_of_the_plugin(tmp_path):
    code = ('import sys, click, torch, numpy; '
            'print([name for name in sys.modules if name.startswith(("spider_plugin", "torch_utils_ext"))], '
            'click.core.Command.__init__.__module__, len(sys.meta_path))')
    run = lambda **env: subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True, cwd=tmp_path,
                                       env=env).stdout
    with_plugin = run(PYTHONPATH=str(ROOT))
    assert with_plugin == run() and with_plugin.startswith('[] click.core')
