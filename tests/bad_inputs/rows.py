"""The corpus: bad inputs of every command, and what the sentence about each must name.

A row is Row(command, args, words): `args` follow those of BASE, where the last of two equal options counts. In both, {NAME}
stands for a file of files.py, {out} for a folder that does not exist yet. `words`: texts that the sentence must hold."""

import dataclasses

@dataclasses.dataclass(frozen=True)
class Row:
    command: str
    args:    tuple
    words:   tuple

    def __str__(self):
        return f'{self.command} {" ".join(self.args)}'[:100].encode('ascii', 'backslashreplace').decode()

BASE = {
    'train':        ('--outdir={out}', '--cfg=stylegan2', '--data={data}', '--batch=4', '--gamma=1', '--cbase=64', '--cmax=8',
                     '--workers=0', '--dry-run'),
    'calc_metrics': ('--network={net}', '--metrics=none', '--data={data}'),
    'gen_images':   ('--network={net}', '--seeds=0', '--outdir={out}'),
    'gen_video':    ('--network={net}', '--seeds=0-1', '--output={out}/walk.gif'),
    'style_mixing': ('--network={net}', '--rows=0', '--cols=1', '--outdir={out}'),
    'projector':    ('--network={net}', '--target={image}', '--outdir={out}', '--loss=pixel', '--num-steps=1'),
    'dataset_tool': ('--source={data}', '--dest={out}.zip'),
    'generate':     ('--network={net}', '--seeds=0-1', '--outdir={out}'),
    'neighbors':    ('{source}', '--target={target}', '--detector=demo'),
    'demo':         ('--outdir={out}', '--quick'),
}

#----------------------------------------------------------------------------
# Numbers: (least, most) of each option; those of floats are floats.

COUNT, KIMG, SEED, THREADS = 10**9, 1e9, 2**32 - 1, 1024

NUMBERS = {
    'train': {
        '--gpus': (1, 1024), '--batch': (1, 2**20), '--batch-gpu': (1, 2**20), '--gamma': (0.0, 1e6), '--freezed': (0, 100),
        '--p': (0.0, 1.0), '--target': (-1.0, 1.0), '--cbase': (1, 2**22), '--cmax': (1, 8192), '--glr': (0.0, 10.0),
        '--dlr': (0.0, 10.0), '--map-depth': (1, 64), '--style-mixing': (0.0, 1.0), '--pl-weight': (0.0, 1e6),
        '--mbstd-group': (1, 4096), '--kimg': (0.0, KIMG), '--tick': (0.0, KIMG), '--snap': (1, COUNT),
        '--snap-minutes': (0.0, 1e7), '--keep': (1, 10**6), '--seed': (0, SEED), '--workers': (0, 256), '--threads': (1, THREADS),
        '--spider-size': (1, 4096), '--spider-noise': (0.0, 10.0), '--spider-embed': (0, 65536), '--pg-kimg': (0.0, KIMG),
        '--dsc-rank': (1, 9), '--disc-size': (1, 4096)},
    'calc_metrics': {'--gpus': (1, 1024), '--threads': (1, THREADS)},
    'gen_images': {'--trunc': (-10.0, 10.0), '--class': (0, 99_999), '--rotate': (-360.0, 360.0), '--threads': (1, THREADS)},
    'gen_video': {
        '--trunc': (-10.0, 10.0), '--class': (0, 99_999), '--threads': (1, THREADS), '--shuffle-seed': (0, SEED),
        '--num-keyframes': (1, 10**6), '--w-frames': (1, 10**5), '--fps': (1, 1000)},
    'style_mixing': {'--trunc': (-10.0, 10.0), '--class': (0, 99_999), '--threads': (1, THREADS)},
    'projector': {'--num-steps': (1, 10**6), '--class': (0, 99_999), '--seed': (0, SEED), '--threads': (1, THREADS)},
    'dataset_tool': {'--max-images': (1, COUNT)},
    'generate': {'--class': (0, 99_999), '--trunc': (-10.0, 10.0), '--stage': (1, 32), '--frames': (1, 10_000)},
    'neighbors': {'--max-images': (100, 10**8)},
    'demo': {'--seed': (0, SEED), '--threads': (1, THREADS)},
}

BAD_WHOLE = ('', ' ', 'x', '1.5', '1e3', '0x10', 'nan', 'inf', '1,2', '9' * 5000, '-\u0663', '\u22121')
BAD_REAL  = ('', 'x', 'nan', '-NaN', 'inf', '-Infinity', '1e400', '1,5', '0x1p3', '1e300', '\u221e')

def numbers():
    for command, options in NUMBERS.items():
        for option, (least, most) in options.items():
            whole = isinstance(most, int)
            outside = (f'{least - 1}', f'{most + 1}') if whole else (f'{least - 1e-3}', f'{most * 1.001}')
            for value in (*(BAD_WHOLE if whole else BAD_REAL), *outside):
                yield Row(command, (f'{option}={value}',), (option, f'{least} ' if whole else f'{least:g} ', f'{most:g}'
                                                            if not whole else f'{most}'))

#----------------------------------------------------------------------------
# Values of several numbers, words and names.

def values():
    lists = ('', ',', 'x', '1,,2', '3-', '-3', '3-1', '1-2-3', '4294967296', '0-4294967296', '1-99999999999', '0-99999999',
             '9' * 5000, '0.5', '\u0663', '0-3;7')
    for command, options in dict(gen_images=['--seeds'], gen_video=['--seeds'], style_mixing=['--rows', '--cols', '--styles'],
                                 generate=['--seeds']).items():
        for option in options:
            yield from (Row(command, (f'{option}={value}',), (option,)) for value in lists)
    for command, option, bad in (
            ('gen_images',      '--translate',      ('', '1', '1,2,3', 'nan,0', '0,inf', '1e9,0', 'x,y', '0,-101')),
            ('gen_video',       '--grid',           ('', '0x1', '1x0', '4', '1000x1', '4x', '-1x2', '2x2x2', '9' * 5000 + 'x1')),
            ('dataset_tool',    '--resolution',     ('', '0x0', '64', '64x', '99999x64', '-4x4', '6.4x64', '64x64x64', 'axb')),
            ('train',           '--spider-bank',    ('', '0', '1', '-5', '1.5k', '101M', '5G', 'k', 'nan', '9' * 5000,
                                                     'on line')),
            ('train',           '--spider-classes', ('', '0', '0:', ':1', '0:1,', '0:1:2', '0:1,0:2', '-1:0', '0:100000', 'a:b',
                                                     '0:' + '9' * 5000)),
            ('train',           '--pg-batch',       ('', '16', '16:x', '5000:4', '16:9999999', '16:4,16:8', '16;4')),
            ('train',           '--dsc-res',        ('', '0', '64-8', '8-', '-8', '8-5000', 'x', '8-16-32', '9' * 5000)),
            ('train',           '--disc-blur',      ('', '-1', 'nan', 'inf', '1001', '2:', ':300', '2:9999999999', '2:3:4',
                                                     '9' * 5000)),
            ('train',           '--cfg',            ('', 'stylegan', 'STYLEGAN2', 'x' * 5000)),
            ('train',           '--aug',            ('', 'ADA', 'none')),
            ('train',           '--augpipe',        ('', 'abc', 'bgcx')),
            ('train',           '--on-nan',         ('', 'go', 'nan')),
            ('train',           '--cond',           ('2', 'maybe')),
            ('train',           '--spider-match',   ('', 'mean')),
            ('train',           '--spider-skip',    ('', 'true')),
            ('train',           '--disc-heads',     ('', 'x')),
            ('train',           '--disc-skips',     ('', 'perhaps')),
            ('train',           '--pg-loss',        ('', 'hinge')),
            ('train',           '--dsc-order',      ('', 'both')),
            ('train',           '--dsc-convs',      ('', '3')),
            ('gen_images',      '--noise-mode',     ('', 'const,none')),
            ('projector',       '--loss',           ('', 'lpips')),
            ('dataset_tool',    '--transform',      ('', 'crop')),
            ('neighbors',       '--by',             ('', 'is'))):
        yield from (Row(command, (f'{option}={value}',), (option,)) for value in bad)

#----------------------------------------------------------------------------

ROWS = list(dict.fromkeys([*numbers(), *values()]))
