"""Runs a host's script with the hook installed and no file edited: python -m spider_plugin.hosts.run SCRIPT.py [ARGS]...

The script is executed in the globals of this module, which stays `__main__` with its name: a spawned child imports
`__main__` again by that name, finds the script's path in sys.argv, and has the hook and the script's functions too."""

import sys
from pathlib import Path

import spider_plugin

def _enter(argv):
    """Makes sys.argv and sys.path what `python SCRIPT.py ARGS` would make them; returns the script's path."""
    sys.argv = [str(Path(argv[0]).absolute()), *argv[1:]]
    script, package = Path(sys.argv[0]), str(Path(spider_plugin.__file__).resolve().parent.parent)
    if sys.path[0] != str(script.parent): # The first entry is the working directory, which -m has put there.
        sys.path[0] = str(script.parent)
    if package not in sys.path:
        sys.path.append(package)
    return script

if __name__ == '__main__':
    if len(sys.argv) < 2 or not Path(sys.argv[1]).is_file():
        print(f'Error: {" ".join(sys.argv[1:2]) or "no script"} does not exist; '
              'usage: python -m spider_plugin.hosts.run SCRIPT.py [ARGS]...', file=sys.stderr)
        sys.exit(2)
    del sys.argv[0]

if __name__ in ('__main__', '__mp_main__'):
    import spider_plugin.hosts.hook
    __file__, __package__ = str(_enter(sys.argv)), None
    exec(compile(Path(__file__).read_bytes(), __file__, 'exec'))
