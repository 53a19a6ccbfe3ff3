"""Small snapshots of every kind that a version of the plugin writes, for tests/snapshots/test_formats.py.

    PYTHONPATH=TREE python HERE/tools/make_format_snapshots.py --outdir=tests/snapshots/formats/VERSION

HERE is this repository, TREE a checkout of the version; its `spider train` writes each snapshot, with the options in CASES.
A network of these sizes has a megabyte of numbers all the same, so every large tensor is filled with one short sequence,
repeated: the files compress to some tens of kilobytes, and nothing else of their form changes. Beside each snapshot lies
what its networks give for fixed inputs, and cases.json says how to train on. Made once for a released version and never
again: what is there must open for ever."""

import argparse
import io
import json
import lzma
import os
import pickle
import subprocess
import sys
import tempfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
import PIL.Image
import torch

import spider_plugin
from spider_plugin.resources import resource_dir

#----------------------------------------------------------------------------
# {name: options of train.py}. {DIR} is the folder of the snapshots before it, which a cascade draws from.

STYLEGAN = ['--map-depth=2', '--cbase=64', '--cmax=8']
SMALL    = ['--cbase=128', '--cmax=8']
SOURCE   = ['--spider-source=strokes', '--spider-bank=24', '--spider-size=16', '--spider-embed=1']

CASES = {
    'stylegan2_residual': ['--cfg=stylegan2', *STYLEGAN, *SOURCE],
    'stylegan2_dsc':      ['--cfg=stylegan2', *STYLEGAN, *SOURCE, '--dsc', '--dsc-rank=2', '--aug=noaug'],
    'stylegan3_encoder':  ['--cfg=stylegan3-t', *STYLEGAN, *SOURCE, '--spider-mapping=encoder', '--aug=noaug'],
    'dcgan_gaussian':     ['--cfg=dcgan', *SMALL, '--aug=noaug'],
    'dcgan_residual':     ['--cfg=dcgan', *SMALL, *SOURCE, '--spider-noise=0.05', '--aug=noaug'],
    'dcgan_paper_16x32':  ['--cfg=dcgan_paper', *SMALL, *SOURCE, '--spider-mapping=paper-16x32', '--cond=1', '--aug=noaug'],
    'pggan_residual':     ['--cfg=pggan', *SMALL, *SOURCE, '--pg-kimg=0.008', '--aug=noaug'],
    'fastgan_lite_dsc':   ['--cfg=fastgan_lite', *SMALL, *SOURCE, '--dsc', '--disc=projected', '--disc-backbone=random',
                           '--disc-heads=separable', '--disc-size=128'],
    'dcgan_cascade':      ['--cfg=dcgan', *SMALL, '--spider-source={DIR}/dcgan_gaussian.pkl', '--spider-bank=24',
                           '--spider-embed=1', '--aug=noaug'],
}
RUN  = ['--gpus=1', '--batch=4', '--gamma=1', '--snap=1', '--threads=1', '--workers=0']
KIMG = {'pggan_residual': 0.028}    # 3.5 phases: 16^2 is fading in
SEEDS, PERIOD = (0, 1, 2), 509

#----------------------------------------------------------------------------

def write_data(path, count=24, res=16):
    """A dataset zip of smooth images in two classes."""
    rng = np.random.RandomState(0)
    with zipfile.ZipFile(path, 'w') as archive:
        for i, coarse in enumerate(rng.randint(0, 256, [count, 4, 4, 3]).astype(np.uint8)):
            buffer = io.BytesIO()
            PIL.Image.fromarray(coarse.repeat(res // 4, axis=0).repeat(res // 4, axis=1)).save(buffer, format='png')
            archive.writestr(f'img{i:04d}.png', buffer.getvalue())
        archive.writestr('dataset.json', json.dumps({'labels': [[f'img{i:04d}.png', i % 2] for i in range(count)]}))

def train(options, outdir, kimg):
    """The last snapshot of a run of `spider train`."""
    command = [sys.executable, '-m', 'spider_plugin.cli', 'train', *RUN, *options, f'--outdir={outdir}', f'--kimg={kimg}',
               '--tick=0.004']
    done = subprocess.run(command, text=True, capture_output=True)
    if done.returncode != 0:
        sys.exit(f'{" ".join(command)}\n{done.stdout}{done.stderr}')
    return max(outdir.glob('*/network-snapshot-*.pkl'))

#----------------------------------------------------------------------------
# Numbers that compress: one sequence, begun elsewhere in each tensor, with the tensor's standard deviation to a power of two.

@torch.no_grad()
def fill(network, salt):
    """Repeats a sequence of PERIOD numbers through every tensor that is longer; `salt` moves the beginnings."""
    short = torch.randn([PERIOD], generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    for name, tensor in network.state_dict(keep_vars=True).items():
        if tensor.is_floating_point() and tensor.ndim >= 2 and tensor.numel() > PERIOD and tensor.std() > 0:
            places = (torch.arange(tensor.numel()) + zlib.crc32(f'{salt} {name}'.encode())) % PERIOD
            tensor.copy_(short[places].reshape(tensor.shape) * 2.0 ** tensor.std().log2().round())
    for module in network.modules():
        if hasattr(module, 'weight_orig'):  # spectral normalisation: the singular vectors of what it is now
            matrix = module.weight_orig.transpose(0, getattr(module, 'output_dim', 0)).flatten(1)
            for _ in range(10):
                module.weight_v.copy_(torch.nn.functional.normalize(matrix.t() @ module.weight_u, dim=0))
                module.weight_u.copy_(torch.nn.functional.normalize(matrix @ module.weight_v, dim=0))

def forget_machine(contents):
    """Leaves no path of the machine in the pickle's arguments."""
    contents['training_set_kwargs']['path'] = 'data.zip'
    for key in ('G', 'G_ema'):
        spider = contents[key]._init_kwargs.get('spider')
        if spider is not None:
            spider['source'] = 'prepared'
            contents[key].source._init_args = ('prepared',)

#----------------------------------------------------------------------------
# What is expected of whoever opens it: `images` of G_ema for the latents that hosts draw for SEEDS, `logits` of D for these.

@torch.no_grad()
def expected(contents):
    G, D = contents['G_ema'].eval(), contents['D'].eval()
    z = torch.from_numpy(np.stack([np.random.RandomState(seed).randn(G.z_dim) for seed in SEEDS]))
    c = torch.eye(max(G.c_dim, 1))[[seed % max(G.c_dim, 1) for seed in SEEDS]][:, : G.c_dim]
    images = G(z, c, noise_mode='const')
    torch.manual_seed(0)    # a projected D augments what it sees
    return dict(images=images.numpy(), logits=D(images, c).numpy())

def make(name, options, work, outdir):
    options = [option.replace('{DIR}', str(work)) for option in options]
    snapshot = train([*options, f'--data={work}/data.zip'], work / name, KIMG.get(name, 0.004))
    with open(snapshot, 'rb') as file:
        contents = pickle.load(file)
    for key in ('G', 'D', 'G_ema'):
        fill(contents[key], key)
    forget_machine(contents)
    data = pickle.dumps(contents)
    for path in (str(work), str(Path.home())):
        if (at := data.find(path.encode())) >= 0:
            sys.exit(f'{name} holds a path of this machine: {data[max(at - 100, 0) : at + 100]}')
    (work / f'{name}.pkl').write_bytes(data)
    results = expected(pickle.loads(data))
    if not all(np.isfinite(value).all() and value.std() > 1e-5 for value in results.values()):
        sys.exit(f'{name} gives nothing to compare with: {({key: value.std() for key, value in results.items()})}')
    packed = lzma.compress(data, preset=9)
    (outdir / f'{name}.pkl.xz').write_bytes(packed)
    np.savez_compressed(outdir / f'{name}.npz', **results)
    print(f'{name:<20s}{len(data) / 1e3:9.0f} kB, {len(packed) / 1e3:.0f} kB compressed; images of '
          f'{results["images"].mean():.2f} +- {results["images"].std():.2f}')

def main():
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--outdir', help='new folder for the files', type=Path, required=True)
    parser.add_argument('--only', help='one case, to try it', choices=CASES)
    args = parser.parse_args()
    args.outdir.mkdir(parents=True)     # An existing one is of a version that is out.
    sys.path.insert(0, str(resource_dir('reference_host')))
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as work:
        os.environ.update(SPIDER_CACHE_DIR=f'{work}/cache', OMP_NUM_THREADS='1', TORCH_UTILS_EXT='off')
        write_data(Path(work, 'data.zip'))
        wanted = {args.only: CASES[args.only]} if args.only else CASES
        for name, options in wanted.items():
            make(name, options, Path(work), args.outdir)
    about = dict(version=spider_plugin.__version__, torch=torch.__version__, seeds=SEEDS, run=RUN, cases=wanted)
    (args.outdir / 'cases.json').write_text(json.dumps(about, indent=2) + '\n')

if __name__ == '__main__':
    main()
