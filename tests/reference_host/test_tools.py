"""gen_video.py, projector.py, style_mixing.py and gen_images.py as a user runs them, on networks that were never trained."""

import importlib.util
import itertools
import json
import os
import pathlib
import pickle
import subprocess
import sys

import numpy as np
import PIL.Image
import pytest
import torch

HOST = pathlib.Path(__file__).parents[2] / 'reference_host'
K, FRAMES = 3, 6 # Keyframes of the walks, frames between them.

#----------------------------------------------------------------------------
# Networks.

def save(path, G):
    with open(path, 'wb') as f:
        pickle.dump(dict(G=G, D=G, G_ema=G, augment_pipe=None, training_set_kwargs={}), f)

def random_network(kind, seed=0, **kwargs):
    """A tiny network with noise inputs that matter, an average of w, and images within [-1, 1]."""
    module = importlib.import_module(f'training.networks_{kind}')
    torch.manual_seed(seed)
    G = module.Generator(**{**dict(z_dim=16, c_dim=0, w_dim=16, img_resolution=16, img_channels=3, channel_base=256,
                                   channel_max=16, num_fp16_res=0, mapping_kwargs=dict(num_layers=2)), **kwargs})
    with torch.no_grad():
        G.mapping.w_avg.normal_(std=0.1)
        for name, param in G.named_parameters():
            if name.endswith('noise_strength'):
                param.fill_(0.02)
            if name.endswith('torgb.weight'):
                param.mul_(0.3)
    return G.eval()

@pytest.fixture(scope='module')
def space(tmp_path_factory, make_snapshot, make_zip):
    """A folder with networks colour.pkl, grey.pkl (with two classes), alias_free.pkl, spider.pkl and dcgan.pkl (which draws only
    from its source), with detectors and a target."""
    from spider_plugin.sources.prepare import prepare_source
    path = tmp_path_factory.mktemp('tools')
    save(path / 'colour.pkl', random_network('stylegan2'))
    save(path / 'grey.pkl', random_network('stylegan2', c_dim=2, img_channels=1))
    save(path / 'alias_free.pkl', random_network('stylegan3', num_layers=4, margin_size=4))
    source = prepare_source(make_zip(path / 'source.zip', n=8, res=16))
    for name, dcgan in dict(spider=False, dcgan=True).items():
        with open(make_snapshot(spider=dict(mapping='residual', source=source.path, embed=1), dcgan=dcgan), 'rb') as f:
            G = pickle.load(f)['G_ema']
        if not dcgan:
            G.synthesis.b16.torgb.weight.data *= 10 # As after training: the style shows.
        save(path / f'{name}.pkl', G)
    torch.jit.script(Pooled()).save(str(path / 'pooled.pt'))
    torch.jit.script(Blocked()).save(str(path / 'blocked.pt'))
    PIL.Image.fromarray(np.full([40, 60, 3], 99, np.uint8)).save(path / 'wide.jpg')
    return path

class Pooled(torch.nn.Module):
    """A detector with gradients, whose features are the image at three sizes."""
    def forward(self, img: torch.Tensor):
        return torch.cat([torch.nn.functional.adaptive_avg_pool2d(img / 128, n).flatten(1) for n in [2, 4, 8]], dim=1)

class Blocked(torch.nn.Module):
    """A detector without gradients."""
    def forward(self, img: torch.Tensor):
        return img.to(torch.uint8).to(torch.float32).mean(dim=[2, 3])

def generator(space, name):
    import legacy
    with open(space / f'{name}.pkl', 'rb') as f:
        return legacy.load_network_pkl(f)['G_ema']

def latents(seeds):
    return torch.from_numpy(np.stack([np.random.RandomState(seed).randn(16) for seed in seeds])).float()

def pixels(img):
    return (img.permute(0, 2, 3, 1) * 127.5 + 128).clamp(0, 255).to(torch.uint8).numpy()

def read(path):
    return np.array(PIL.Image.open(path))

def error(a, b):
    return np.abs(a.astype(float) - b.astype(float)).mean()

#----------------------------------------------------------------------------
# One process for many command lines: importing torch takes longer than all of them.

DRIVER = '''
import importlib, json, sys
from click.testing import CliRunner
sys.path.insert(0, sys.argv[1])
names = dict(gen_images='generate_images', gen_video='generate_video', projector='run_projection', style_mixing='mix_styles')
for script, args in json.load(sys.stdin):
    result = CliRunner().invoke(getattr(importlib.import_module(script), names[script]), args)
    print(json.dumps([result.exit_code, result.stderr if result.exit_code else result.stdout]))
'''

def run_all(cases, cwd):
    """Run {name: (script, options)}, and return {name: (exit code, output)}."""
    calls = [[script, [f'--{key.replace("_", "-")}={value}' for key, value in options.items()]]
             for script, options in cases.values()]
    env = {name: value for name, value in os.environ.items() if name != 'PYTHONPATH'}
    result = subprocess.run([sys.executable, '-c', DRIVER, str(HOST)], input=json.dumps(calls), capture_output=True, text=True,
                            env=env, cwd=cwd)
    assert result.returncode == 0, result.stderr
    return dict(zip(cases, map(json.loads, result.stdout.splitlines()), strict=True))

def cases():
    walk = dict(seeds=f'0-{2 * K - 1}', grid='2x1', w_frames=FRAMES)
    project = dict(network='colour.pkl', target='images/seed0005.png', loss='pixel', num_steps=100)
    cases = dict(
        images      = ('gen_images', dict(network='colour.pkl', seeds='5', outdir='images')),
        moved       = ('gen_images', dict(network='alias_free.pkl', seeds='5', translate='0.25,0', outdir='moved')),
        unmoved     = ('gen_images', dict(network='alias_free.pkl', seeds='5', outdir='unmoved')),
        grey        = ('gen_video', {**walk, 'network': 'grey.pkl', 'output': 'deep/er/grey.gif', 'class': 1, 'trunc': 0.7}),
        colour      = ('gen_video', dict(walk, network='colour.pkl', output='colour.gif', fps=20)),
        again       = ('gen_video', dict(walk, network='colour.pkl', output='again.gif', fps=20)),
        shuffled    = ('gen_video', {**walk, 'network': 'grey.pkl', 'output': 'shuffled.gif', 'class': 1, 'shuffle_seed': 1}),
        repeated    = ('gen_video', {**walk, 'network': 'grey.pkl', 'output': 'repeated.gif', 'class': 1, 'seeds': '0-3',
                                     'num_keyframes': K}),
        spider_walk = ('gen_video', dict(network='spider.pkl', seeds='0-2', w_frames=8, output='spider.gif')),
        project     = ('projector', dict(project, outdir='projected')),
        one_seed    = ('projector', dict(project, num_steps=20, seed=1, save_video=False, outdir='one_seed')),
        other_seed  = ('projector', dict(project, num_steps=20, seed=2, save_video=False, outdir='other_seed')),
        features    = ('projector', dict(project, loss='features', detector='pooled.pt', save_video=False, outdir='features')),
        alias_free  = ('projector', dict(project, network='alias_free.pkl', target='unmoved/seed0005.png', num_steps=60,
                                         save_video=False, outdir='alias_free')),
        wide        = ('projector', {**project, 'network': 'grey.pkl', 'class': 0, 'target': 'wide.jpg', 'num_steps': 2,
                                     'outdir': 'wide', 'save_video': False}),
        spider_5    = ('gen_images', dict(network='spider.pkl', seeds='5', outdir='spider_5')),
        spider      = ('projector', dict(project, network='spider.pkl', target='spider_5/seed0005.png', num_steps=10,
                                         outdir='spider')),
        dcgan_5     = ('gen_images', dict(network='dcgan.pkl', seeds='5', outdir='dcgan_5')),
        by_source   = ('projector', dict(project, network='dcgan.pkl', target='dcgan_5/seed0005.png', num_steps=10,
                                         save_video=False, outdir='by_source')),
        spider_mix  = ('style_mixing', dict(network='spider.pkl', rows='0', cols='1', styles='0-2', outdir='spider_mixing')),
        projected_w = ('gen_images', dict(network='colour.pkl', projected_w='projected/projected_w.npz', outdir='projected')),
        spider_w    = ('gen_images', dict(network='spider.pkl', projected_w='spider/projected_w.npz', outdir='spider')),
        mixing      = ('style_mixing', dict(network='colour.pkl', rows='0,3', cols='1-2,3', styles='1-2', trunc=0.7,
                                            outdir='mixing')),
        default_mix = ('style_mixing', dict(network='colour.pkl', rows='0', cols='1', outdir='default_mix')),
    )
    if importlib.util.find_spec('imageio_ffmpeg'):
        cases.update(mp4=('gen_video', dict(walk, network='colour.pkl', output='colour.mp4')))
    return cases

@pytest.fixture(scope='module')
def done(space):
    outcomes = run_all(cases(), cwd=space)
    for name, (code, output) in outcomes.items():
        assert code == 0, f'{name}: {output}'
    leftovers = [path for path in space.rglob('*') if '.tmp' in path.name]
    assert not leftovers
    return {name: output for name, (_code, output) in outcomes.items()}

#----------------------------------------------------------------------------
# Video.

def frames_of(path, mode='L'):
    gif, frames = PIL.Image.open(path), []
    for i in range(gif.n_frames):
        gif.seek(i)
        frames.append(np.array(gif.convert(mode)))
    return gif, np.stack(frames)

def apart(images):
    """Return the smallest error between two of the images."""
    return min(error(a, b) for a, b in itertools.combinations(images, 2))

def keyframes(G, order, psi=1, label=None):
    """Return uint8 [K, H, 2 W] or [K, H, 2 W, 3], two cells side by side, drawn by the network; order [2][K] are the seeds."""
    cells = []
    for seeds in order:
        c = torch.zeros([K, G.c_dim]) if label is None else torch.eye(G.c_dim)[[label] * K]
        cells.append(pixels(G(latents(seeds), c, truncation_psi=psi, noise_mode='const')))
    frames = np.concatenate(cells, axis=2)
    return frames[..., 0] if G.img_channels == 1 else frames

def test_walk_passes_its_keyframes(done, space):
    """A grey gif holds exact pixels."""
    gif, frames = frames_of(space / 'deep/er/grey.gif')
    assert frames.shape == (K * FRAMES, 16, 32)
    assert gif.info['loop'] == 0 and gif.info['duration'] == 20
    truth = keyframes(generator(space, 'grey'), [[0, 1, 2], [3, 4, 5]], psi=0.7, label=1)
    assert np.abs(frames[::FRAMES].astype(int) - truth).max() <= 1
    assert f'{K * FRAMES}/{K * FRAMES} frames' in done['grey'] and 'ETA' in done['grey']

def test_walk_is_closed_and_smooth(done, space):
    """The step from the last frame to the first is like all others, and far shorter than that to the middle."""
    _gif, frames = frames_of(space / 'deep/er/grey.gif')
    steps = [error(a, b) for a, b in zip(frames, np.roll(frames, -1, axis=0))]
    assert 0 < steps[-1] <= max(steps[:-1]) and max(steps) < 0.6 * max(error(frames[0], frame) for frame in frames)
    bends = [error(frames[i - 1].astype(float) + frames[(i + 1) % len(frames)], 2.0 * frames[i]) for i in range(len(frames))]
    assert bends[0] < 2 * max(bends[1:FRAMES]) # The curve has no corner where the ends meet.

def test_colours_of_a_gif_share_one_palette(done, space):
    gif, frames = frames_of(space / 'colour.gif', 'RGB')
    assert len(frames) == K * FRAMES and gif.info['duration'] == 50
    truth = keyframes(generator(space, 'colour'), [[0, 1, 2], [3, 4, 5]])
    for frame, wanted in zip(frames[::FRAMES], truth):
        assert error(frame, wanted) < 0.35 * apart(truth)
    assert 64 < len(np.unique(frames.reshape(-1, 3), axis=0)) <= 256

def test_walk_repeats(done, space):
    assert (space / 'colour.gif').read_bytes() == (space / 'again.gif').read_bytes()

def test_seeds_shuffled_and_repeated(done, space):
    G = generator(space, 'grey')
    order = np.arange(2 * K)
    np.random.RandomState(1).shuffle(order)
    for name, seeds in dict(shuffled=order, repeated=[0, 1, 2, 3, 0, 1]).items():
        _gif, frames = frames_of(space / f'{name}.gif')
        truth = keyframes(G, [seeds[:K], seeds[K:]], label=1)
        assert np.abs(frames[::FRAMES].astype(int) - truth).max() <= 1

def test_mp4(done, space):
    imageio_ffmpeg = pytest.importorskip('imageio_ffmpeg', reason='the extra `video` is not installed')
    reader = imageio_ffmpeg.read_frames(str(space / 'colour.mp4'))
    info = next(reader)
    frames = np.stack([np.frombuffer(frame, np.uint8).reshape(16, 32, 3) for frame in reader]).mean(axis=-1)
    assert info['size'] == (32, 16) and info['fps'] == 60 and len(frames) == K * FRAMES
    truth = keyframes(generator(space, 'colour'), [[0, 1, 2], [3, 4, 5]]).mean(axis=-1) # Colours have half the resolution.
    for frame, wanted in zip(frames[::FRAMES], truth):
        assert error(frame, wanted) < 0.35 * apart(truth)

def test_mp4_without_its_package(monkeypatch):
    import video_utils
    from training.runtime import SpiderError
    monkeypatch.setattr(video_utils, 'MP4_PACKAGE', 'a_package_that_nobody_has')
    video_utils.check_video_name('walk.GIF', '--output')
    with pytest.raises(SpiderError, match=r'^--output: .*pip install "spider-plugin\[video\]".*\.gif$'):
        video_utils.check_video_name('walk.mp4', '--output')

def test_an_interrupted_video_leaves_nothing(tmp_path):
    import tool_utils
    import video_utils
    def render(frame):
        if frame == 3:
            raise KeyboardInterrupt
        return np.full([8, 8, 1], frame, np.uint8)
    (tmp_path / 'walk.gif').write_text('before')
    with pytest.raises(KeyboardInterrupt):
        video_utils.save_video(str(tmp_path / 'walk.gif'), render, 5, 10, tool_utils.Steps('video', 5, 'frames'))
    assert [path.name for path in tmp_path.iterdir()] == ['walk.gif'] and (tmp_path / 'walk.gif').read_text() == 'before'

def test_walk_of_a_spider_generator_goes_from_source_to_source(done, space):
    """It passes the images of its seeds, and none is far from those before and after it."""
    _gif, frames = frames_of(space / 'spider.gif', 'RGB')
    steps = [error(a, b) for a, b in zip(frames, np.roll(frames, -1, axis=0))]
    G = generator(space, 'spider')
    truth = pixels(G(latents([0, 1, 2]), torch.zeros([3, 0]), noise_mode='const'))
    assert len(frames) == 24 and max(error(a, b) for a, b in zip(frames[::8], truth)) < 0.2 * apart(truth)
    assert 0 < max(steps) < 0.6 * apart(truth)

#----------------------------------------------------------------------------
# Projection.

def mean_image(G):
    z = torch.from_numpy(np.random.RandomState(9).randn(2000, 16)).float()
    w = G.mapping(z, torch.zeros([2000, G.c_dim])).mean(dim=0, keepdim=True)
    return pixels(G.synthesis(w, noise_mode='const'))[0]

@pytest.mark.parametrize(['name', 'network', 'factor'], [
    ('projected', 'colour', 0.1), ('features', 'colour', 0.25), ('alias_free', 'alias_free', 0.4)])
def test_projection_finds_a_known_image(done, space, name, network, factor):
    target, found = read(space / name / 'target.png'), read(space / name / 'proj.png')
    assert np.array_equal(target, read(space / ('unmoved' if name == 'alias_free' else 'images') / 'seed0005.png'))
    assert error(found, target) < factor * error(mean_image(generator(space, network)), target)

def test_projected_w(done, space):
    """w is the same for all layers, and proj.png and gen_images.py show its image with the network's noise."""
    G = generator(space, 'colour')
    with np.load(space / 'projected/projected_w.npz') as data:
        assert list(data) == ['w'] and data['w'].shape == (1, G.num_ws, G.w_dim) and data['w'].dtype == np.float32
        w = torch.from_numpy(data['w'])
    assert torch.equal(w, w[:, :1].expand_as(w))
    truth = pixels(G.synthesis(w, noise_mode='const'))[0]
    assert np.array_equal(read(space / 'projected/proj.png'), truth)
    assert np.array_equal(read(space / 'projected/proj00.png'), truth)

def test_projection_repeats(done, space):
    """It repeats to the last bit in another process; another seed finds another w."""
    script, options = cases()['one_seed']
    run_all(dict(again=(script, dict(options, outdir='repeat'))), cwd=space)
    for name in ('projected_w.npz', 'proj.png', 'target.png'):
        assert (space / 'repeat' / name).read_bytes() == (space / 'one_seed' / name).read_bytes()
    assert (space / 'other_seed/projected_w.npz').read_bytes() != (space / 'one_seed/projected_w.npz').read_bytes()

def test_target_of_another_shape_is_cropped_with_a_message(done, space):
    assert 'Target of 60x40: cropped to the 40x40 in its middle and resized to 16x16' in done['wide']
    assert np.array_equal(read(space / 'wide/target.png'), np.full([16, 16], 99)) # Grey, as the network.
    assert 'Target' not in done['project']

def test_video_of_a_projection(done, space):
    names = sorted(os.listdir(space / 'projected'))
    video = 'proj.mp4' if 'mp4' in done else 'proj.gif'
    assert names == sorted(['proj.png', 'proj00.png', 'target.png', 'projected_w.npz', video])
    assert 'video' not in done['other_seed']

def test_projection_of_a_spider_generator(done, space):
    """It finds the source image from which the target was drawn, and a w; the file draws the same without the plugin."""
    G = generator(space, 'spider')
    with np.load(space / 'spider/projected_w.npz') as data:
        w = torch.from_numpy(data['w'])
    assert w.shape == (1, G.num_ws, 16) and G.num_ws > G.synthesis.num_ws
    assert torch.equal(G.synthesis.source_image(w), G.source.sample(latents([5])))
    target, image = read(space / 'spider/target.png'), pixels(G.synthesis(w, noise_mode='const'))[0]
    assert np.array_equal(read(space / 'spider/proj.png'), image) and np.array_equal(read(space / 'spider/proj00.png'), image)
    start = pixels(G.synthesis(G.mapping.w_avg.repeat(1, G.num_ws, 1), noise_mode='const'))[0]
    assert error(image, target) < 0.2 * error(start, target)
    assert 'Distance' in done['spider']

def test_projection_of_a_network_that_draws_from_its_source_alone(done, space):
    G = generator(space, 'dcgan')
    assert np.array_equal(read(space / 'by_source/proj.png'), read(space / 'by_source/target.png'))
    with np.load(space / 'by_source/projected_w.npz') as data:
        assert torch.equal(G.synthesis.source_image(torch.from_numpy(data['w'])), G.source.sample(latents([5])))

def test_styles_are_mixed_at_the_source_image_of_the_row(done, space):
    G = generator(space, 'spider')
    ws = G.mapping(latents([0, 1]), None)
    mixed = torch.cat([ws[1:, :3], ws[:1, 3:]], dim=1)
    assert torch.equal(G.synthesis.source_image(mixed), G.source.sample(latents([0])))
    assert np.array_equal(read(space / 'spider_mixing/0-1.png'), pixels(G.synthesis(mixed, noise_mode='const'))[0])
    assert not np.array_equal(read(space / 'spider_mixing/0-1.png'), read(space / 'spider_mixing/0-0.png'))

@pytest.fixture
def projector(monkeypatch):
    """The script as a module, without the effects of the attached line on the process."""
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None if name == 'spider_plugin' else find_spec(name))
    return importlib.import_module('projector')

@pytest.fixture
def projection(projector):
    return importlib.import_module('projection')

def test_noise_regularisation(projection):
    """It equals the formula for a small map and for one with two sizes, and is large for correlated noise."""
    def formula(noise):
        n = len(noise)
        across, down = [sum(noise[y, x] * noise[y - dy, x - dx] for y in range(n) for x in range(n)) / n ** 2
                        for dy, dx in ((0, 1), (1, 0))]
        return across ** 2 + down ** 2
    large = torch.randn([16, 16], generator=torch.Generator().manual_seed(0))
    small = large.reshape(8, 2, 8, 2).sum(dim=(1, 3)) / 2
    assert torch.isclose(projection.noise_regularisation([small]), formula(small))
    assert torch.isclose(projection.noise_regularisation([large, small]), formula(large) + 2 * formula(small))
    assert projection.noise_regularisation([]) == 0
    assert projection.noise_regularisation([torch.ones([8, 8])]) > 100 * projection.noise_regularisation([large])

def test_schedules(projection):
    rates = [projection.learning_rate(t) for t in (0, 0.025, 0.05, 0.5, 0.75, 0.875, 1)]
    assert rates == pytest.approx([0, 0.05, 0.1, 0.1, 0.1, 0.05, 0])
    assert [projection.w_noise_scale(t) for t in (0, 0.375, 0.75, 0.9)] == pytest.approx([0.05, 0.0125, 0, 0])

def test_w_statistics(projection, space):
    G = generator(space, 'colour')
    mean, spread = projection.w_statistics(G, torch.zeros([1, 0]), np.random.RandomState(0))
    ws = G.mapping(torch.from_numpy(np.random.RandomState(0).randn(10000, 16)).float(), torch.zeros([10000, 0]))[:, 0]
    torch.testing.assert_close(mean[0, 0], ws.mean(dim=0))
    assert spread == pytest.approx((ws - ws.mean(dim=0)).square().sum(dim=1).mean().sqrt().item(), rel=1e-5)

def test_pixel_distance(projector):
    a, b = torch.rand([2, 1, 3, 16, 16]).unbind()
    wanted = sum(torch.nn.functional.adaptive_avg_pool2d(a - b, n).square().mean() for n in (16, 8, 4))
    torch.testing.assert_close(projector.pixel_distance(a)(b), wanted)

def test_features_of_large_images(projector):
    """A detector gets at most 256 pixels, values from 0 to 255, and the keywords of a VGG16 for LPIPS."""
    seen = []
    def detector(img, resize_images, return_lpips):
        assert not resize_images and return_lpips
        seen.append(img)
        return img.flatten(1)
    target = torch.rand([1, 1, 512, 512]) * 2 - 1
    assert projector.feature_distance(target, detector)(target) == 0
    assert all(img.shape == (1, 3, 256, 256) and 0 <= img.min() and 1 < img.max() <= 255 for img in seen)

def test_no_detector_offline(projector, monkeypatch, tmp_path):
    """The error is one sentence with a remedy."""
    from metrics import detectors
    from training.runtime import SpiderError
    def offline(*args, **kwargs):
        raise OSError('no route to host')
    monkeypatch.setattr(detectors, 'copies', lambda name: [])
    monkeypatch.setattr(detectors, 'download', offline)
    detectors.find_public.cache_clear()
    with pytest.raises(SpiderError, match=r'^--detector: .*vgg16.*no route to host.*; give .*--loss=pixel') as info:
        projector.pick_distance('features', None, torch.zeros([1, 3, 16, 16]))
    assert info.value.message.count('; ') == 1

#----------------------------------------------------------------------------
# Images of seeds, style mixing.

def test_no_half_precision_on_a_cpu(tmp_path):
    """The blocks of some hosts use only this attribute."""
    from training import snapshots
    G = random_network('stylegan2', num_fp16_res=4)
    save(tmp_path / 'half.pkl', G)
    assert G.synthesis.b16.use_fp16
    assert not snapshots.load_generator(str(tmp_path / 'half.pkl'), torch.device('cpu')).synthesis.b16.use_fp16

def test_translation_moves_the_image(done, space):
    """The image moves by a quarter of 16 pixels; its borders show other parts of the input."""
    moved, still = (read(space / name / 'seed0005.png').astype(float) for name in ('moved', 'unmoved'))
    assert error(moved[:, 6:-2], still[:, 2:-6]) < 0.25 * error(moved[:, 6:-2], still[:, 6:-2])

def test_mixed_styles(done, space):
    """Each cell equals the result of the network."""
    G = generator(space, 'colour')
    ws = {seed: G.mapping(latents([seed]), torch.zeros([1, 0]), truncation_psi=0.7) for seed in (0, 1, 2, 3)}
    def image(w):
        return pixels(G.synthesis(w, noise_mode='const'))[0]
    grid = read(space / 'mixing/grid.png').reshape(3, 16, 4, 16, 3).swapaxes(1, 2)
    assert grid[0, 0].max() == 0
    for j, col in enumerate([1, 2, 3]):
        assert np.array_equal(grid[0, 1 + j], image(ws[col]))
        for i, row in enumerate([0, 3]):
            mixed = torch.cat([ws[row][:, :1], ws[col][:, 1:3], ws[row][:, 3:]], dim=1)
            assert np.array_equal(grid[1 + i, 1 + j], image(mixed))
            assert np.array_equal(read(space / f'mixing/{row}-{col}.png'), image(mixed))
            assert np.array_equal(grid[1 + i, 0], image(ws[row]))
    assert not np.array_equal(grid[1, 1], grid[1, 0]) and not np.array_equal(grid[1, 1], grid[0, 1])
    assert sorted(os.listdir(space / 'mixing')) == sorted(
        ['grid.png', *(f'{seed}-{seed}.png' for seed in range(4)), *(f'0-{col}.png' for col in (1, 2, 3)), '3-1.png', '3-2.png'])

def test_styles_by_default(done, space):
    """The default is the first seven styles, here all of six."""
    assert np.array_equal(read(space / 'default_mix/0-1.png'), read(space / 'default_mix/1-1.png'))

#----------------------------------------------------------------------------
# Refusals.

IMAGES  = dict(network='colour.pkl', seeds='0', outdir='none')
W       = dict(network='colour.pkl', outdir='none')
VIDEO   = dict(network='colour.pkl', seeds='0-3', output='none.gif')
PROJECT = dict(network='colour.pkl', target='images/seed0005.png', loss='pixel', outdir='none')
MIXING  = dict(network='colour.pkl', rows='0', cols='1', outdir='none')

REFUSED = { # (script, options), words of the message.
    'no network':       (('gen_video', dict(VIDEO, network='none.pkl')), ['--network', 'none.pkl']),
    'no pickle':        (('style_mixing', dict(MIXING, network='wide.jpg')), ['--network', 'wide.jpg']),
    'no seed':          (('gen_images', dict(network='colour.pkl', outdir='none')), ['--seeds', '--projected-w']),
    'two sorts':        (('gen_images', dict(IMAGES, projected_w='x.npz')), ['--seeds', '--projected-w']),
    'backwards':        (('gen_video', dict(VIDEO, seeds='3-0')), ['--seeds', '3-0']),
    'huge seed':        (('gen_video', dict(VIDEO, seeds='4294967296')), ['--seeds', '4294967296']),
    'no w file':        (('gen_images', dict(W, projected_w='none.npz')), ['--projected-w', 'none.npz']),
    'no w inside':      (('gen_images', dict(W, projected_w='named.npz')), ['--projected-w', 'named.npz']),
    'other w':          (('gen_images', dict(W, projected_w='other.npz')), ['--projected-w', '[1, 4, 16]']),
    'outdir':           (('gen_images', dict(IMAGES, outdir='file/images')), ['--outdir', 'file/images']),
    'outdir of mixing': (('style_mixing', dict(MIXING, outdir='file')), ['--outdir', 'file']),
    'outdir of w':      (('projector', dict(PROJECT, outdir='file')), ['--outdir', 'file']),
    'output':           (('gen_video', dict(VIDEO, output='file/walk.gif')), ['--output', 'file']),
    'output is folder': (('gen_video', dict(VIDEO, output='folder.gif')), ['--output', 'folder.gif']),
    'suffix':           (('gen_video', dict(VIDEO, output='walk.avi')), ['--output', 'walk.avi', '.gif']),
    'grid':             (('gen_video', dict(VIDEO, grid='0x2')), ['--grid', '0x2']),
    'uneven':           (('gen_video', dict(VIDEO, grid='3x1')), ['--seeds', '4 seeds', '--num-keyframes']),
    'one keyframe':     (('gen_video', dict(VIDEO, seeds='0')), ['--num-keyframes']),
    'class':            (('gen_video', dict(VIDEO, network='grey.pkl')), ['--class', '0 to 1']),
    'class of mixing':  (('style_mixing', {**MIXING, 'network': 'grey.pkl', 'class': 2}), ['--class', '0 to 1']),
    'class of w':       (('projector', dict(PROJECT, network='grey.pkl')), ['--class', '0 to 1']),
    'styles':           (('style_mixing', dict(MIXING, styles='0-6')), ['--styles', '6', '0 to 5']),
    'no target':        (('projector', dict(PROJECT, target='none.png')), ['--target', 'none.png', 'no such file']),
    'no image':         (('projector', dict(PROJECT, target='colour.pkl')), ['--target', 'colour.pkl']),
    'detector':         (('projector', dict(PROJECT, loss='features', detector='file')), ['--detector', 'file', 'pixel']),
    'no gradient':      (('projector', dict(PROJECT, loss='features', detector='blocked.pt')), ['--detector', 'gradient']),
    'two losses':       (('projector', dict(PROJECT, detector='pooled.pt')), ['--detector', '--loss=pixel']),
    'one style':        (('style_mixing', dict(MIXING, network='dcgan.pkl')), ['--network', 'nothing to mix', 'gen_video']),
}

@pytest.fixture(scope='module')
def refusals(space, done):
    """{case: (exit code, output)}; refused commands write nothing."""
    (space / 'file').write_text('a file')
    (space / 'folder.gif').mkdir()
    np.savez(space / 'other.npz', w=np.zeros([1, 4, 16], np.float32))
    np.savez(space / 'named.npz', x=np.zeros([1, 6, 16], np.float32))
    outcomes = run_all({name: call for name, (call, _words) in REFUSED.items()}, cwd=space)
    assert not list(space.glob('none*'))
    return outcomes

@pytest.mark.parametrize('case', REFUSED)
def test_refusal_is_one_sentence_and_exit_code_2(refusals, case):
    code, output = refusals[case]
    assert code == 2, output
    message = output.strip().splitlines()[-1]
    assert message.startswith('Error: ') and output.count('Error: ') == 1 and 'Traceback' not in output
    for word in REFUSED[case][1]:
        assert word in message
