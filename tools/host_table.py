"""Writes docs/hosts.md: which options work in which public host, by the dry iteration in a checkout of each.

    python -m tools.host_table HOSTS [PART OF A NAME]...

HOSTS is a folder with checkouts OWNER+NAME of the repositories below; those that are missing, or not named, keep their rows.
Nothing is trained: each cell is one iteration of the host's own loop with small networks (hosts/dry_run.py).
tests/checkouts/test_forks.py trains."""

import contextlib
import dataclasses
import io
import json
import os
import runpy
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT   = Path(__file__).resolve().parents[1]
PAGE   = ROOT / 'docs' / 'hosts.md'
RESULT = ROOT / 'docs' / 'hosts.json'
SIDE   = 32

@dataclasses.dataclass(frozen=True)
class Fork:
    """A public host.

    repository: owner and name on GitHub.
    args:       its options for a StyleGAN2 or its only configuration; those of all runs are in COMMON.
    folder:     of its train.py in the repository.
    side:       of the images, which some configurations fix."""

    repository: str
    args:       tuple[str, ...]
    folder:     str = '.'
    side:       int = SIDE

    @property
    def name(self):
        return self.repository if self.folder == '.' else f'{self.repository} ({self.folder})'

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
]

COMMON = ['--gpus=1', '--batch=4', '-n']
SOURCE = '--spider-source=strokes'
# {title of a column: options}. None: the host's loop, without the plugin's options.
COLUMNS = {
    'stock':                None,
    'source':               [SOURCE],
    'paper mapping':        [SOURCE, '--spider-mapping=paper-16x32'],
    '`--dsc`':              ['--dsc'],
    '`--disc=projected`':   ['--disc=projected', '--disc-backbone=random'],
    'dcgan':                ['--spider-cfg=dcgan'],
    'pggan':                ['--spider-cfg=pggan', '--pg-loss=nonsaturating'],
    'fastgan':              ['--spider-cfg=fastgan'],
}

#----------------------------------------------------------------------------
# One fork, in a process of its own.

def verdict(text):
    """Return what the output of a launch says: 'yes', 'note: ...' or 'no: ...'."""
    lines = text.strip().splitlines()
    notes = [line for line in lines if line.startswith('Note: the dry iteration')]
    if any(line.startswith('Dry iteration:') for line in lines):
        return 'yes'
    return f'note: {notes[0].partition("nothing: ")[2]}' if notes else f'no: {lines[-1] if lines else "it prints nothing"}'

def try_fork(tree, lines):
    """Return {column: verdict} of a host's train.py, whose folder is the working directory; lines: {column: command line}."""
    sys.path[0] = tree
    from spider_plugin.hosts import dry_run, hook  # noqa: F401
    from spider_plugin.hosts.capabilities import Host
    from spider_plugin.hosts.shims import stack
    launched = []
    mend = stack.mend_launch
    stack.mend_launch = lambda c: (launched.append(c), mend(c))
    main = runpy.run_path(str(Path(tree, 'train.py')))['main']
    found = {}
    for column, line in lines.items():
        text = io.StringIO()
        with contextlib.redirect_stdout(text):
            try:
                main([arg for arg in line], standalone_mode=False)
                if column == 'stock':
                    target = Host(launched[-1]).target
                    shape = dict(resolution=target.resolution, channels=target.channels, label_dim=target.label_dim)
                    result = dry_run.iterate(launched[-1], shape)
                    result = result if result.kind is None else dry_run.iterate(launched[-1], shape, small=False)
                    if result.of_environment:
                        print('Note: the dry iteration says nothing: on this machine ', end='')
                    print('Dry iteration:' if result.kind is None else f'{result.kind}: {result.message}')
            except BaseException as error:
                print(f'{getattr(error, "message", "") or f"{type(error).__name__}: {error}"}'.strip().splitlines()[-1])
        found[column] = verdict(text.getvalue())
    return found

def make_images(path, side):
    """Write a zip of random images, as hosts read it."""
    import numpy as np
    import PIL.Image
    with zipfile.ZipFile(path, 'w') as archive:
        for i in range(16):
            file = io.BytesIO()
            PIL.Image.fromarray(np.random.RandomState(i).randint(0, 256, [side, side, 3]).astype(np.uint8)).save(file, 'png')
            archive.writestr(f'{i:05d}.png', file.getvalue())

def row(fork, hosts, columns=COLUMNS):
    """Return the dict of a fork for RESULT: its commit, and the verdict of each column."""
    path = fork.path(hosts)
    commit = subprocess.run(['git', 'log', '-1', '--format=%h of %as'], cwd=path, capture_output=True, text=True).stdout.strip()
    with tempfile.TemporaryDirectory() as out:
        make_images(f'{out}/images.zip', fork.side)
        common = [f'--outdir={out}/runs', f'--data={out}/images.zip', *COMMON, *fork.args]
        lines = {column: [*common, *(options or [])] for column, options in columns.items()}
        env = dict(os.environ, SPIDER_DEVICE='cpu', SPIDER_DRY_RUN='on', PYTHONWARNINGS='ignore', PYTHONDONTWRITEBYTECODE='1',
                   PYTHONPATH=os.pathsep.join(filter(None, [str(ROOT), os.environ.get('PYTHONPATH')])))
        done = subprocess.run([sys.executable, __file__, '--fork', str(path), f'{out}/found.json', json.dumps(lines)], cwd=path,
                              env=env, capture_output=True, text=True)
        if done.returncode:
            last = (done.stderr.strip() or 'no message').splitlines()[-1]
            return dict(commit=commit, found=dict.fromkeys(columns, f'no: train.py does not start ({last})'))
        return dict(commit=commit, found=json.loads(Path(out, 'found.json').read_text()))

#----------------------------------------------------------------------------
# The page.

HEAD = '''# Hosts

What works in which public checkout: `python -m tools.host_table HOSTS` writes this page. Each cell is the dry iteration of
[using.md](using.md#attach-to-a-checkout): the host's own loop, once, on the CPU with small networks, in the environment of
`constraints.txt`; nothing is trained for it. "stock" is the host without options of the plugin, on a current stack, by the shims.
A number is a reason below. The last three columns are `--spider-cfg`.

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
    if sys.argv[1:2] == ['--fork']:
        tree, out, lines = sys.argv[2:]
        Path(out).write_text(json.dumps(try_fork(tree, json.loads(lines))))
        return
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
