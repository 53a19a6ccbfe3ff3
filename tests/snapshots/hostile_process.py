"""A process that opens hostile pickles: python hostile_process.py FOLDER [control] [networks].

With `control`, Python's unpickler opens the live ones. Otherwise the plugin's reader opens all, under a limit of memory, while an
audit hook records every import, compilation, execution, process and write. Results go to FOLDER/results.json. With `networks`
the pickles are those of hostile_networks.py, of the networks in FOLDER/networks.json, and not those of hostile_pickles.py."""

import copyreg
import json
import pickle
import resource
import sys
from pathlib import Path

import hostile_networks
from hostile_pickles import EXTENSION, cases, generator, sizes, snapshot

#----------------------------------------------------------------------------
# Python's unpickler.

def control(folder, pickles):
    """Return {name: whether the canary appeared} for the live ones."""
    canary, sang = folder / 'canary', {}
    for label, pickled in pickles:
        if 'live' in label:
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

def plugin(folder, pickles):
    """Return {name: {'load', 'export': result, 'events': [...], 'canary': bool, 'mib': growth of the peak of memory}}."""
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
    outcome(load_generator, path), outcome(export, path, out / 'first.pt') # They have their imports.
    for label, pickled in pickles:
        if label.endswith(': whole'):
            path.write_bytes(pickled)
            outcome(load_generator, path)
    if sys.platform == 'linux':
        mapped = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (mapped + (1 << 30),) * 2)
    sys.addaudithook(hook)
    for label, pickled in pickles:
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
    from spider_plugin.snapshots.families import add_host_to_path
    work = Path(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_CPU, (200, 200))     # time of the processor: a busy machine changes nothing
    copyreg.add_extension('io', 'open', EXTENSION)
    add_host_to_path()
    singer = str(work / 'canary')
    live = 'control' in sys.argv
    if 'networks' in sys.argv:
        pickles = hostile_networks.from_file(singer, work / 'networks.json', live)
    else:
        pickles = list(cases(singer).items())
    found = (control if live else plugin)(work, pickles)
    (work / 'results.json').write_text(json.dumps(found))
