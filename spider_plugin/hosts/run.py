"""Runs a host's script with the hook installed and no file edited: python -m spider_plugin.hosts.run SCRIPT.py [ARGS]...

The script is executed in the globals of this module, which stays `__main__` with its name. A spawned child imports `__main__`
again by that name, finds the script's path in the environment, and so has the hook and the script's functions."""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import spider_plugin

_SCRIPT = 'SPIDER_RUN_SCRIPT'
_PARENT = 'SPIDER_RUN_PARENT'   # Process id of the `spider` command that started this process.

def _from_command_line():
    """Return the script of the command line, and change sys.argv to that of `python SCRIPT.py ARGS`."""
    script = Path(sys.argv[1]).absolute() if len(sys.argv) > 1 else Path()
    if not script.is_file():
        print(f'Error: {" ".join(sys.argv[1:2]) or "no script"} does not exist; '
              'usage: python -m spider_plugin.hosts.run SCRIPT.py [ARGS]...', file=sys.stderr)
        sys.exit(2)
    os.environ[_SCRIPT] = str(script)
    del sys.argv[0]
    sys.path[0] = str(script.parent) # It replaces the working directory, which is there because of -m.
    package = str(Path(spider_plugin.__file__).resolve().parent.parent)
    if package not in sys.path:
        sys.path.append(package)

def _end_with_parent():
    """Terminates this process, as a signal would, when the command that started it is gone: it could not pass any on."""
    parent = int(os.environ.pop(_PARENT, 0))
    def watch():
        while os.getppid() == parent:
            time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGTERM)
    if parent and os.name == 'posix':
        threading.Thread(target=watch, daemon=True).start()

if __name__ == '__main__':
    _from_command_line()
    _end_with_parent()

if __name__ in ('__main__', '__mp_main__'):
    import spider_plugin.hosts.hook
    __file__, __package__ = os.environ[_SCRIPT], None   # type: ignore[assignment]
    sys.argv[0] = __file__
    try:
        exec(compile(Path(__file__).read_bytes(), __file__, 'exec'))
    except ModuleNotFoundError as missing:
        from spider_plugin.hosts.trouble import missing_package
        sentence = missing_package(missing, __file__) if __name__ == '__main__' else None
        if sentence is None:
            raise
        print(f'Error: {sentence}', file=sys.stderr)
        sys.exit(2)
