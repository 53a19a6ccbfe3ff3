"""The plugin's tools as functions of the path of a snapshot: what all of them refuse is tried at each."""

import types
from pathlib import Path

from spider_plugin.generate.command import generate
from spider_plugin.hosts.plain_resume import read_resumed
from spider_plugin.neighbors.features import open_set
from spider_plugin.snapshots.export import export
from spider_plugin.snapshots.rebuild import load_generator
from spider_plugin.sources.prepare import prepare_source

LIKE    = types.SimpleNamespace(channels=3, resolution=16, num_images=8)
READERS = {
    'load':      load_generator,
    'trust':     lambda path: load_generator(path, trust=True),
    'source':    lambda path: prepare_source(path, bank=8),
    'online':    lambda path: prepare_source(path, bank='online'),
    'neighbors': lambda path: open_set(path, max_images=200, like=LIKE),
    'generate':  lambda path: generate(path, [0], Path(path).parent / 'out'),
    'export':    lambda path: export(path, Path(path).parent / 'x.pt'),
    'host':      lambda path: read_resumed(dict(resume_pkl=path)),
}
