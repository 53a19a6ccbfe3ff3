"""Fuzzes the reader of pickles: python fuzz/pickle_reader.py [CORPUS] [-max_total_time=1800]   (needs `pip install atheris`)

A byte string is read as `spider generate`, `export` and --resume read a snapshot, up to the place where a class of this machine
would be built. It may end in a SpiderError of one line; any other error, any event of the interpreter that runs or opens
something, more than 512 MiB or ten seconds is a find, which libFuzzer writes to a file."""

import runpy
import sys
import tempfile
from pathlib import Path

import atheris

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

with atheris.instrument_imports(include=['spider_plugin.snapshots']):
    from spider_plugin.snapshots import export, families, lineage, rebuild, records, resume_plan
from spider_plugin.errors import SpiderError  # noqa: E402

MAX_BYTES = 1 << 16
FORBIDDEN = ('exec', 'compile', 'import', 'os.', 'subprocess.', 'socket.', 'ctypes.', 'pickle.', 'marshal.', 'code.', 'shutil.',
             'urllib.', 'webbrowser.')

watching, happened = False, []

def hook(event, args):
    if watching and (event.startswith(FORBIDDEN) or event == 'open' and args[0] != str(path)):
        happened.append(f'{event} {args[:1]}')

path = Path(tempfile.mkdtemp(prefix='fuzz-', dir='/dev/shm' if Path('/dev/shm').is_dir() else None), 'fuzzed.pkl')

#----------------------------------------------------------------------------

def look_at(contents):
    """Do with the contents of a pickle whatever the commands do before they build a network."""
    for record in [value for value in contents.values() if isinstance(value, records.PersistentRecord)]:
        tensors = record.state_dict()
        resume_plan.make_plan('G', tensors, None).line()
        families.network_family(record)
        export._describe(record, path)
        try:
            state = rebuild.checked_bank_state(record)
        except ValueError:
            continue
        if state is not None:
            lineage.describe_stages(lineage.cascade_stages(state['identity'], path))

def fuzz_one(pickled):
    global watching
    path.write_bytes(pickled)
    watching = True
    try:
        look_at(records.read_pickle(path))
    except SpiderError as error:
        assert error.message.isprintable() and len(error.message) <= 2000, error.message
    finally:
        watching = False
    if happened:
        raise RuntimeError(f'a pickle caused {happened}')

def write_seeds(folder):
    """Write the hostile pickles of the tests, and a whole small network, as the corpus to start from."""
    folder.mkdir(parents=True, exist_ok=True)
    sys.path.insert(0, str(ROOT / 'tests' / 'snapshots'))
    pickles = runpy.run_path(str(ROOT / 'tests' / 'snapshots' / 'hostile_pickles.py'))
    whole = {'whole': pickles['snapshot'](pickles['generator'](pickles['sizes']()))}
    for number, pickled in enumerate((pickles['cases']('canary') | whole).values()):
        if len(pickled) <= MAX_BYTES:
            (folder / f'seed{number:03d}').write_bytes(pickled)

if __name__ == '__main__':
    options = [argument for argument in sys.argv[1:] if argument.startswith('-')]
    corpus = Path(next((argument for argument in sys.argv[1:] if not argument.startswith('-')), path.parent / 'corpus'))
    if not corpus.is_dir():
        write_seeds(corpus)
    for seed in sorted(corpus.iterdir())[:1000]:    # so that modules that are imported when they are needed are there
        fuzz_one(seed.read_bytes())
    sys.addaudithook(hook)
    defaults = [f'-max_len={MAX_BYTES}', '-timeout=10', '-rss_limit_mb=1024', f'-dict={ROOT / "fuzz" / "pickle.dict"}']
    atheris.Setup([sys.argv[0], *defaults, *options, str(corpus)], fuzz_one)
    atheris.Fuzz()
