"""Fuzzes the reader of pickles: python fuzz/pickle_reader.py [CORPUS] [-max_total_time=1800]   (needs `pip install atheris`)

A byte string is read as `spider generate`, `export` and --resume read a snapshot, up to the place where a class of this machine
would be built."""

import runpy
import sys

import atheris
from harness import FOLDER, ROOT, fuzz

with atheris.instrument_imports(include=['spider_plugin.snapshots']):
    from spider_plugin.snapshots import export, families, lineage, rebuild, records, resume_plan
from spider_plugin.errors import SpiderError

PATH = FOLDER / 'fuzzed.pkl'

#----------------------------------------------------------------------------

def look_at(contents):
    """Do with the contents of a pickle whatever the commands do before they build a network."""
    for record in [value for value in contents.values() if isinstance(value, records.PersistentRecord)]:
        tensors = record.state_dict()
        resume_plan.make_plan('G', tensors, None).line()
        families.network_family(record)
        export._describe(record, PATH)
        try:
            state = rebuild.checked_bank_state(record)
        except ValueError:
            continue
        if state is not None:
            lineage.describe_stages(lineage.cascade_stages(state['identity'], PATH))

def read(pickled):
    PATH.write_bytes(pickled)
    look_at(records.read_pickle(PATH))

def seeds():
    """The hostile pickles of the tests, and a whole small network."""
    sys.path.insert(0, str(ROOT / 'tests' / 'snapshots'))
    pickles = runpy.run_path(str(ROOT / 'tests' / 'snapshots' / 'hostile_pickles.py'))
    whole = {'whole': pickles['snapshot'](pickles['generator'](pickles['sizes']()))}
    return (pickles['cases']('canary') | whole).values()

if __name__ == '__main__':
    fuzz(read, seeds, SpiderError, 'pickle.dict')
