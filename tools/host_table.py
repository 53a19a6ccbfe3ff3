"""Writes docs/hosts.md: which options work in which public host, by the dry iteration in a checkout of each.

    python -m tools.host_table HOSTS [PART OF A NAME]...

HOSTS is a folder with checkouts OWNER+NAME of the repositories below; those that are missing, or not named, keep their rows.
Nothing is trained: each cell is one iteration of the host's own loop with small networks (hosts/dry_run.py).
tests/checkouts/test_forks.py trains."""

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from spider_plugin.hosts.option_table import COLUMNS, SIDE, make_images

ROOT   = Path(__file__).resolve().parents[1]
PAGE   = ROOT / 'docs' / 'hosts.md'
RESULT = ROOT / 'docs' / 'hosts.json'

@dataclasses.dataclass(frozen=True)
class Fork:
    """A public host.

    repository: owner and name on GitHub.
    args:       its options for a StyleGAN2 or its only configuration, in which {images} is the dataset; those of all are in
                COMMON.
    folder:     of its train.py in the repository.
    side:       of the images, which some configurations fix."""

    repository: str
    args:       tuple[str, ...]
    folder:     str = '.'
    side:       int = SIDE

    @property
    def name(self):
        return self.repository if self.folder == '.' else f'{self.repository} ({self.folder})'

    def options(self, images):
        return [arg.format(images=images) for arg in self.args]

    def path(self, hosts):
        return Path(hosts, self.repository.replace('/', '+'), self.folder)

SG3, ADA = ('--cfg=stylegan2', '--gamma=1'), ('--cfg=auto',)
FORKS = [
    Fork('NVlabs/stylegan3', SG3),
    Fork('NVlabs/stylegan2-ada-pytorch', ADA),
    Fork('autonomousvision/projected-gan', ('--cfg=stylegan2',)),
    Fork('dvschultz/stylegan3', SG3),
    Fork('dvschultz/stylegan2-ada-pytorch', ADA),
    Fork('PDillis/stylegan3-fun', SG3),
    Fork('mit-han-lab/data-efficient-gans', ADA, 'DiffAugment-stylegan2-pytorch'),
    Fork('nupurkmr9/vision-aided-gan', SG3, 'stylegan3'),
    Fork('Zhendong-Wang/Diffusion-GAN', ADA, 'diffusion-stylegan2'),
    Fork('Zhendong-Wang/Diffusion-GAN', ('--cfg=stylegan2',), 'diffusion-projected-gan'),
    Fork('Zhendong-Wang/Diffusion-GAN', ADA, 'diffusion-insgen'),
    Fork('brownvc/R3GAN', ('--preset=CIFAR10',)),
    Fork('santisy/stylegan3', ('--cfg=hashed', '--gamma=1', '--desc=images')),
    Fork('zhuxinqimac/stylegan2-ada-pytorch', ADA),
    Fork('antongomez/Conditional-StyleGAN3', (*SG3, '--cond=True', '--data-val={images}')),
    Fork('genforce/insgen', ADA),
    Fork('datduong/stylegan3-syndromic-face', SG3),
    Fork('yohan-pg/stylegan2-ada-pytorch', ADA),
    Fork('Mzoughh/StyleGAN2-ADA-4_Watermarking_VF', ADA),
    Fork('autonomousvision/stylegan-xl', ('--cfg=stylegan2',)),
    Fork('Petecheco/CLR-GAN', ADA),
    Fork('Jeeseung-Park/Styleformer', ADA),
    Fork('JCBrouwer/stylegan2-ada-pytorch', (*ADA, '--wbproj=tried', '--wbname=tried')),
    Fork('VinAIResearch/CREPS', ('--cfg=creps', '--gamma=1')),
    Fork('sancarlim/stylegan2-ada-pytorch', ADA),
    Fork('motahareh-sohrabi/stylegan3-melspectrograms', SG3, 'stylegan3'),
    Fork('JunhoPark0314/stylegan3', (*SG3, '--loop-module=training_loop')),
]

COMMON = ['--gpus=1', '--batch=4', '-n']

#----------------------------------------------------------------------------

def row(fork, hosts, columns=COLUMNS):
    """Return the dict of a fork for RESULT: its commit, and the verdict of each column."""
    path = fork.path(hosts)
    commit = subprocess.run(['git', 'log', '-1', '--format=%h of %as'], cwd=path, capture_output=True, text=True).stdout.strip()
    with tempfile.TemporaryDirectory() as out:
        make_images(f'{out}/images.zip', fork.side)
        common = [f'--outdir={out}/runs', f'--data={out}/images.zip', *COMMON, *fork.options(f'{out}/images.zip')]
        lines = {column: [*common, *(options or [])] for column, options in columns.items()}
        env = dict(os.environ, SPIDER_DEVICE='cpu', SPIDER_DRY_RUN='on', PYTHONWARNINGS='ignore', PYTHONDONTWRITEBYTECODE='1',
                   PYTHONPATH=os.pathsep.join(filter(None, [str(ROOT), os.environ.get('PYTHONPATH')])))
        done = subprocess.run([sys.executable, '-m', 'spider_plugin.hosts.option_table', str(path), f'{out}/found.json',
                               json.dumps({'': lines})], cwd=path, env=env, capture_output=True, text=True)
        if done.returncode:
            last = (done.stderr.strip() or 'no message').splitlines()[-1]
            return dict(commit=commit, found=dict.fromkeys(columns, f'no: train.py does not start ({last})'))
        text = Path(out, 'found.json').read_text(encoding='utf-8').replace(str(Path.home()), '~')
        return dict(commit=commit, found=json.loads(text)[''])

#----------------------------------------------------------------------------
# The page.

HEAD = '''# Hosts

What works in which public checkout: `python -m tools.host_table HOSTS` writes this page. Each cell is the dry iteration of
[using.md](using.md#attach-to-a-checkout): the host's own loop, once, on the CPU with small networks, in the environment of
`constraints.txt`, with the packages that a host imports beside (clean-fid as an empty module); nothing is trained for
it, and feature networks have random weights. "stock" is the host without options of the plugin, on a current stack, by the
shims, so "no" there is a fault of its own; ADA is on where the host has it on. "?" is not known: the host's loop fails on this
machine by itself. A number is a reason below. The last three columns are `--spider-cfg`.

'''

def page(results):
    """Return docs/hosts.md for {name of a fork: the dict of row()}."""
    reasons, table = [], [f'| host | commit | {" | ".join(COLUMNS)} |', '|---' * (len(COLUMNS) + 2) + '|']
    for fork in FORKS:
        entry = results.get(fork.name)
        if entry is None:
            continue
        cells = []
        for column in COLUMNS:
            said = entry['found'].get(column, 'not tried')
            if said not in ('yes', 'not tried'):
                kind, _, why = said.partition(': ')
                if why not in reasons:
                    reasons.append(why)
                said = f'{"no" if kind == "no" else "?"} [{reasons.index(why) + 1}]'
            cells.append(said)
        table.append(f'| {fork.name} | {entry["commit"]} | {" | ".join(cells)} |')
    notes = [f'{i}. `{why.replace("`", chr(39))}`' for i, why in enumerate(reasons, 1)]
    return HEAD + '\n'.join([*table, '', '## Reasons', '', *notes]) + '\n'

def main():
    results = json.loads(RESULT.read_text(encoding='utf-8')) if RESULT.is_file() else {}
    for fork in FORKS:
        named = not sys.argv[2:] or any(part in fork.name for part in sys.argv[2:])
        if named and (fork.path(sys.argv[1]) / 'train.py').is_file():
            results[fork.name] = row(fork, sys.argv[1])
            print(fork.name, json.dumps(results[fork.name], indent=1))
            RESULT.write_text(json.dumps(results, indent=1) + '\n', encoding='utf-8')
    PAGE.write_text(page(results), encoding='utf-8')

if __name__ == '__main__':
    main()
