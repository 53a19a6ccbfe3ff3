"""Fuzzes the reader of checkpoints: python fuzz/checkpoint_reader.py [CORPUS] [-max_total_time=1800]   (needs atheris)

A byte string is recognised as every door does it, and read as `spider import` reads a checkpoint of torch, up to the place where
a class of this machine would be built. safetensors is left out: its package is not Python."""

import io
import sys

import atheris
import torch
from harness import FOLDER, ROOT, fuzz

with atheris.instrument_imports(include=['spider_plugin.snapshots', 'spider_plugin.files']):
    from spider_plugin.files import recognise
    from spider_plugin.snapshots import checkpoints, foreign_networks
from spider_plugin.errors import SpiderError

PATH = FOLDER / 'fuzzed.pt'

def read(data):
    PATH.write_bytes(data)
    kind = recognise.recognise(PATH)
    if kind is None or kind.name != 'safetensors':
        foreign_networks.find_networks(checkpoints.read_checkpoint(PATH)[0], PATH)

def seeds():
    """Checkpoints of a small network in both formats, and short files of other kinds."""
    sys.path.insert(0, str(ROOT / 'tests' / 'snapshots'))
    import sequential_stylegan2 as small
    small.WIDTHS.update(dict.fromkeys(small.WIDTHS, 2))
    G, D = small.generator_state(16, 4, 2), small.discriminator_state(16)
    for contents in (G, dict(g=G, d=D, g_ema=G, latent_avg=torch.ones(4), step=5), torch.nn.Linear(2, 2), dict(GAN=D)):
        for new in (True, False):
            buffer = io.BytesIO()
            torch.save(contents, buffer, _use_new_zipfile_serialization=new)
            yield buffer.getvalue()
    yield from (b'<html>', b'{"error": "x"}', b'version https://git-lfs.github.com/spec/v1\n', b'\x1f\x8b\x08', b'\n')

if __name__ == '__main__':
    fuzz(read, seeds, SpiderError, 'pickle.dict')
