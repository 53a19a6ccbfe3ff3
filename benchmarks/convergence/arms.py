"""The arms, grids, seeds and cells of the convergence study: everything that was fixed before the first reported run, but for
`matched`, the arms of `own rates` and those with a learned skip, which docs/convergence.md says the history of."""

import dataclasses

#----------------------------------------------------------------------------
# Every run: reference_host/train.py with these options, in a process of its own, on one thread.

BATCH = 32
COMMON = dict(batch=BATCH, gamma=0.5, aug='noaug', metrics='none', snap=1, threads=1, workers=0)
NETWORKS = {
    'dcgan':     dict(cfg='dcgan'),
    'stylegan2': {'cfg': 'stylegan2', 'cbase': 128, 'cmax': 16, 'map-depth': 2, 'style-mixing': 0, 'pl-weight': 0},
}
GRIDS = {       # (glr, dlr): the same trials for each arm that is tuned
    'dcgan':     [(1e-3, 1e-2), (2e-3, 1e-2), (2e-3, 2e-2), (5e-3, 1e-2)],
    'stylegan2': [(2e-3, 2e-3), (5e-3, 1e-2), (1e-2, 2e-2), (2e-2, 2e-2)],
}

#----------------------------------------------------------------------------
# Arms. {pair} is the folder of the pair's sets; {pretrained} the last snapshot of a Gaussian generator that the same seed
# trained on the source set, with the Gaussian's rates, for as long as the run itself: its cost is counted beside it.

@dataclasses.dataclass(frozen=True)
class Arm:
    about:      str
    options:    dict
    rates_of:   str | None = None       # the arm whose rates it runs with; None: tuned itself
    data:       str = 'target'
    pretrained: bool = False

def _spider(source, mapping='residual', match='none', skip='fixed'):
    return {'spider-source': source, 'spider-mapping': mapping, 'spider-match': match, 'spider-skip': skip, 'spider-embed': 4}

SOURCE = '{pair}/source.zip'
ARMS = {
    'gaussian':          Arm('noise, as the host has it', {}),
    'tanh gaussian':     Arm('noise, and the residual network on one plain grey image: a tanh output, no source',
                             _spider('{pair}/plain.zip')),
    'residual':          Arm("the source's images, residual mapping", _spider(SOURCE)),
    'matched':           Arm("the same, moved to the target's mean and covariance first", _spider(SOURCE, match='covariance'),
                             'residual'),
    'covariance':        Arm("Gaussian images with the source's mean and covariance", _spider(f'covariance:{SOURCE}'),
                             'residual'),
    'target covariance': Arm("Gaussian images with the TARGET's own mean and covariance: no source at all",
                             _spider('covariance:{pair}/target.zip'), 'residual'),
    'tuned matched':     Arm('matched, with rates of its own', _spider(SOURCE, match='covariance')),
    'tuned target covariance': Arm('target covariance, with rates of its own', _spider('covariance:{pair}/target.zip')),
    'learned skip':      Arm('matched, and the gain of its skip is learned', _spider(SOURCE, match='covariance', skip='learned'),
                             'residual'),
    'learned skip, target covariance': Arm('target covariance with a learned skip: no source',
                                           _spider('covariance:{pair}/target.zip', skip='learned'), 'residual'),
    'noise':             Arm('noise images through the same network', _spider('noise'), 'residual'),
    'paper-16x32':       Arm('the public code, 16 x 32', _spider(SOURCE, 'paper-16x32')),
    'paper-23x23':       Arm('the public code, 23 x 23', _spider(SOURCE, 'paper-23x23')),
    'encoder':           Arm('learned encoder before the mapping', _spider(SOURCE, 'encoder')),
    'whitened':          Arm('whitened source before the mapping', _spider(SOURCE, 'whitened')),
    'pretraining':       Arm('Gaussian on the source set: what the next three start from', {}, 'gaussian', data='source'),
    'transfer':          Arm('weights of a Gaussian generator of the source', dict(resume='{pretrained}'), 'gaussian',
                             pretrained=True),
    'transfer + spider': Arm('the same weights, with the source from gain 0', dict(_spider(SOURCE), resume='{pretrained}'),
                             'residual', pretrained=True),
    'cascade':           Arm('images of a generator of the source', _spider('{pretrained}'), 'residual', pretrained=True),
}
BASELINES = dict(dcgan='gaussian', stylegan2='tanh gaussian')  # dcgan has a tanh; a linear StyleGAN2 does not learn here
CONTROLS = ['gaussian', 'residual', 'matched', 'covariance', 'target covariance', 'noise']
FEW = ['gaussian', 'residual', 'matched', 'target covariance']      # where a run is dear
LEARNED = ['learned skip', 'learned skip, target covariance']
OWN_RATES = ['tuned matched', 'tuned target covariance']
MAPPINGS = list(ARMS)[list(ARMS).index('paper-16x32'):]

#----------------------------------------------------------------------------
# Tuning on the grey pair, seeds of its own. Reported: fresh seeds. Cells run in this order, seed by seed, so that what is there
# when a run is stopped is whole.

@dataclasses.dataclass(frozen=True)
class Cells:
    name:       str
    network:    str
    pair:       str
    arms:       list
    seeds:      list
    iterations: int = 600
    every:      int = 50        # iterations between two snapshots; at least 1000 images, for their names differ by kimg

TUNING_PAIR, TUNING_SEEDS = 'grey', [100]
SEEDS = [40, 41, 42, 43, 44]
PLAN = [
    Cells('controls', 'dcgan', 'carved', CONTROLS, SEEDS),
    Cells('controls', 'dcgan', 'wall', CONTROLS, SEEDS),
    Cells('controls', 'dcgan', 'grey', CONTROLS, SEEDS),
    Cells('learned skip', 'dcgan', 'carved', LEARNED, SEEDS),
    Cells('learned skip', 'dcgan', 'wall', LEARNED, SEEDS),
    Cells('learned skip', 'dcgan', 'grey', LEARNED, SEEDS),
    Cells('own rates', 'dcgan', 'carved', OWN_RATES, SEEDS),
    Cells('own rates', 'dcgan', 'wall', OWN_RATES, SEEDS),
    Cells('mappings', 'dcgan', 'carved', MAPPINGS, SEEDS),
    Cells('mappings', 'dcgan', 'wall', MAPPINGS, SEEDS),
    Cells('colour', 'dcgan', 'demo', FEW + LEARNED[:1], SEEDS),
    Cells('stylegan2', 'stylegan2', 'carved', ['tanh gaussian', *FEW[1:], *LEARNED], SEEDS),
    Cells('stylegan2', 'stylegan2', 'wall', ['tanh gaussian', *FEW[1:], *LEARNED], SEEDS),
    Cells('own rates', 'stylegan2', 'carved', OWN_RATES, SEEDS),
    Cells('own rates', 'stylegan2', 'wall', OWN_RATES, SEEDS),
    Cells('long', 'dcgan', 'carved', ['gaussian', *LEARNED], SEEDS[:2], iterations=3000, every=250),
    Cells('long', 'dcgan', 'wall', ['gaussian', *LEARNED], SEEDS[:2], iterations=3000, every=250),
]
QUICK = [Cells('quick', 'dcgan', 'carved', ['gaussian', 'learned skip'], [0], iterations=96, every=32)]

#----------------------------------------------------------------------------
