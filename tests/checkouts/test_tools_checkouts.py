"""Tools of checkouts on snapshots that were trained there with a source, by `spider run` on the CPU."""

import itertools
import json
import subprocess

import numpy as np
import PIL.Image
import pytest

pytestmark = pytest.mark.slow

TICKS = dict(total_kimg=0.016, kimg_per_tick=0.008, image_snapshot_ticks=1, network_snapshot_ticks=1)
LEARN = {**TICKS, 'G_opt_kwargs.lr': 0.01}      # the styles show after four iterations
ADA = {'G_kwargs.mapping_kwargs.num_layers': 2, 'G_kwargs.synthesis_kwargs.channel_base': 256, 'D_kwargs.channel_base': 256,
       'G_kwargs.synthesis_kwargs.channel_max': 16, 'D_kwargs.channel_max': 16}
DCGAN = {f'{network}_kwargs.channel_{size}': value for network in 'GD' for size, value in (('base', 128), ('max', 8))}
SMALL = ['--cbase=256', '--cmax=16']
SG3, PG = ('psutil',), ('psutil', 'timm', 'dill')

# name: the checkout, options and values of the config that make it tiny, packages that the host needs
NETWORKS = {
    'stylegan3':        ('stylegan3', ['--cfg=stylegan2', '--map-depth=2', '--gamma=1', '--mbstd-group=2', *SMALL], {}, SG3),
    'stylegan3-dcgan':  ('stylegan3', ['--cfg=dcgan', '--gamma=1', '--mbstd-group=2'], DCGAN, SG3),
    'ada':              ('stylegan2-ada-pytorch', ['--cfg=auto'], ADA, SG3),
    'ada-dcgan':        ('stylegan2-ada-pytorch', ['--cfg=dcgan'], DCGAN, SG3),
    'projected':        ('projected-gan', ['--cfg=stylegan2', *SMALL], {}, PG),
}
RES, FRAMES = 32, 4     # frames from one seed to the next

#----------------------------------------------------------------------------

def disc(rng):
    """A bright disc somewhere on a dark ground, uint8 [RES, RES, 3]."""
    y, x = np.mgrid[:RES, :RES]
    cy, cx = rng.randint(7, RES - 7, size=2)
    inside = ((y - cy) ** 2 + (x - cx) ** 2 < 36)[..., None]
    return np.where(inside, rng.randint(200, 256, 3), rng.randint(0, 40, 3)).astype(np.uint8)

@pytest.fixture(scope='module')
def data(tmp_path_factory, make_zip, make_png):
    path, rng = tmp_path_factory.mktemp('data'), np.random.RandomState(0)
    make_zip(path / 'D.zip', n=24, res=RES, seed=1)
    images = [disc(rng) for _ in range(40)]
    make_zip(path / 'S.zip', n=40, res=RES, extra={f'00000/img{i:08d}.png': make_png(image) for i, image in enumerate(images)})
    return path

@pytest.fixture(scope='module')
def snapshot(train_attached, data):
    """snapshot(name in NETWORKS) -> path; each is trained once."""
    made = {}
    def train(name):
        if name not in made:
            host, options, config, needs = NETWORKS[name]
            run_dir, *_ = train_attached(host, data / 'D.zip', *options, f'--spider-source={data}/S.zip', config=LEARN | config,
                                         needs=needs)
            made[name] = max(run_dir.glob('network-snapshot*.pkl'))
        return made[name]
    return train

@pytest.fixture(scope='module')
def tool(attached, run, snapshot, tmp_path_factory):
    """tool(name in NETWORKS, script, option ...) -> (exit code, what it says, the folder in which it ran)."""
    def start(name, script, *options):
        host, _, _, needs = NETWORKS[name]
        network, folder = snapshot(name), tmp_path_factory.mktemp('tool')
        path = attached(host) / script
        if 'training_harness' not in path.read_text():      # projected-gan's feature network needs a torchvision that fits
            path.write_text(f'import training_harness\n{path.read_text()}')
        tiny = json.dumps(dict(config={}, log=str(folder / 'rank'), paths=32, backbone=needs is PG))
        done = run(['-m', 'spider_plugin.cli', 'run', path, f'--network={network}', *options], folder, SPIDER_DEVICE='cpu',
                   SPIDER_TINY=tiny)
        return done.returncode, ' '.join((done.stdout + done.stderr).split()), folder
    return start

def frames_of(video):
    """Frames of a video, float64 [N, H, W, 3]."""
    ffmpeg = pytest.importorskip('imageio_ffmpeg').get_ffmpeg_exe()
    done = subprocess.run([ffmpeg, '-v', 'error', '-i', video, '-f', 'rawvideo', '-pix_fmt', 'rgb24', '-'], capture_output=True,
                          check=True)
    return np.frombuffer(done.stdout, np.uint8).reshape(-1, RES, RES, 3).astype(np.float64)

def read(path):
    return np.asarray(PIL.Image.open(path).convert('RGB')).astype(np.float64)

def apart(a, b):
    """Mean difference of two images at half their size: a video has colours at that size."""
    a, b = (x.reshape(RES // 2, 2, RES // 2, 2, 3).mean(axis=(1, 3)) for x in (a, b))
    return np.abs(a - b).mean()

#----------------------------------------------------------------------------

def shape(image):
    """Where an image is bright, bool [H, W]."""
    grey = image.mean(-1)
    return grey > (grey.min() + grey.max()) / 2

def far_apart(images):
    """Numbers of the two images whose discs are the furthest apart."""
    centres = [np.argwhere(shape(image)).mean(axis=0) for image in images]
    return max(itertools.combinations(range(len(images)), 2), key=lambda pair: np.ptp([centres[i] for i in pair], axis=0).sum())

@pytest.mark.parametrize('name', ['stylegan3', 'stylegan3-dcgan', 'projected'])
def test_a_video_walks_from_source_to_source(name, tool):
    pytest.importorskip('imageio')
    code, said, folder = tool(name, 'gen_images.py', '--seeds=0-7', '--outdir=.')
    assert code == 0, said
    seeds = [read(folder / f'seed000{i}.png') for i in range(8)]
    pair = far_apart(seeds)
    code, said, folder = tool(name, 'gen_video.py', f'--seeds={pair[0]},{pair[1]}', f'--w-frames={FRAMES}', '--output=walk.mp4')
    assert code == 0, said
    frames, ends = frames_of(folder / 'walk.mp4'), [seeds[i] for i in pair]
    far = apart(*ends)
    assert len(frames) == 2 * FRAMES and far > 15
    assert all(apart(frames[i * FRAMES], ends[i]) < 0.25 * far for i in range(2))      # what is lost is the codec's
    assert all(apart(a, b) > 0.02 * far for a, b in zip(frames, frames[1:]))
    # The frame between is no mixture of the ends: a disc moves, and is not seen twice.
    basis = np.stack([frames[0], frames[FRAMES], np.ones_like(frames[0])], axis=-1).reshape(-1, 3)
    middle = frames[FRAMES // 2].ravel()
    rest = np.abs(middle - basis @ np.linalg.lstsq(basis, middle, rcond=None)[0]).mean()
    assert rest > 0.2 * far, rest / far

@pytest.mark.parametrize('name', ['ada', 'ada-dcgan'])
def test_projection_names_the_command_that_looks_for_both(name, tool):
    code, said, folder = tool(name, 'projector.py', '--target=none.png', '--save-video=0', '--outdir=.')
    assert code == 2 and 'looks for w alone' in said and 'use `spider project`, which looks for both.' in said, said
    assert 'Traceback' not in said and 'Computing W midpoint' not in said and not list(folder.glob('proj*'))

@pytest.mark.parametrize('name', ['ada', 'ada-dcgan'])
def test_what_spider_project_found_is_drawn_by_the_checkout(name, tool, run, snapshot, tmp_path):
    code, said, folder = tool(name, 'generate.py', '--seeds=0-5', '--outdir=.')
    assert code == 0, said
    seeds = [read(folder / f'seed000{i}.png') for i in range(6)]
    done = run(['-m', 'spider_plugin.cli', 'project', f'--network={snapshot(name)}', f'--target={folder}/seed0003.png',
                '--loss=pixel', '--num-steps=30', '--save-video=0', '--outdir=.'], tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    code, said, folder = tool(name, 'generate.py', f'--projected-w={tmp_path}/projected_w.npz', '--outdir=.')
    assert code == 0, said
    found, drawn = read(tmp_path / 'proj.png'), read(folder / 'proj00.png')
    errors = [apart(drawn, seed) for seed in seeds]
    assert apart(found, drawn) < 1 and errors[3] < 0.3 * max(errors) and errors[3] == min(errors)

def test_mixed_styles_keep_the_source_image_of_the_row(tool):
    code, said, folder = tool('ada', 'style_mixing.py', '--rows=0,1', '--cols=2,3', '--styles=0-3', '--outdir=.')
    assert code == 0, said
    for row in (0, 1):
        own = read(folder / f'{row}-{row}.png')
        for col in (2, 3):
            mixed, other = read(folder / f'{row}-{col}.png'), read(folder / f'{col}-{col}.png')
            assert (shape(mixed) == shape(own)).mean() > (shape(mixed) == shape(other)).mean() + 0.1
            assert 0 < apart(mixed, own) < apart(mixed, other)

def test_one_style_cannot_be_mixed(tool):
    code, said, _ = tool('ada-dcgan', 'style_mixing.py', '--rows=0', '--cols=1', '--outdir=.')
    assert code == 2 and 'one style for all layers' in said and 'spider video' in said and 'Traceback' not in said, said

def result_of(said):
    return json.loads(said[said.index('{"results"') :][: said[said.index('{"results"') :].index('}, "') + 1] + '}')['results']

@pytest.mark.parametrize('name', ['stylegan3', 'ada'])
def test_path_lengths_are_measured_where_styles_have_paths(name, tool, data):
    code, said, _ = tool(name, 'calc_metrics.py', '--metrics=ppl2_wend', f'--data={data}/D.zip')
    assert code == 0, said
    assert 0 < result_of(said)['ppl2_wend'] < 1e9

@pytest.mark.parametrize('name', ['stylegan3-dcgan', 'ada-dcgan'])
def test_path_lengths_are_refused_where_only_sources_move(name, tool, data):
    code, said, _ = tool(name, 'calc_metrics.py', '--metrics=ppl2_wend', f'--data={data}/D.zip')
    assert code == 2 and 'depend on the source image alone' in said and 'spider video' in said and 'Traceback' not in said, said

def test_paths_through_z_are_refused(tool, data):
    code, said, _ = tool('ada', 'calc_metrics.py', '--metrics=ppl_zend', f'--data={data}/D.zip')
    assert code == 2 and 'no path in Z; ppl2_wend' in said and 'Traceback' not in said, said
