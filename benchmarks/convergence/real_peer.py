"""A peer at equal CPU-seconds: lightweight-gan 1.2.1 (PyPI, MIT) by its own trainer, without a source, on the target of a pair.

    pip install lightweight-gan==1.2.1
    python -m benchmarks.convergence.real_peer PAIR LOG [--rate 2e-4] [--seed 0] [--seconds 60 120 ...]

Networks, losses, optimizer, augmentation and their defaults are the package's; batches are of 8, and --fmap-max, the most feature
maps of a layer, is lower than its 512, which a CPU would need hours for. The package asks for a GPU: within `on_cpu` its calls of
cuda stay on the CPU. Scored as in real_method.py, but on G itself: the package's average starts after 20,000 steps."""

import argparse
import contextlib
import json
import tempfile
import time
import types
import zipfile
from pathlib import Path
from unittest import mock

import torch

from benchmarks.convergence import real_method

@contextlib.contextmanager
def on_cpu():
    """Yield the package's module, whose calls of cuda do nothing in this context."""
    stay = lambda self, *_args, **_kwargs: self
    with mock.patch.object(torch.Tensor, 'cuda', stay), mock.patch.object(torch.nn.Module, 'cuda', stay):
        with mock.patch.object(torch.cuda, 'is_available', lambda: True):
            from lightweight_gan import lightweight_gan
        on_cpu = types.SimpleNamespace(**vars(torch))
        on_cpu.device = lambda _name: torch.device('cpu')
        with mock.patch.object(lightweight_gan, 'torch', on_cpu):
            yield lightweight_gan

def run(pair, log, rate, seed, fmap_max, seconds):
    """Train until the last of `seconds`, in CPU-seconds of training, and append a line to `log` at each of them."""
    target, judge = real_method.judged(pair)
    torch.manual_seed(seed)
    with tempfile.TemporaryDirectory() as folder, on_cpu() as package:
        with zipfile.ZipFile(Path(pair) / 'target.zip') as archive:
            archive.extractall(Path(folder, 'images'))
        trainer = package.Trainer(base_dir=folder, image_size=target.shape[-1], batch_size=real_method.BATCH, lr=rate,
                                  fmap_max=fmap_max, num_workers=0, use_aim=False)
        trainer.save = trainer.evaluate = lambda *_args, **_kwargs: None
        trainer.set_data_src(Path(folder, 'images'))
        trainer.init_GAN()
        used, left = 0.0, list(seconds)
        while left:
            begin = time.process_time()
            trainer.train()
            used += time.process_time() - begin
            if used >= left[0]:
                left = [mark for mark in left if mark > used]
                trainer.GAN.eval()
                z = torch.randn([real_method.SAMPLES, trainer.GAN.latent_dim], generator=torch.Generator().manual_seed(123))
                with torch.no_grad():
                    x = torch.cat([trainer.GAN.G(part) for part in z.split(250)])
                found = judge((x * 255 + 0.5).clamp(0, 255).to(torch.uint8))
                line = dict(pair=Path(pair).name, match=None, arm=f'lightweight-gan, rate {rate:g}', seed=seed,
                            images=trainer.steps * real_method.BATCH, cpu_seconds=round(used, 1), fmap_max=fmap_max)
                with open(log, 'a', encoding='utf-8') as file:
                    file.write(json.dumps(line | found) + '\n')

def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('pair')
    parser.add_argument('log')
    parser.add_argument('--rate', type=float, default=2e-4)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--fmap-max', type=int, default=64)
    parser.add_argument('--seconds', type=float, nargs='+', default=[30, 60, 120])
    args = parser.parse_args()
    torch.set_num_threads(1)
    run(args.pair, args.log, args.rate, args.seed, args.fmap_max, args.seconds)

if __name__ == '__main__':
    main()
