"""A process that opens hostile pickles by the functions that commands read one with: hostile_doors.py FOLDER PART PARTS [all]

Of the pickles of hostile_corpus.py it takes each PARTS-th, from PART on. With `all` each goes through every door; without,
through those that between them do all that the others do. An audit hook records every import, execution, process and write;
memory has a limit, and so has the time of the processor for each. Results go to FOLDER/results.json."""

import json
import os
import resource
import signal
import sys
import threading
import time
from pathlib import Path

import hostile_corpus
from hostile_process import HARMLESS, WATCHED

SECONDS = 10
IN_CACHE = ('os.scandir', 'os.listdir', 'shutil.rmtree')     # a bank that goes on is looked for in the cache, and written there
NPY     = b"{'descr': '|u1', "      # numpy parses the header of an array that the plugin wrote
FEW     = ('generate', 'export', '--resume', '--resume, source', 'metrics, data')
ONE     = ('export',)   # for those that take a second to be refused, which every door's reading does
WARM    = ('networks: mapping no_such_option', 'networks: stylegan3 num_layers', 'folders: of a generator source',
           'banks: forty stages', 'texts: escapes as a transform', 'texts: escapes as a name')

class Endless(BaseException):
    """The time of one pickle in one door is over. No `except Exception` holds it up."""

def doors(folder):
    """{name: function of a path}: what the commands call. Those of training, metrics and the others are in the reference host."""
    from spider_plugin.neighbors.features import open_set
    from spider_plugin.options.resume import describe, fed_from, generator_of
    from spider_plugin.snapshots import export, host_door, lineage, rebuild, records, resume_plan
    from spider_plugin.sources.continued import continue_source
    from spider_plugin.sources.prepare import prepare_source
    from spider_plugin.weights import _read

    def resume(path):
        spider, bank = fed_from(generator_of(records.read_pickle(path)), path)
        if bank is not None:
            assert len(describe(bank['identity'])) < 10_000
            continue_source(bank, spider.source, path)

    def plan(path):
        contents = records.read_pickle(path)
        states = [value.state_dict() for value in contents.values() if hasattr(value, 'state_dict')]
        return [resume_plan.make_plan('G', state, None).line() for state in states]

    def draw(path):
        from spider_plugin.generate.command import generate
        return generate(path, [0, 1], folder / 'out', trunc=0.5, stages=True)

    def cascade(path):
        generator = rebuild.load_generator(path)
        return lineage.cascade_stages(generator.source.identity, path) if getattr(generator, 'source', None) else None

    like = type('Like', (), dict(resolution=16, channels=3, num_images=100))
    return {
        'generate':         draw,
        'export':           lambda path: export.export(path, folder / 'out' / 'evil.pt'),
        '--spider-source':  lambda path: prepare_source(path, size=16, bank=4),
        'neighbors':        lambda path: open_set(path, max_images=100, like=like),
        'metrics':          host_door.load_generator,
        'metrics, data':    host_door.read_training_set,
        '--resume':         host_door.read_networks,
        '--resume, plan':   plan,
        '--resume, source': resume,
        '--disc-backbone':  lambda path: _read(path, 'x'),
        'cascade':          cascade,
    }

def outcome(function, path):
    """What a person would see: 'returned', or the kind of the error and its sentence."""
    from spider_plugin.errors import SpiderError
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        function(str(path))
        return 'returned'
    except SpiderError as error:
        return f'SpiderError: {error.message}'
    except Endless:
        return 'endless'
    except BaseException as error:
        return f'{type(error).__name__}: {ascii(str(error))[:300]}'
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)

class Peak(threading.Thread):
    """The most MiB that this process has had mapped in memory since the last reset."""

    def __init__(self):
        super().__init__(daemon=True)
        self.most = 0

    def now(self):
        return int(Path('/proc/self/statm').read_text().split()[1]) * resource.getpagesize() >> 20

    def run(self):
        while True:
            self.most = max(self.most, self.now())
            time.sleep(0.005)

def main(folder, part, parts, every):
    from spider_plugin.snapshots.families import add_host_to_path
    add_host_to_path()
    os.chdir(folder)
    (folder / hostile_corpus.FOLDER).mkdir()
    call = dict(class_name='os.system', init_kwargs=dict(command=f'echo > {folder / "canary"}'))
    (folder / hostile_corpus.FOLDER / 'generator.json').write_text(json.dumps(call))
    pickles = list(hostile_corpus.corpus(str(folder / 'canary')).items())
    found, path, events, armed = doors(folder), folder / 'evil.pkl', [], False
    (folder / 'out').mkdir()

    def in_cache(args):
        return str(args[0]).startswith(str(folder / 'out'))

    def writes(args):
        flags = args[2] if isinstance(args[2], int) else 0
        return flags & 3 and not in_cache(args)

    def harmless(event, args):
        header = event == 'compile' and isinstance(args[0], bytes) and args[0].startswith(NPY)
        return event in HARMLESS or header or event in IN_CACHE and in_cache(args)

    def hook(event, args):
        if armed and (event.startswith(WATCHED) and not harmless(event, args) or event == 'open' and writes(args)):
            events.append(f'{event} {ascii(args[:1])[:200]}')

    def stop(*_):
        raise Endless
    signal.signal(signal.SIGPROF, stop)
    '\x1b'.encode('unicode_escape')     # and with WARM, all imports that known classes and sentences need
    for label in WARM:
        path.write_bytes(dict(pickles)[label])
        for function in found.values():
            outcome(function, path)
    if sys.platform == 'linux':
        mapped = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (mapped + (1 << 30),) * 2)
    sys.addaudithook(hook)
    peak, results = Peak(), {}
    peak.start()
    for label, pickled in pickles[part::parts]:
        path.write_bytes(pickled)
        peak.most = before = peak.now()
        armed, slow = True, label.startswith(('memory: ', 'plain: '))
        outcomes = {door: outcome(found[door], path) for door in (found if every else ONE if slow else FEW)}
        armed = False
        results[label] = dict(outcomes=outcomes, events=events[:], canary=(folder / 'canary').exists(), mib=peak.most - before)
        events.clear()
    (folder / 'results.json').write_text(json.dumps(results))

if __name__ == '__main__':
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), 'all' in sys.argv)
