"""Fuzzes prepared sources: python fuzz/bank_json.py [CORPUS] [-max_total_time=1800]   (needs `pip install atheris`)

The first byte says which file of a prepared source the rest is: bank.json, images.npy, generator.json, or the cache's note of
where a parent is. The source is opened and drawn from, as in a rank."""

import json

import atheris
from harness import FOLDER, fuzz

with atheris.instrument_imports(include=['spider_plugin.portable.source.bank', 'spider_plugin.snapshots', 'spider_plugin.sources',
                                         'numpy.lib._format_impl']):
    from spider_plugin.portable.source.bank import SourceLost, open_source
    from spider_plugin.snapshots import families, lineage
    from spider_plugin.sources import parents
import os

import numpy as np
import torch

from spider_plugin.errors import SpiderError

SHA256  = '0' * 64
BANK, ONLINE = FOLDER / 'bank', FOLDER / 'online'
GENERATOR = 'training.networks_stylegan2.Generator'
SPIDER    = 'spider_plugin.bundles.spider_on_training__networks_stylegan2.SpiderGenerator'
IDENTITY  = dict(name='x', sha256=SHA256, transform='none', licence='none')
SIZES     = dict(z_dim=4, c_dim=2, w_dim=4, img_resolution=8, img_channels=3, channel_base=64, channel_max=8,
                 mapping_kwargs=dict(num_layers=1))
WITH_SOURCE = dict(SIZES, spider=dict(mapping='residual', source='elsewhere'))

FILES = {b'b': BANK / 'bank.json', b'n': BANK / 'images.npy', b'g': ONLINE / 'generator.json',
         b's': ONLINE / 'source' / 'bank.json', b'p': FOLDER / 'cache' / 'parents' / f'{SHA256}.json'}
whole = {}      # path: content of each file

#----------------------------------------------------------------------------

def make():
    """Write a bank, and a generator with a source that is run for every batch."""
    os.environ['SPIDER_CACHE_DIR'] = str(FOLDER / 'cache')
    families.add_host_to_path()
    for folder in (BANK, ONLINE, ONLINE / 'source'):
        folder.mkdir()
        np.save(folder / 'images.npy', np.zeros([6, 3, 8, 8], dtype=np.uint8))
        (folder / 'bank.json').write_text(json.dumps(dict(format=1, identity=IDENTITY, labels=[0, 1, 2] * 2)))
    network = families.class_named(SPIDER)(**dict(SIZES, spider=dict(mapping='residual', source=str(ONLINE / 'source'))))
    torch.save(network.state_dict(), ONLINE / 'weights.pt')
    info = dict(format=1, identity=IDENTITY, class_name=SPIDER, init_kwargs=WITH_SOURCE, z_dim=4, c_dim=2)
    FILES[b'g'].write_text(json.dumps(info))
    FILES[b'p'].parent.mkdir(parents=True)
    FILES[b'p'].write_text(json.dumps(dict(path='/nowhere/x.pkl')))
    whole.update((path, path.read_bytes()) for path in FILES.values())

def read(data):
    path = FILES.get(data[:1], FILES[b'b'])
    path.write_bytes(data[1:])
    try:
        look_at(path)
    finally:
        path.write_bytes(whole[path])

def look_at(path):
    if path == FILES[b'p']:
        parents.remember_parent('/nowhere/y.pkl', SHA256)
        return parents.find_parent(IDENTITY, FOLDER / 'x.pkl')
    source = open_source(str(ONLINE if ONLINE in path.parents else BANK))
    lineage.describe_stages(lineage.cascade_stages(source.identity, path))
    z, c = torch.zeros([2, 4]), torch.eye(3)[:2]
    assert source.sample(z, c).shape[0] == 2 and repr(source)

def seeds():
    yield from (first + whole[path] for first, path in FILES.items())
    plain = dict(json.loads(whole[FILES[b'g']]), class_name=GENERATOR, init_kwargs=SIZES)
    yield b'g' + json.dumps(plain).encode()
    cascade = dict(IDENTITY, latents=10, source=dict(IDENTITY, latents=5, source=IDENTITY))
    yield b'b' + json.dumps(dict(format=1, identity=cascade, labels=None)).encode()

if __name__ == '__main__':
    make()
    fuzz(read, lambda: list(seeds()), (SpiderError, SourceLost), 'bank.dict', imports=True)
