"""A cascade of three stages of different families, trained by the commands of a user, with walks at each stage."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
import torch.nn.functional as F

from spider_plugin.errors import SpiderError
from spider_plugin.generate.cascade import Cascade
from spider_plugin.generate.command import generate
from spider_plugin.generate.walks import slerp
from spider_plugin.resources import resource_dir
from spider_plugin.snapshots.lineage import cascade_stages, describe_stages
from spider_plugin.snapshots.rebuild import load_generator
from spider_plugin.sources.prepare import prepare_source

ROOT = Path(__file__).resolve().parents[1]
TINY = ['--gpus=1', '--batch=8', '--gamma=1', '--cbase=256', '--cmax=16', '--tick=0.08', '--snap=1', '--threads=1', '--workers=0',
        '--kimg=0.08', '--aug=noaug']

def pixels(path):
    return np.asarray(PIL.Image.open(path)).astype(int)

#----------------------------------------------------------------------------
# Trained.

def train(outdir, *args):
    script = resource_dir('reference_host') / 'train.py'
    done = subprocess.run([sys.executable, '-m', 'spider_plugin.hosts.run', script, *TINY, f'--outdir={outdir}', *args],
                          env=dict(os.environ, PYTHONPATH=str(ROOT)), text=True, capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr
    run_dir, = outdir.iterdir()
    stats = [json.loads(line) for line in (run_dir / 'stats.jsonl').read_text().splitlines()]
    losses = [stats[-1][name]['mean'] for name in stats[-1] if name.startswith('Loss/') and stats[-1][name]['num']]
    assert losses and np.isfinite(losses).all()
    return str(sorted(run_dir.glob('network-snapshot-*.pkl'))[-1]), done.stdout, stats

@pytest.mark.slow
def test_three_stages_of_three_families_train_and_generate(make_zip, tmp_path):
    """DCGAN from noise, StyleGAN2 as its residual and with recomputed blocks, StyleGAN3-T by the paper's mapping."""
    data = f'--data={make_zip(tmp_path / "data.zip", n=40, res=16)}'
    first, _, _ = train(tmp_path / '1', '--cfg=dcgan', data)
    second, printed, stats = train(tmp_path / '2', '--cfg=stylegan2', '--map-depth=2', data, f'--spider-source={first}',
                                   '--spider-bank=1k', '--spider-embed=1', '--recompute')
    assert re.search(r'Spider cascade: +this generator <- \S+ <- noise', printed) and '1000 images rendered' in printed
    assert re.search(r'Recompute: +\d blocks of G and 3 of D', printed)
    share = stats[-1]['Spider/source_share']
    assert share['num'] > 0 and 0 < share['mean'] < 1 and printed.count('of a training step') == 1
    third, printed, _ = train(tmp_path / '3', '--cfg=stylegan3-t', data, f'--spider-source={second}', '--spider-bank=64',
                              '--spider-mapping=paper-23x23')
    assert re.search(r'Spider cascade: +this generator <- \S+ <- \S+ <- noise', printed)
    G = load_generator(third)
    assert len(cascade_stages(G.source.identity, third)) == 2
    files = generate(third, [0, 1, 2], tmp_path / 'out', stages=True, walk='w', stage=1, frames=2)
    assert [path.name for path in files[-2:]] == ['stages.png', 'walk-w.gif'] and PIL.Image.open(files[-1]).n_frames == 6

@pytest.mark.slow
@pytest.mark.parametrize('cfg', ['stylegan3-t', 'stylegan3-r'])
def test_stylegan3_learns_with_the_papers_mapping(cfg, make_zip, tmp_path):
    from spider_plugin.snapshots.records import generator_record
    data, source = (make_zip(tmp_path / f'{name}.zip', n=40, res=16, seed=i) for i, name in enumerate(('data', 'source')))
    options = [f'--cfg={cfg}', f'--data={data}', f'--spider-source={source}', '--spider-mapping=paper-16x32']
    runs = (train(tmp_path / f'{glr}', *options, f'--glr={glr}')[0] for glr in (0, 0.0025))
    before, after = (generator_record(path, 'G').state_dict() for path in runs)
    still = {name for name in after if torch.equal(before[name], after[name])}
    constants = ('filter', 'freqs', 'phases', 'transform')
    assert all(name.endswith(constants) for name in still), still

#----------------------------------------------------------------------------
# It is untrained, which suffices for walks.

@pytest.fixture(scope='module')
def cascade(make_snapshot):
    first = make_snapshot(dcgan=True, res=32)
    second = make_snapshot(spider=dict(mapping='residual', source=prepare_source(first, bank=50).path, embed=1), res=32)
    third = make_snapshot(spider=dict(mapping='paper-23x23', source=prepare_source(second, bank=50).path, embed=1), z_dim=512)
    return [first, second, third]

def test_a_seed_is_traced_to_the_first_latent(cascade):
    opened = Cascade(cascade[2], torch.device('cpu'))
    z = torch.randn([4, 512])
    stages = opened.trace(z, torch.zeros([4, 0]))
    assert [stage.number for stage in stages] == [1, 2, 3] and stages[0].image is None
    for before, after in zip(stages, stages[1:]):   # a stage's image is the next one's source, to 8 bits
        drawn = before.G(before.z, before.c, noise_mode='const').clamp(-1, 1)
        assert (F.interpolate(drawn, size=after.image.shape[-2:], mode='area') - after.image).abs().max() < 0.02
    assert describe_stages(cascade_stages(opened.last.source.identity, '')).endswith('<- noise')

def test_a_walk_starts_at_the_first_seed(cascade, tmp_path):
    """A walk at every stage starts at the first seed. A later stage gets the earlier one's image, not the bank's, hence 3."""
    for stage, kind in ((1, 'w'), (1, 'latent'), (2, 'w'), (2, 'latent'), (2, 'source'), (3, 'source'), (3, 'w'), (3, 'both')):
        *files, walk = generate(cascade[2], [0, 1], tmp_path, walk=kind, stage=stage, frames=3, walk_out='walk.png')
        rows = pixels(walk)
        assert rows.shape == (2 * 16, 3 * 16, 3)
        frames = [rows[:16, i * 16 : (i + 1) * 16] for i in range(3)]
        assert np.abs(frames[0] - pixels(files[0])).max() <= 3, (stage, kind)
        assert (frames[1] != frames[0]).any() and (frames[2] != frames[1]).any(), (stage, kind)

def test_a_walk_of_sources_ends_at_the_image_of_the_second_seed(cascade, tmp_path):
    """With the paper's mapping the output depends only on the source image."""
    first, second, walk = generate(cascade[2], [0, 1], tmp_path, walk='source', frames=2, walk_out='walk.png')
    assert np.abs(pixels(walk)[16:, :16] - pixels(second)).max() <= 1

def test_stage_pictures(cascade, tmp_path):
    picture = pixels(generate(cascade[2], [0, 1, 2], tmp_path, stages=True)[-1])
    # three stages; w at 1, w and source at 2 and 3: eight rows of squares of 64 pixels
    assert picture.shape[0] == 8 * 64 and picture.shape[1] > 3 * 64 and len(np.unique(picture.reshape(-1, 3), axis=0)) > 100

@pytest.mark.parametrize('name', ['walk.mp4', 'walk.gif', 'walk.png'])
def test_files_of_walks(cascade, tmp_path, name):
    if name.endswith('mp4'):
        pytest.importorskip('imageio_ffmpeg')
    assert generate(cascade[1], [0, 1], tmp_path, walk=name, frames=2)[-1].stat().st_size > 100

def test_latents_walk_on_a_sphere():
    a, b = torch.randn([2, 1, 512])
    assert torch.allclose(slerp(a, b, 0.0), a, atol=1e-5) and torch.allclose(slerp(a, b, 1.0), b, atol=1e-5)
    middle = slerp(a, b, 0.5)
    assert abs(float(middle.norm()) - float(a.norm() + b.norm()) / 2) < 1e-3
    assert torch.allclose(slerp(a, a, 0.5), a)

#----------------------------------------------------------------------------

@pytest.mark.parametrize('kwargs, words', [
    (dict(walk='sideways'), '--walk=sideways is neither'),
    (dict(walk='w', walk_out='a.avi'), '--walk-out=a.avi does not end in one of'),
    (dict(walk='a.gif', walk_out='b.gif'), 'both name a file'),
    (dict(walk_out='a.gif'), '--walk-out has no effect without --walk'),
    (dict(stage=1), '--stage has no effect without --walk'),
    (dict(walk='w', stage=4), '--stage=4: .* last of 3 stages'),
    (dict(walk='source', stage=1), 'stage 1 draws from noise'),
    (dict(walk='latent'), '--walk=latent moves nothing at stage 3'),
    (dict(stages=True, seeds=[0]), '--stages goes from seed to seed'),
    (dict(walk='w', parents=['nowhere.pkl']), '--parent=nowhere.pkl does not exist'),
])
def test_refused(cascade, tmp_path, kwargs, words):
    with pytest.raises(SpiderError, match=words):
        generate(cascade[2], **(dict(seeds=[0, 1], outdir=tmp_path / 'out') | kwargs))
    assert not (tmp_path / 'out').exists()
