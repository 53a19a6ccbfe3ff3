"""--cfg=pggan: progressively grown networks, their loss and optimizers; and --pg-*: the schedule."""

import click

from spider_plugin import registry
from spider_plugin.errors import SpiderError
from spider_plugin.options.generators import IMAGE, NO_STYLES, VECTOR, PluginGenerator, put_networks
from spider_plugin.options.types import MOST_KIMG, MOST_SIDE, Option, Pairs, Real

#----------------------------------------------------------------------------
# Published rates (Karras et al. 2018, appendix A.1, and the code released with it): 0.001 to 64^2, then by these factors.
# --glr and --dlr set the rate that the factors are on.

PRESET  = dict(z_dim=512, glr=1e-3, dlr=1e-3, betas=[0.0, 0.99])
FACTORS = {'128': 1.5, '256': 2, '512': 3, '1024': 3}
LOSSES  = ('wgan-gp', 'nonsaturating')
MODULE  = 'spider_plugin.portable.generators.pggan'

#----------------------------------------------------------------------------

GROUP = 'PGGAN options'

OPTIONS = [
    Option('--pg-kimg',         Real(0, MOST_KIMG, min_open=True), 800.0, 'KIMG', 'Length of each phase of --cfg=pggan: a '
           'resolution, or fading in the next', GROUP),
    Option('--pg-batch',        Pairs(MOST_SIDE, 2**20), None, 'R:N,R:N', 'Batches of N images from resolution R of '
           '--cfg=pggan on, in the reference host  [default: --batch]', GROUP),
    Option('--pg-loss',         click.Choice(LOSSES), 'wgan-gp', None, 'Loss of --cfg=pggan; nonsaturating has --gamma', GROUP),
]

#----------------------------------------------------------------------------

def edit_pggan(c, given, host):
    from spider_plugin.portable.generators.pggan import pggan_resolutions
    if c.get('num_gpus', 1) > 1 and host.loss_keyword('G_mapping') is not None:
        raise SpiderError('--cfg=pggan trains with one GPU in this host, whose DistributedDataParallel wants a gradient for '
                          'every layer, those of later stages too; pass --gpus=1, or use a host like NVlabs/stylegan3.')
    put_networks(c, given, host, cfg='pggan', module=MODULE, G='PGGANGenerator', D='PGGANDiscriminator', preset=PRESET,
                 resolutions=pggan_resolutions)
    for network in 'GD':
        c[f'{network}_opt_kwargs'].update(class_name='spider_plugin.training.progressive.StageAdam', factors=dict(FACTORS))

registry.generators.register('pggan')(PluginGenerator(
    edit_pggan, MODULE, 'PGGANGenerator', source=frozenset({VECTOR, IMAGE}),
    refuses=NO_STYLES | dict(disc='whose discriminator grows with its generator')))

#----------------------------------------------------------------------------

def apply_progressive(c, options, given, host):
    """Puts the loss, the schedule and the batches of --cfg=pggan into the config; returns lines for the launch log."""
    if options['cfg'] != 'pggan':
        for name in ('pg_kimg', 'pg_loss', 'pg_batch'):
            if name in given:
                raise SpiderError(f'--{name.replace("_", "-")} has no effect without --cfg=pggan; leave it out.')
        return []
    resolution, objective = host.target.resolution, options['pg_loss']
    loss = type(c['loss_kwargs'])(class_name='spider_plugin.training.progressive.ProgressiveLoss', objective=objective,
                                  stage_kimg=options['pg_kimg'])
    if objective == 'wgan-gp':
        _without_sign_of_D(c, given)
        c['D_reg_interval'] = None      # the gradient penalty belongs to every step
    else:
        loss['r1_gamma'] = host.loss_keyword('r1_gamma')
    c['loss_kwargs'] = loss
    if options['pg_batch'] is not None:
        c['batch_schedule'] = _batch_schedule(c, options, host)
    return _schedule_lines(c, options, resolution)

def _batch_schedule(c, options, host):
    """[[kimg of this run, images], ...]: a resolution has its batch from when it begins to fade in."""
    from spider_plugin.portable.generators.pggan import pggan_resolutions
    if not host.loop_takes('batch_schedule'):
        raise SpiderError('--pg-batch needs a training loop that can change its batch, which this host does not have; leave it '
                          'out, or train with the reference host (spider train).')
    stages, schedule = pggan_resolutions(host.target.resolution), []
    done = _resumed_progress(c, options, host)
    for resolution, batch in sorted(options['pg_batch']):
        share = batch // c['num_gpus']
        if resolution not in stages:
            raise SpiderError(f'--pg-batch={resolution}:{batch}: {resolution}^2 is no stage of --data; name some of '
                              f'{", ".join(map(str, stages))}.')
        if batch < 1 or batch % c['num_gpus'] or (share > c['batch_gpu'] and share % c['batch_gpu']):
            raise SpiderError(f'--pg-batch={resolution}:{batch} does not split into the parts of --gpus={c["num_gpus"]} and '
                              f'--batch-gpu={c["batch_gpu"]}; choose a multiple.')
        begin = max(2 * stages.index(resolution) - 1, 0)
        schedule.append([max(begin - done, 0) * options['pg_kimg'], batch])
    return schedule

def _resumed_progress(c, options, host):
    """Phases that the snapshot to resume from has behind it."""
    if c.get('resume_pkl') is None:
        return 0
    from spider_plugin.snapshots.rebuild import load_generator
    from spider_plugin.snapshots.records import generator_record
    path = host.local_file(c['resume_pkl'])
    tensors = (load_generator(path, trust=True).state_dict() if options['trust_pickle'] else generator_record(path).state_dict())
    return float(tensors.get('synthesis.progress', 0))

def _without_sign_of_D(c, given):
    """Adaptive augmentation steers by the sign of D's outputs at real images, which a critic leaves open."""
    if c.get('ada_target') is None:
        return
    if 'aug' in given:
        raise SpiderError('--aug=ada needs a discriminator whose sign says something, which that of --pg-loss=wgan-gp does not; '
                          'use --aug=noaug, --aug=fixed or --pg-loss=nonsaturating.')
    for name in ('augment_kwargs', 'ada_target', 'ada_kimg', 'augment_p'):
        c.pop(name, None)

def _schedule_lines(c, options, resolution):
    from spider_plugin.portable.generators.pggan import pggan_resolutions
    stages = pggan_resolutions(resolution)
    kimg, phases = options['pg_kimg'], 2 * len(stages) - 1
    grown = (phases - 1) * kimg
    words = f'4^2 to {resolution}^2 in {phases} phases of {kimg:g} kimg: {resolution}^2 has faded in after {grown:g}'
    weight = '' if options['pg_loss'] == 'nonsaturating' else ', no augmentation unless fixed; --gamma is not used'
    lines = [f'{"PGGAN schedule:":<21s}{words}', f'{"PGGAN loss:":<21s}{options["pg_loss"]}{weight}']
    if c.get('resume_pkl') is None and c['total_kimg'] < grown:
        lines.append(f'Warning: --kimg={c["total_kimg"]:g} ends before the images of {resolution}^2 have faded in; for this '
                     f'length, --pg-kimg={c["total_kimg"] / phases:.3g} gives every phase its part.')
    return lines

#----------------------------------------------------------------------------
