"""Folders of runs as hosts write them: the reference host, stylegan3, projected-gan."""

import json

import numpy as np
import PIL.Image
import pytest

def grid(path, columns=4, rows=2, side=16, shade=128):
    """Write a grid whose cell i has the grey value shade + i."""
    cells = np.arange(columns * rows).reshape(rows, columns) + shade
    PIL.Image.fromarray(np.repeat(cells.astype(np.uint8), side, axis=0).repeat(side, axis=1)).convert('RGB').save(path)

def stats_line(kimg, time, **values):
    entries = {'Progress/kimg': kimg, 'Loss/G/loss': 1 + kimg, 'Loss/D/loss': 2.0, **values}
    return json.dumps({name: dict(num=1, mean=value, std=0.0) for name, value in entries.items()} | dict(timestamp=time))

OPTIONS = dict(total_kimg=4, training_set_kwargs=dict(resolution=16, use_labels=False), metrics=['fid1k'], detector='demo',
               batch_size=8)
SOURCE  = dict(name='crayon', match='covariance', mapping='residual')

@pytest.fixture
def make_run(tmp_path):
    """make_run(name, kind, scores=, **options) -> folder of a run; kind: 'reference', 'stylegan3' or 'projected-gan'."""
    def make(name, kind='reference', scores=(100, 60, 40), **options):
        folder = tmp_path / name
        folder.mkdir()
        (folder / 'training_options.json').write_text(json.dumps(OPTIONS | options))
        with open(folder / 'stats.jsonl', 'w') as file:
            for tick, _ in enumerate(scores):
                speed = {'Timing/images_per_sec': 10.0} if kind == 'reference' else {'Timing/sec_per_kimg': 50.0}
                file.write(stats_line(2.0 * tick, 1000 + 100 * tick, **speed) + '\n')
        with open(folder / 'metric-fid1k.jsonl', 'w') as file:
            for tick, score in enumerate(scores):
                snapshot = dict(reference=f'network-snapshot-{2000 * tick:09d}.pkl',
                                stylegan3=f'network-snapshot-{2 * tick:06d}.pkl')
                line = dict(results=dict(fid1k=score), metric='fid1k', snapshot_pkl=snapshot.get(kind, 'network-snapshot.pkl'),
                            timestamp=1000 + 100 * tick - 1)
                file.write(json.dumps(line | (dict(cur_nimg=2000 * tick) if kind == 'reference' else {})) + '\n')
                (folder / line['snapshot_pkl']).touch()
        grid(folder / 'reals.png')
        grid(folder / 'fakes_init.png')
        for tick in range(1, len(scores)):
            name = f'fakes{2000 * tick:09d}.png' if kind == 'reference' else f'fakes{2 * tick:06d}.png'
            grid(folder / name, shade=128 + 9 * tick)
        if kind == 'reference':
            (folder / 'launch_options.json').write_text(json.dumps(dict(batch=8, cfg='dcgan')))
        return folder
    return make

@pytest.fixture
def spider_run(make_run):
    """A run of the reference host with a source, and its picture of sources."""
    folder = make_run('00001-dcgan-neon-from-crayon-residual-matched', scores=(50, 45, 38),
                      spider_run=dict(source=SOURCE, resumed=None), batch_size=16)
    grid(folder / 'sources.png', side=8)
    return folder
