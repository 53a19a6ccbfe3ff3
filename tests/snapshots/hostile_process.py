"""A process that opens hostile pickles: python hostile_process.py FOLDER [control].

With `control`, Python's own reader opens the live ones. Else our reader opens all, under a limit of memory, while an audit hook
notes what the interpreter is asked to import, compile, run, start or write. Results go to FOLDER/results.json."""

import copyreg
import json
import pickle
import resource
import sys
from pathlib import Path

from hostile_pickles import EXTENSION, cases, generator, sizes, snapshot

#----------------------------------------------------------------------------
# Python's own reader.

def control(folder):
    """{name: whether the canary appeared} for the live ones."""
    from spider_plugin.snapshots.families import add_host_to_path
    add_host_to_path()
    canary, sang = folder / 'canary', {}
    for label, pickled in cases(str(canary)).items():
        if label.startswith('live'):
            try:
                pickle.loads(pickled)
            except Exception: # What comes after the call is no concern of the call.
                pass
            sang[label] = canary.exists()
            canary.unlink(missing_ok=True)
    return sang

#----------------------------------------------------------------------------
# Ours.

WATCHED = ('exec', 'compile', 'import', 'os.', 'subprocess.', 'socket.', 'ctypes.', 'pickle.', 'marshal.', 'code.', 'function.',
           'shutil.', 'urllib.', 'webbrowser.', 'sys.addaudithook')
HARMLESS = ('os.mkdir', 'os.rename', 'os.chmod', 'os.remove') # atomic_file's, in FOLDER/out

def ours(folder):
    """{name: {'load', 'export': what came of it, 'events': [...], 'canary': bool, 'mib': growth of the memory's peak}}."""
    from spider_plugin.errors import SpiderError
    from spider_plugin.snapshots.export import export
    from spider_plugin.snapshots.rebuild import load_generator

    def outcome(function, *args):
        try:
            return f'returned {type(function(*args)).__name__}'
        except SpiderError as error:
            return f'SpiderError {error.exit_code}: {error.message}'
        except BaseException as error:
            return f'{type(error).__name__}: {error}'

    events, results, path, out, armed = [], {}, folder / 'evil.pkl', folder / 'out', False

    def hook(event, args):
        if armed and (event.startswith(WATCHED) and event not in HARMLESS or event == 'open' and writes(args)):
            events.append(f'{event} {args[:1]}')

    def writes(args):
        flags = args[2] if isinstance(args[2], int) else 0
        return flags & 3 and not str(args[0]).startswith(str(out))

    path.write_bytes(snapshot(generator(sizes())))
    outcome(load_generator, path), outcome(export, path, out / 'first.pt') # They import what they need.
    if sys.platform == 'linux':
        mapped = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (mapped + (1 << 30),) * 2)
    sys.addaudithook(hook)
    for label, pickled in cases(str(folder / 'canary')).items():
        path.write_bytes(pickled)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        armed = True
        load, exported = outcome(load_generator, path), outcome(export, path, out / 'evil.pt')
        armed = False
        growth = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / (1 << 10 if sys.platform == 'linux' else 1 << 20)
        results[label] = dict(load=load, export=exported, events=events[:], canary=(folder / 'canary').exists(), mib=growth)
        events.clear()
    return results

if __name__ == '__main__':
    work = Path(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_CPU, (200, 200))     # time of the processor: a busy machine changes nothing
    copyreg.add_extension('io', 'open', EXTENSION)
    found = control(work) if 'control' in sys.argv else ours(work)
    (work / 'results.json').write_text(json.dumps(found))
