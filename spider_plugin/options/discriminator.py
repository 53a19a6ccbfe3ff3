"""--disc=projected: Projected GAN's discriminator and its hinge loss in place of the host's, whatever the generator is, and what
its authors advise to change in a StyleGAN2 generator.

An entry of registry.discriminators is a PluginDiscriminator."""

import dataclasses
from collections.abc import Callable

import click

from spider_plugin import registry
from spider_plugin.errors import SpiderError
from spider_plugin.options.dsc import fuse_adam
from spider_plugin.options.generators import ProjectedDefaults, needed_package, network_class
from spider_plugin.options.packages import check_config, check_module, foreign, of_package, parts_with_a_class
from spider_plugin.options.types import MOST_SIDE, Blur, Option, Whole

#----------------------------------------------------------------------------

GROUP = 'Discriminator options'

OPTIONS = [
    Option('--disc',            str,    None,       '[projected]', 'Discriminator and loss in place of the host\'s: projected, '
           'that of Projected GAN', GROUP),
    Option('--disc-backbone',   str,    'tf_efficientnet_lite0', 'NAME[:PATH]', 'Its feature network, with its weights from a '
           'file: tf_efficientnet_lite0 to lite4, random, or any of timm where that is installed', GROUP),
    Option('--disc-heads',      click.Choice(['standard', 'separable']), None, None, 'Its heads  [default: standard for FastGAN, '
           'separable otherwise]', GROUP),
    Option('--disc-maps',       Whole(1, 4), None,  'INT', 'How many of its four feature maps have a head, from the coarsest '
           'on: fewer are faster  [default: 4]', GROUP),
    Option('--disc-blur',       Blur(), None,      'SIGMA[:KIMG]', 'Blur of the images that it sees, in pixels, and when it is '
           'gone  [default: 0 for FastGAN and where a run is resumed, 2:300 otherwise]', GROUP),
    Option('--disc-size',       Whole(1, MOST_SIDE), None, 'INT', 'Side at which its feature network sees the images: less is '
           'faster  [default: 224 for smaller images, their own otherwise]', GROUP),
    Option('--disc-skips',      click.BOOL, None,   'BOOL', 'false: a StyleGAN2 generator makes colours in its last block only, '
           'as its authors advise', GROUP),
    Option('--disc-embed',      click.BOOL, True,   'BOOL', 'Snapshots carry the feature network, not its path only', GROUP),
]

#----------------------------------------------------------------------------
@dataclasses.dataclass(frozen=True)
class PluginDiscriminator:
    """edit(c, options, given, host): puts the network and its loss into the host's config; a list of lines for the launch log.
    module:     dotted name of the portable module that holds its class; None: the class stays in its package."""

    edit:   Callable
    module: str | None = None

    def check(self, name):
        """Raise SpiderError for values that cannot be; the registry calls it."""
        check_module(f'discriminator {name!r}', self.module)

# Rates of the public code; for StyleGANs its authors' advice (issue 65 of autonomousvision/stylegan-xl) and that code's blur.

FASTGAN  = ProjectedDefaults(heads='standard',  dlr=2e-4, blur=0.0)
STYLEGAN = ProjectedDefaults(heads='separable', dlr=2e-3, blur=2.0)
_FAMILIES = {'fastgan': FASTGAN}    # of hosts; the other ones are StyleGANs
BETAS, BLUR_KIMG, LEAST_SIZE = [0.0, 0.99], 300.0, 128

_USELESS = {'style_mixing': '--style-mixing', 'pl_weight': '--pl-weight', 'freezed': '--freezed'}

def apply_disc(c, options, given, host):
    """Lines for the launch log; none without --disc."""
    if options['disc'] is None:
        lonely = sorted(key for key in given if key.startswith('disc_'))
        if lonely:
            raise SpiderError(f'--{lonely[0].replace("_", "-")} has no effect without --disc=projected; add that, or '
                              'leave it out.')
        return []
    declared, what = registry.discriminators.lookup(options['disc'], '--disc'), f'--disc={options["disc"]}'
    if not foreign(declared.module):
        return declared.edit(c, options, given, host)
    before = parts_with_a_class(c)
    with of_package(what):
        lines = list(declared.edit(c, options, given, host) or [])
    check_config(c, before, what)
    return lines + needed_package(declared.module, what)

#----------------------------------------------------------------------------

MODULE = 'spider_plugin.portable.discriminator.projected'
HINGE  = 'spider_plugin.training.hinge.ProjectedHingeLoss'

def edit_projected(c, options, given, host):
    from spider_plugin.weights import origin, prepare_backbone
    for key in sorted(given & set(_USELESS)):
        raise SpiderError(f'{_USELESS[key]} has no effect with --disc=projected; leave it out.')
    if host.target.channels not in (1, 3):
        raise SpiderError(f'--disc=projected sees grey or RGB images, and those of --data have {host.target.channels} channels; '
                          'convert them.')
    new, defaults = type(c['G_kwargs']), _defaults(options['cfg'], host)
    name, weights = prepare_backbone(options['disc_backbone'])
    heads = options['disc_heads'] or defaults.heads
    c['D_kwargs'] = new(class_name=network_class(MODULE, 'ProjectedDiscriminator'), backbone=name, weights=weights,
                        heads=heads, embed=options['disc_embed'], precision='float32' if 'fp32' in given else 'float16')
    if 'dlr' not in given:
        c['D_opt_kwargs']['lr'] = defaults.dlr
    c['D_opt_kwargs']['betas'] = list(BETAS)
    if defaults == FASTGAN:     # whose G has fused Adam too
        fuse_adam(c['D_opt_kwargs'])
    if options['disc_size'] is not None:
        c['D_kwargs']['feature_resolution'] = _size(options['disc_size'])
    if options['disc_maps'] not in (None, 4):
        c['D_kwargs']['maps'] = options['disc_maps']
    augmentation = _augmentation(c, given)
    blur, fade = _blur(c, options, defaults.blur)
    c['loss_kwargs'] = new(class_name=HINGE, blur_init_sigma=blur,
                           blur_fade_kimg=fade)
    c['G_reg_interval'] = c['D_reg_interval'] = None
    weight_lines = [] if weights is None else [
        ('Feature weights', f'{origin(options["disc_backbone"])}, sha256 {_digest(weights)[:12]}')]
    lines = _drop_skips(c, host) if options['disc_skips'] is False else []
    _check_resumed(c, name, weights, options, host)
    return lines + [f'{title + ":":<21s}{value}' for title, value in (
        ('Discriminator',   f'projected, {heads} heads on {_of_maps(options["disc_maps"])}{name}' +
                            (' (random weights)' if weights is None else '')),
        *weight_lines,
        ('D augmentation',  augmentation),
        ('D blur',          f'{blur:g} pixels, gone after {fade:g} kimg' if blur else 'none'),
        ('Switched off',    'R1 (--gamma), path length, style mixing'))]

registry.discriminators.register('projected')(PluginDiscriminator(edit_projected, MODULE))

def _defaults(cfg, host):
    """The ProjectedDefaults of the generator that will train."""
    if cfg is not None:
        return registry.generators[cfg].projected or STYLEGAN
    return _FAMILIES.get(host.generator_family(), STYLEGAN)

# DiffAugment is a part of D. The host's adaptive augmentation brought nothing on top of it in Projected GAN, and stays only
# where the user asks for it.

def _augmentation(c, given):
    if given & {'aug', 'p', 'target', 'augpipe'}:
        if c.get('augment_kwargs') is not None:
            return 'DiffAugment, after that of --aug'
        c['D_kwargs']['augment'] = False
        return 'none, as --aug says'
    for key in ('augment_kwargs', 'ada_target', 'augment_p', 'ada_kimg'):
        c.pop(key, None)
    return 'DiffAugment'

def _blur(c, options, default):
    """(sigma in pixels, kimg until it is gone)."""
    sigma, kimg = options['disc_blur'] or (None, None)
    if sigma is None:
        sigma = 0.0 if c.get('resume_pkl') is not None else default     # D has seen details already.
    kimg = BLUR_KIMG if kimg is None else kimg
    return (sigma, kimg) if sigma and kimg else (0.0, 0.0)

def _of_maps(number):
    return '' if number in (None, 4) else f'{number} of 4 maps of '

def _size(size):
    if size % 32 != 0 or size < LEAST_SIZE:
        raise SpiderError(f'--disc-size={size}: the feature network needs a multiple of 32 pixels, {LEAST_SIZE} at least; give '
                          f'{max(round(size / 32) * 32, LEAST_SIZE)}.')
    return size

def _has_skips(kwargs):
    return kwargs.get('synthesis_kwargs', kwargs).get('architecture') != 'orig'

def _drop_skips(c, host):
    """A StyleGAN2 generator that makes colours in its last block only, as StyleGAN does."""
    if not host.generator_has('architecture', 'skip'):
        raise SpiderError(f'--disc-skips=false has no effect on {c["G_kwargs"]["class_name"]}, which does not add an image at '
                          'each resolution; leave it out.')
    c['G_kwargs'].get('synthesis_kwargs', c['G_kwargs'])['architecture'] = 'orig'
    return [f'{"Generator:":<21s}colours in its last block only']

def _digest(weights):
    """The sha256 that a file of prepare_backbone has of the published one."""
    import torch
    return torch.load(weights, weights_only=True)['sha256']

def _check_resumed(c, name, weights, options, host):
    """Heads are worth nothing on other features, and a generator's features not much to other colour layers."""
    if c.get('resume_pkl') is None or options['trust_pickle']:
        return
    from spider_plugin.snapshots.records import PersistentRecord, read_pickle
    contents = read_pickle(host.local_file(c['resume_pkl']))
    generator = contents.get('G_ema') or contents.get('G')
    has_skips = _has_skips(getattr(generator, 'init_kwargs', {}))
    if has_skips != _has_skips(c['G_kwargs']) and not options['spider_force']:
        raise SpiderError(f'--resume={c["resume_pkl"]} was trained with{"" if has_skips else "out"} skip connections in its '
                          f'generator; give --disc-skips={"true" if has_skips else "false"}, or pass --spider-force.')
    record = contents.get('D')
    for part in ('feature_network', 'features'):
        if isinstance(record, PersistentRecord):
            record = record.state.get('_modules', {}).get(part, record.state.get(part))
    if not isinstance(record, PersistentRecord) or 'sha256' not in record.state:
        return
    now = '' if weights is None else _digest(weights)
    before = record.state['sha256']
    if before != now and not options['spider_force']:
        raise SpiderError(f'--resume={c["resume_pkl"]} was trained with the feature network {record.state.get("name")} (sha256 '
                          f'{before[:12] or "none"}), not {name} ({now[:12] or "none"}); give that one as --disc-backbone, or '
                          'pass --spider-force.')

#----------------------------------------------------------------------------
