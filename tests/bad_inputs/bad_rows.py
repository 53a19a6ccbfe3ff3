"""The corpus: bad inputs of every command, and what the sentence about each must name.

A row is Row(command, args, words): `args` follow those of BASE, where the last of two equal options counts. In both, {NAME}
stands for a file of bad_files.py, {out} for a folder that does not exist yet. `words`: texts that the sentence must hold."""

import dataclasses

import bad_files as files

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
    'ranked':       ('--target={target}', '--detector=demo'),
    'demo':         ('--outdir={out}', '--quick'),
    'projected':    ('--network={net}', '--outdir={out}'),
    'preset':       ('--outdir={out}', '--data={data}', '--workers=0', '--dry-run'),
}

# The commands of BASE that are others, without some of their options or arguments. Of several sources, neighbors leaves out bad
# ones.
SCRIPTS = {'projected': 'gen_images', 'preset': 'train', 'ranked': 'neighbors'}

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
    'gen_images': {'--trunc': (-10.0, 10.0), '--class': (0, 65_535), '--rotate': (-360.0, 360.0), '--threads': (1, THREADS)},
    'gen_video': {
        '--trunc': (-10.0, 10.0), '--class': (0, 65_535), '--threads': (1, THREADS), '--shuffle-seed': (0, SEED),
        '--num-keyframes': (1, 10**6), '--w-frames': (1, 10**5), '--fps': (1, 1000)},
    'style_mixing': {'--trunc': (-10.0, 10.0), '--class': (0, 65_535), '--threads': (1, THREADS)},
    'projector': {'--num-steps': (1, 10**6), '--class': (0, 65_535), '--seed': (0, SEED), '--threads': (1, THREADS)},
    'dataset_tool': {'--max-images': (1, COUNT)},
    'generate': {'--class': (0, 65_535), '--trunc': (-10.0, 10.0), '--stage': (1, 32), '--frames': (1, 10_000)},
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
            said = (f'{least} ', f'{most}') if whole else (f'{least:g} ', f'{most:g}')
            for value in (*(BAD_WHOLE if whole else BAD_REAL), *outside):
                yield Row(command, (f'{option}={value}',), (option, *said))

#----------------------------------------------------------------------------
# Values of several numbers, words and names.

def values():
    lists = ('', ',', 'x', '1,,2', '3-', '-3', '3-1', '1-2-3', '4294967296', '0-4294967296', '1-99999999999', '0-99999999',
             '9' * 5000, '0.5', '\u0663', '0-3;7')
    for command, options in dict(gen_images=['--seeds'], gen_video=['--seeds'], style_mixing=['--rows', '--cols', '--styles'],
                                 generate=['--seeds']).items():
        for option in options:
            most = '100000 ' if command == 'generate' else '1000000 '
            yield from (Row(command, (f'{option}={value}',), (option, most)) for value in lists)
    for command, option, bad in (
            ('gen_images',      '--translate',      ('', '1', '1,2,3', 'nan,0', '0,inf', '1e9,0', 'x,y', '0,-101')),
            ('gen_video',       '--grid',           ('', '0x1', '1x0', '4', '1000x1', '4x', '-1x2', '2x2x2', '9' * 5000 + 'x1')),
            ('dataset_tool',    '--resolution',     ('', '0x0', '64', '64x', '99999x64', '-4x4', '6.4x64', '64x64x64', 'axb')),
            ('train',           '--spider-bank',    ('', '0', '1', '-5', '1.5k', '101M', '5G', 'k', 'nan', '9' * 5000,
                                                     'on line')),
            ('train',           '--spider-classes', ('', '0', '0:', ':1', '0:1,', '0:1:2', '0:1,0:2', '-1:0', '0:65536', 'a:b',
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
            ('train',           '--spider-match',   ('', 'mean', '3', '32')),
            ('train',           '--spider-skip',    ('', 'true')),
            ('train',           '--disc-heads',     ('', 'x')),
            ('train',           '--disc-skips',     ('', 'perhaps')),
            ('train',           '--pg-loss',        ('', 'hinge')),
            ('train',           '--dsc-order',      ('', 'both')),
            ('train',           '--dsc-convs',      ('', '3')),
            ('gen_images',      '--noise-mode',     ('', 'const,none')),
            ('projector',       '--loss',           ('', 'lpips')),
            ('dataset_tool',    '--transform',      ('', 'crop')),
            ('dataset_tool',    '--unlabelled',     ('', 'all', 'none')),
            ('neighbors',       '--by',             ('', 'is'))):
        yield from (Row(command, (f'{option}={value}',), (option,)) for value in bad)

#----------------------------------------------------------------------------
# Sets of images, and their labels.

def image_sets():
    strict = ('train', ('--data={%s}',)), ('train', ('--spider-source={%s}',)), ('ranked', ('{%s}',)), \
             ('neighbors', ('--target={%s}',))
    loose = ('dataset_tool', ('--source={%s}',))
    names = [*files.IMAGE_SETS, 'cut_zip', 'claims_png', 'unfolds_png', 'claims_json', 'unfolds_json', 'sparse_json',
             'sparse_png', 'empty_folder', 'only_strange', 'fifo', 'socket', 'loop_zip', 'hole_zip']
    for name in names:
        yield from (on(command, args, name) for command, args in strict)
        if name not in ('other_mode', 'wide', 'other_size'):
            yield on(*loose, name)
    for name in files.ONLY_STRICT:
        yield from (on(command, args, name) for command, args in strict)
    for name in ('wide', 'other_size'):
        yield Row('dataset_tool', (f'--source={{{name}}}',), ('--source', '.png'))
    for name in files.ONLY_SOURCE:
        yield on('train', ('--spider-source={%s}',), name)
    for name in files.LABELS:
        yield from (on(command, args, name) for command, args in strict[:3])
        yield on(*loose, name)

def on(command, args, name):
    """Return the row of a file, which the sentence names."""
    return Row(command, tuple(arg.replace('%s', name) for arg in args), (f'{{{name}}}',))

#----------------------------------------------------------------------------
# Networks, arrays, detectors, presets.

def other_files():
    bad = ['net_cut', 'net_zeros', 'net_zip', 'net_png', 'net_number', 'net_empty_dict', 'net_nones', 'net_words', 'net_list',
           'net_call', 'fifo_pkl', 'folder_pkl', 'empty_pkl', 'text_pkl', 'socket']
    for name in bad:
        for command in ('calc_metrics', 'gen_images', 'gen_video', 'style_mixing', 'projector', 'generate'):
            yield on(command, ('--network={%s}',), name)
        yield on('export', ('{%s}', '--out={out}.pt'), name)
        if name.endswith('_pkl') or name.startswith('net'):
            yield on('train', ('--spider-source={%s}',), name)
            yield on('ranked', ('{%s}',), name)
        if name != 'folder_pkl':
            yield on('train', ('--resume={%s}', '--dsc'), name)
    shapes = ['claims', 'overflow', 'other', 'object', 'words', 'flat', 'none', 'complex', 'unfolds']
    for name in [*(f'features_{shape}' for shape in shapes), 'features_nan', 'features_whole', 'features_equal', 'features_few',
                 'fifo_npz', 'folder_npz', 'empty_npz', 'text_npz']:
        yield on('ranked', ('{%s}',), name)
        yield on('neighbors', ('--target={%s}',), name)
    for name in [*(f'w_{shape}' for shape in shapes), 'w_nan', 'fifo_npz', 'folder_npz', 'empty_npz', 'text_npz']:
        yield Row('projected', (f'--projected-w={{{name}}}',), ('--projected-w',))
    for name in ('fifo_pt', 'folder_pt', 'empty_pt', 'text_pt', 'socket'):
        yield Row('calc_metrics', ('--metrics=fid5k', f'--detector={{{name}}}'), (f'{{{name}}}',))
        yield Row('neighbors', (f'--detector={{{name}}}',), (f'{{{name}}}',))
        yield Row('train', ('--metrics=fid5k', f'--detector={{{name}}}'), (f'{{{name}}}',))
    for name in ('fifo_png', 'folder_png', 'empty_png', 'text_png', 'socket'):
        yield on('projector', ('--target={%s}',), name)
    for name in ('fifo_json', 'folder_json', 'empty_json', 'text_json'):
        yield Row('preset', (f'--preset={{{name}}}',), ('--preset',))
    for name, content in files.PRESETS.items():
        bad = content.get('options') if isinstance(content, dict) and name != 'no_value' else None
        yield Row('preset', (f'--preset={{preset_{name}}}',), tuple(f'--{option}' for option in bad or ['preset']))

#----------------------------------------------------------------------------
# Names and paths.

PATHS = {
    'train': ('--data', '--spider-source', '--resume'), 'calc_metrics': ('--network', '--data'),
    'gen_images': ('--network',), 'gen_video': ('--network',), 'style_mixing': ('--network',),
    'projector': ('--network', '--target'), 'dataset_tool': ('--source',), 'generate': ('--network',),
    'neighbors': ('--target', '--host'), 'preset': ('--preset',)}
WRITTEN = {
    'train': ('--outdir',), 'gen_images': ('--outdir',), 'style_mixing': ('--outdir',), 'projector': ('--outdir',),
    'generate': ('--outdir',), 'neighbors': ('--outdir', '--json', '--html'), 'demo': ('--outdir',)}
NO_PATHS = ('', ' ', 'no-such-file', 'a' * 300, 'a/' * 3000, 'x\ny', '\u00e9\u202e', '-', '~', '{file}/x', 'x\0y', 'http://',
            '%s%s')

def paths():
    for command, options in PATHS.items():
        for option in options:
            for value in NO_PATHS:
                yield Row(command, (f'{option}={value}',), ())
    for command, options in WRITTEN.items():
        for option in options:
            for value in ('{file}/x', '{file}/x/y', *(['a' * 300] if command != 'train' else [])):
                yield Row(command, (f'{option}={value}',), ())
        yield Row(command, ('--outdir={file}',), ())
    for dest in ('{file}', '{full}', '{file}/x', '{file}/x.zip', 'a' * 300):
        yield Row('dataset_tool', (f'--dest={dest}',), ('--dest',))
    for out in ('x', 'x.pkl', '{full}.pt/y.txt', '{folder_pt}', '{file}/x.pt', 'a' * 300 + '.pt', ''):
        yield Row('export', ('{net}', f'--out={out}'), ())
    for desc in ('../../../evil', '/evil', 'a/b', '..\\evil', 'a\nb', 'a' * 101, '', 'x\0y', '\x1b[2J', '\u202e', '*', '$(ls)'):
        yield Row('train', (f'--desc={desc}',), ('--desc',))
    for name in ('../y.gif', '../../y.gif', '{out}.gif', 'a/b.gif', '/y.gif', '..\\y.gif', '.gif', '..', '', 'y.avi', 'y',
                 'a' * 300 + '.gif', 'a\nb.gif', 'x\0y.gif'):
        yield Row('generate', ('--walk=w', f'--walk-out={name}'), ('--walk-out',))
        yield Row('generate', (f'--walk={name}',), ('--walk',))
    for name in ('walk.avi', 'walk', '{file}/walk.gif', '{folder_png}', ''):
        yield Row('gen_video', (f'--output={name}',), ('--output',))
    yield Row('gen_video', ('--output=' + 'a' * 300 + '.gif',), ())

#----------------------------------------------------------------------------
# Options that lack another one, exclude another one, or are no options.

def combinations():
    for command in sorted(BASE.keys() - SCRIPTS.keys()):
        yield Row(command, ('--no-such-option=1',), ('--no-such-option',))
        yield Row(command, ('--seedz',), ('--seedz',))
        if command != 'neighbors':
            yield Row(command, ('stray',), ('stray',))
    for command, args, words in (
            ('train',       ('--p=0.5',),                           '--p'),
            ('train',       ('--target=0.5', '--aug=fixed'),        '--target'),
            ('train',       ('--augpipe=bgc', '--aug=noaug'),       '--augpipe'),
            ('train',       ('--batch=4', '--gpus=3'),              '--batch'),
            ('train',       ('--batch-gpu=3',),                     '--batch-gpu'),
            ('train',       ('--mbstd-group=3',),                   '--mbstd-group'),
            ('train',       ('--freezed=8',),                       '--freezed'),
            ('train',       ('--cond=True',),                       '--cond'),
            ('train',       ('--metrics=fid5k,nothing',),           '--metrics'),
            ('train',       ('--metrics=,',),                       '--metrics'),
            ('train',       ('--spider-size=8',),                   '--spider-size'),
            ('train',       ('--spider-size=3', '--spider-source=noise'),                           '--spider-size'),
            ('train',       ('--spider-size=4096', '--spider-source=noise'),                        '--spider-size'),
            ('train',       ('--spider-size=1048576', '--spider-source=noise', '--spider-mapping=encoder'),  '4096'),
            ('train',       ('--threads=1000000',),                 '1024'),
            ('train',       ('--spider-embed=99999999999', '--spider-source=noise'),                '65536'),
            ('train',       ('--spider-noise=nan', '--spider-source=noise'),                        'from 0 to 10'),
            ('train',       ('--spider-source=noise', '--spider-bank=online'),                      '--spider-bank'),
            ('train',       ('--spider-source=noise:',  '--spider-mapping=none'),                   '--spider-mapping'),
            ('train',       ('--spider-source=covariance',),                                        '--spider-source'),
            ('train',       ('--spider-source=noise', '--spider-match=covariance'),                 '--spider-match'),
            ('train',       ('--spider-source=noise', '--spider-classes=0:0'),                      '--spider-classes'),
            ('train',       ('--spider-source=no-such-name:x',),                                    '--spider-source'),
            ('train',       ('--spider-source=cifar10:no-such-file',),                              '--spider-source'),
            ('train',       ('--disc=projectd',),                   '--disc'),
            ('train',       ('--disc-size=100', '--disc=projected', '--disc-backbone=random'),      '--disc-size'),
            ('train',       ('--disc-blur=2',),                     '--disc-blur'),
            ('train',       ('--dsc-rank=2',),                      '--dsc'),
            ('train',       ('--dsc', '--dsc-res=128'),             '--dsc'),
            ('train',       ('--pg-kimg=5',),                       '--pg-kimg'),
            ('train',       ('--cfg=pggan', '--pg-batch=5:4'),      '--pg-batch'),
            ('gen_images',  ('--projected-w={w_flat}',),            '--seeds'),
            ('gen_images',  ('--translate=1,1',),                   '--translate'),
            ('gen_images',  ('--network={classes_net}',),           '--class'),
            ('gen_images',  ('--network={classes_net}', '--class=2'),   '--class'),
            ('gen_video',   ('--grid=3x1',),                        'cells of the grid'),
            ('style_mixing', ('--styles=0-99',),                    '--styles'),
            ('dataset_tool', ('--transform=center-crop',),          '--resolution'),
            ('dataset_tool', ('--resolution=24x24',),               '--resolution'),
            ('dataset_tool', ('--resolution=32x64', '--transform=center-crop-wide'),    '--resolution'),
            ('generate',    ('--class=0',),                         '--class'),
            ('generate',    ('--network={classes_net}', '--class=2'),   '--class'),
            ('generate',    ('--stage=1',),                         '--stage'),
            ('generate',    ('--walk=w', '--stage=2'),              '--stage'),
            ('generate',    ('--walk=w', '--seeds=0'),              '--walk'),
            ('generate',    ('--sources',),                         '--sources'),
            ('generate',    ('--parent=no-such-file',),             'no-such-file'),
            ('generate',    ('--walk=sideways',),                   '--walk'),
            ('ranked',      ('no-such-source',),                    'no-such-source'),
            ('neighbors',   ('--target=noise',),                    '--target'),
            ('demo',        ('--outdir={full}',),                   '--outdir'),
            ('sources',     ('no-such-source',),                    'no-such-source'),
            ('sources',     ('cifar10:no-such-file',),              'no-such-file'),
            ('sources',     ('cifar10:' + 'a' * 300,),              'aaa'),
            ('sources',     ('cifar10:{text_png}',),                'cifar10'),
            ('sources',     ('cifar10:{empty_folder}',),            'cifar10'),
            ('sources',     ('cifar10:{fifo}',),                    '{fifo}'),
            ('sources',     ('cifar10:{socket}',),                  '{socket}'),
            ('presets',     ('no-such-preset',),                    'no-such-preset'),
            ('presets',     ('../presets',),                        '../presets'),
            ('presets',     ('{preset_deep}',),                     '{preset_deep}'),
            ('init',        ('{full}',),                            '{full}'),
            ('init',        ('{file}',),                            '{file}'),
            ('init',        ('{file}/x',),                          '{file}/x'),
            ('attach',      ('no-such-folder',),                    'no-such-folder'),
            ('attach',      ('{empty_folder}',),                    '{empty_folder}'),
            ('attach',      ('{file}',),                            '{file}'),
            ('detach',      ('no-such-folder',),                    'no-such-folder'),
            ('run',         ('no-such-script.py',),                 'no-such-script.py'),
            ('run',         ('{empty_folder}',),                    '{empty_folder}'),
            ('export',      ('{net}', '--out={out}.pt', '--key=Q'), '--key'),
            ('export',      ('{net}',),                             '--out')):
        yield Row(command, args, (words,))

#----------------------------------------------------------------------------

ROWS = list(dict.fromkeys([*numbers(), *values(), *image_sets(), *other_files(), *paths(), *combinations()]))
