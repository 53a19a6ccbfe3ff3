"""A peer at equal CPU-seconds, by its own trainer, without a source, on the target of a pair: one of two packages of PyPI (MIT).

    pip install --no-deps stylegan2-pytorch==1.9.0 lightweight-gan==1.2.1 adabelief-pytorch einops kornia kornia-rs fire
    python -m benchmarks.convergence.real_peer PAIR LOG [--package stylegan2] [--rate 2e-4] [--width 64] [--seconds 60 120 ...]

Networks, losses, optimizer and their defaults are the package's; batches are of 8, DiffAugment has the probability that the
package sets for so few images, and --width, the most feature maps of a layer, is lower than its 512, which a CPU would need
hours for. In StyleGAN2 the last layer has an eighth of it. The packages ask for a GPU and for torchvision and others, which
read images, write them, and log: within `on_cpu` their calls of cuda stay on the CPU, and stand-ins take the places of the
others, since batches come from here. Scored as in real_method.py, but on G itself: the packages' averages start after 20,000
steps."""

import argparse
import contextlib
import importlib
import json
import sys
import tempfile
import time
import types
import zipfile
from pathlib import Path
from unittest import mock

import torch

from benchmarks.convergence import real_method

STAND_INS = 'torchvision', 'aim', 'vector_quantize_pytorch'

@contextlib.contextmanager
def on_cpu(package):
    """Yield the package's module, whose calls of cuda do nothing in this context."""
    stay = lambda self, *_args, **_kwargs: self
    with mock.patch.object(torch.Tensor, 'cuda', stay), mock.patch.object(torch.nn.Module, 'cuda', stay):
        stand_ins = {name: mock.MagicMock() for name in STAND_INS}
        with mock.patch.object(torch.cuda, 'is_available', lambda: True), mock.patch.dict(sys.modules, stand_ins):
            module = importlib.import_module(f'{package}.{package}')
        on_cpu = types.SimpleNamespace(**vars(torch))
        on_cpu.device = lambda _name: torch.device('cpu')
        with mock.patch.object(module, 'torch', on_cpu):
            yield module

def batches(images, seed):
    """Yield float32 [BATCH, 3, R, R] in [0, 1] of uint8 images [N, 3, R, R], each image once in N, without end."""
    rng = torch.Generator().manual_seed(seed)
    while True:
        for rows in torch.randperm(len(images), generator=rng).split(real_method.BATCH):
            if len(rows) == real_method.BATCH:
                yield images[rows] / 255

#----------------------------------------------------------------------------
# By package: its module, options of its trainer for a width, and samples of its networks, about [0, 1], for z [N, latent_dim].

def stylegan2_samples(gan, z):
    size, rng = gan.G.image_size, torch.Generator().manual_seed(124)
    styles, noise = gan.S(z)[:, None].expand(-1, gan.G.num_layers, -1), torch.rand([len(z), size, size, 1], generator=rng)
    return gan.G(styles, noise)

PACKAGES = {
    'stylegan2':       ('stylegan2_pytorch', lambda width: dict(network_capacity=width // 16, fmap_max=width), stylegan2_samples),
    'lightweight-gan': ('lightweight_gan', lambda width: dict(fmap_max=width, use_aim=False), lambda gan, z: gan.G(z)),
}

def run(pair, log, package, rate, seed, width, seconds):
    """Train until the last of `seconds`, in CPU-seconds of training, and append a line to `log` at each of them."""
    target, judge = real_method.judged(pair)
    torch.manual_seed(seed)
    name, options, samples = PACKAGES[package]
    with tempfile.TemporaryDirectory() as folder, on_cpu(name) as module:
        with zipfile.ZipFile(Path(pair) / 'target.zip') as archive:
            archive.extractall(Path(folder, 'images'))
        trainer = module.Trainer(base_dir=folder, image_size=target.shape[-1], batch_size=real_method.BATCH, lr=rate,
                                 aug_prob=None, num_workers=0, **options(width))
        trainer.save = trainer.evaluate = lambda *_args, **_kwargs: None
        trainer.set_data_src(Path(folder, 'images'))       # the probability of its augmentation follows from their number
        trainer.loader = batches(target, seed)
        trainer.init_GAN()
        def step():
            trainer.train()
            return trainer.steps * real_method.BATCH
        def samples_now():
            trainer.GAN.eval()
            sized = trainer.GAN if hasattr(trainer.GAN, 'latent_dim') else trainer.GAN.G
            z = torch.randn([real_method.SAMPLES, sized.latent_dim], generator=torch.Generator().manual_seed(123))
            with torch.no_grad():
                x = torch.cat([samples(trainer.GAN, part) for part in z.split(250)])
            return judge((x * 255 + 0.5).clamp(0, 255).to(torch.uint8))
        follow(step, samples_now, seconds, log, dict(pair=Path(pair).name, match=None, arm=f'{package}, rate {rate:g}', seed=seed,
                                                     fmap_max=width))

def follow(step, score, seconds, log, about):
    """Call `step`, which returns the images that were seen, until the last of `seconds`, in CPU-seconds of steps, and append a
    line of `about` and of `score` to `log` at each of them."""
    used, left = 0.0, list(seconds)
    while left:
        begin = time.process_time()
        images = step()
        used += time.process_time() - begin
        if used >= left[0]:
            left = [mark for mark in left if mark > used]
            append(log, about | dict(images=images, cpu_seconds=round(used, 1)) | score())

def append(log, line):
    with open(log, 'a', encoding='utf-8') as file:
        file.write(json.dumps(line) + '\n')

def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('pair')
    parser.add_argument('log')
    parser.add_argument('--package', choices=PACKAGES, default='stylegan2')
    parser.add_argument('--rate', type=float, default=2e-4)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--width', type=int, default=64)
    parser.add_argument('--seconds', type=float, nargs='+', default=[60, 150, 300])
    args = parser.parse_args()
    torch.set_num_threads(1)
    run(args.pair, args.log, args.package, args.rate, args.seed, args.width, args.seconds)

if __name__ == '__main__':
    main()
