"""The parts that the targets share: where bytes come from, what counts as a find, the corpus, and libFuzzer's options.

A target is a function of bytes. It may return, or end in an allowed error of one printable line; any other error, an event of the
interpreter that runs or opens something else, more than 512 MiB or ten seconds is a find, which libFuzzer writes to a file."""

import contextlib
import encodings
import importlib
import os
import pkgutil
import resource
import sys
import tempfile
import warnings
from pathlib import Path

import atheris

ROOT   = Path(__file__).resolve().parents[1]
FOLDER = Path(tempfile.mkdtemp(prefix='fuzz-', dir='/dev/shm' if Path('/dev/shm').is_dir() else None))
sys.path[:0] = [str(ROOT), str(ROOT / 'reference_host')]
os.environ.update(SPIDER_CACHE_DIR=str(FOLDER / 'cache'), DNNLIB_CACHE_DIR=str(FOLDER / 'cache'))    # of what was checked

MAX_BYTES  = 1 << 16    # of an input
MAX_MEMORY = 512 << 10  # KiB that a run may add to the peak of the process
IMPORTS    = ('exec', 'compile', 'import', 'marshal.', 'open')    # the events of an import
FORBIDDEN  = ('exec', 'compile', 'import', 'os.exec', 'os.fork', 'os.link', 'os.posix_spawn', 'os.putenv', 'os.spawn',
              'os.symlink', 'os.system', 'subprocess.', 'socket.', 'ctypes.', 'pickle.', 'marshal.', 'code.',
              'urllib.', 'webbrowser.')

watching, happened, expected = False, [], ()

def _hook(event, args):
    outside = event == 'open' and not isinstance(args[0], int) and not str(args[0]).startswith(str(FOLDER))
    if watching and (event.startswith(FORBIDDEN) or outside) and not event.startswith(expected):
        happened.append(f'{event} {args[:1]}')

def _peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

def check_message(error):
    """Raise AssertionError unless the message is a line for a terminal."""
    message = getattr(error, 'message', str(error))
    assert message.isprintable() and len(message) <= 2000, message

def run(target, data, allowed):
    """Call target(data). Raises what is a find: an error that is not allowed, a message of several lines, an event, memory."""
    global watching
    before, watching = _peak(), True
    try:
        target(data)
    except allowed as error:
        check_message(error)
    finally:
        watching = False
    if happened:
        raise RuntimeError(f'these bytes caused {happened}')
    if _peak() - before > MAX_MEMORY:
        raise MemoryError(f'{_peak() - before} KiB')

def fuzz(target, seeds, allowed, dictionary=None, imports=False):
    """Run a target from the command line.

    seeds:      () -> bytes of the corpus to start from, where its folder does not exist.
    allowed:    classes of errors that a target may end in.
    dictionary: name of a file here for libFuzzer.
    imports:    whether a target may import modules of this machine, which are looked up in tables."""
    global expected
    expected = IMPORTS if imports else ()
    for codec in pkgutil.iter_modules(encodings.__path__):      # which are imported when they are needed
        with contextlib.suppress(ImportError):  # of another system
            importlib.import_module(f'encodings.{codec.name}')
    warnings.simplefilter('ignore')
    options = [argument for argument in sys.argv[1:] if argument.startswith('-')]
    corpus = Path(next((argument for argument in sys.argv[1:] if not argument.startswith('-')), FOLDER / 'corpus'))
    if not corpus.is_dir():
        corpus.mkdir(parents=True)
        for number, seed in enumerate(seed for seed in seeds() if len(seed) <= MAX_BYTES):
            (corpus / f'seed{number:03d}').write_bytes(seed)
    for seed in sorted(corpus.iterdir())[:1000]:    # so that modules that are imported when they are needed are there
        run(target, seed.read_bytes(), allowed)
    sys.addaudithook(_hook)
    defaults = [f'-max_len={MAX_BYTES}', '-timeout=10', '-rss_limit_mb=2048', '-keep_seed=1']
    defaults += [f'-dict={Path(__file__).with_name(dictionary)}'] if dictionary else []
    atheris.Setup([sys.argv[0], *defaults, *options, str(corpus)], lambda data: run(target, data, allowed))
    atheris.Fuzz()
