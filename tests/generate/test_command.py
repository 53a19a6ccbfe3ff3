"""Images, sources, grids and walks from snapshots."""

import numpy as np
import PIL.Image
import pytest
import torch

from spider_plugin.errors import SpiderError
from spider_plugin.generate.command import generate
from spider_plugin.snapshots.rebuild import load_generator
from spider_plugin.sources.prepare import prepare_source

@pytest.fixture(scope='module', params=['stylegan2', 'dcgan'])
def spider_snapshot(request, make_snapshot):
    source = prepare_source('shapes', size=16, bank=30)
    return make_snapshot(spider=dict(mapping='residual', source=source.path, embed=1), dcgan=request.param == 'dcgan')

def pixels(path):
    return np.asarray(PIL.Image.open(path))

def expected(path, seed, **kwargs):
    G = load_generator(path)
    z = torch.from_numpy(np.random.RandomState(seed).randn(1, G.z_dim))
    with torch.no_grad():
        return (G(z, torch.zeros([1, G.c_dim]), noise_mode='const', **kwargs) * 127.5 + 128).clamp(0, 255).to(torch.uint8)

#----------------------------------------------------------------------------

def test_images_are_those_of_the_seeds(make_snapshot, tmp_path):
    path = make_snapshot()
    files = generate(path, [0, 7], tmp_path / 'new' / 'out', trunc=0.5)
    assert [file.name for file in files] == ['seed0000.png', 'seed0007.png']
    for file, seed in zip(files, [0, 7]):
        image = expected(path, seed, truncation_psi=0.5)[0].permute(1, 2, 0).numpy()
        assert np.abs(pixels(file).astype(int) - image).max() <= 1
    assert (pixels(files[0]) != pixels(files[1])).any()

def test_grid_grey_and_classes(make_snapshot, tmp_path):
    path = make_snapshot(channels=1, c_dim=2)
    files = generate(path, [0, 1, 2], tmp_path, class_idx=1, grid=True)
    grid = pixels(tmp_path / 'grid.png')
    assert grid.shape == (32, 32) and (grid[16:, 16:] == 0).all()
    assert (grid[:16, 16:] == pixels(files[1])).all()
    other = generate(path, [0], tmp_path / 'other', class_idx=0)
    assert (pixels(other[0]) != pixels(files[0])).any()

def test_a_walk_lands_where_its_file_says(make_snapshot, tmp_path, monkeypatch):
    """--outdir=o2 --walk-out=o2/w.png"""
    monkeypatch.chdir(tmp_path)
    path = make_snapshot()
    assert generate(path, [0, 1], 'o2', walk='w', walk_out='o2/w.png', frames=2)[-1].samefile(tmp_path / 'o2' / 'w.png')
    assert generate(path, [0, 1], 'o2', walk='other/w.png', frames=2)[-1].samefile(tmp_path / 'other' / 'w.png')
    assert generate(path, [0, 1], 'o2', walk='w', walk_out='v.png', frames=2)[-1].samefile(tmp_path / 'o2' / 'v.png')

def test_source_images_beside_outputs(spider_snapshot, tmp_path):
    generate(spider_snapshot, [3, 4], tmp_path, sources=True)
    G = load_generator(spider_snapshot)
    bank = {image.tobytes() for image in G.source.images.permute(0, 2, 3, 1).numpy()}
    for seed in (3, 4):
        source = pixels(tmp_path / f'seed{seed:04d}-source.png')
        assert source.tobytes() in bank
        output = pixels(tmp_path / f'seed{seed:04d}.png')
        near = np.abs(output.astype(int) - source).mean()
        assert near < 25    # an untrained residual generator starts as the identity on its source

def test_walk_crosses_from_source_to_source(spider_snapshot, tmp_path):
    files = generate(spider_snapshot, [3, 4], tmp_path, walk='walk.gif', frames=8)
    assert files[-1] == tmp_path / 'walk.gif'
    gif = PIL.Image.open(files[-1])
    assert gif.n_frames == 16
    frames = []
    for i in range(gif.n_frames):
        gif.seek(i)
        frames.append(np.asarray(gif.convert('RGB')).astype(int))
    assert np.abs(frames[0] - pixels(files[0])).mean() < 4     # a gif has 256 colours
    assert np.abs(frames[8] - pixels(files[1])).mean() < 4
    steps = [np.abs(a - b).mean() for a, b in zip(frames, frames[1:])]
    assert max(steps) < np.abs(frames[0] - frames[8]).mean() / 2    # no jump

@pytest.mark.parametrize('kwargs', [{}, dict(dcgan=True)])
def test_walk_of_a_generator_without_source(make_snapshot, tmp_path, kwargs):
    file = generate(make_snapshot(**kwargs), [0, 1, 2], tmp_path, walk='walk.gif', frames=2)[-1]
    assert PIL.Image.open(file).n_frames == 6

#----------------------------------------------------------------------------

@pytest.mark.parametrize('c_dim, kwargs, words', [
    (0, dict(seeds=[]), '--seeds'),
    (0, dict(walk='walk.gif'), 'at least two'),
    (0, dict(class_idx=1), 'not conditional'),
    (2, dict(), '--class=0 to --class=1'),
    (2, dict(class_idx=2), '--class=0 to --class=1'),
    (0, dict(sources=True), 'not a Spider generator'),
    (0, dict(frames=0), '--frames'),
])
def test_refused(make_snapshot, tmp_path, c_dim, kwargs, words):
    with pytest.raises(SpiderError, match=words):
        generate(make_snapshot(c_dim=c_dim), **(dict(seeds=[0], outdir=tmp_path) | kwargs))
    assert not list(tmp_path.iterdir())

def test_outdir_that_is_a_file(make_snapshot, tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(SpiderError, match='file'):
        generate(make_snapshot(), [0], tmp_path / 'file')
