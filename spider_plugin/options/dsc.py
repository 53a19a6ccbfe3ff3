"""--dsc: synthesis layers of the config's generator become depthwise separable. --fast: the layers of its generator and its
discriminator, and their optimizers, compute the same functions in less time. Both go over the layers of a host's networks and of
a Spider generator."""

import importlib
import inspect

import click

from spider_plugin import registry
from spider_plugin.errors import SpiderError, shown
from spider_plugin.options.types import Option, Whole, Window

CONVS = {'1': [1], '2': [2], 'both': [1, 2]}    # of a block of FastGAN

#----------------------------------------------------------------------------

GROUP = 'Layer options'

OPTIONS = [
    Option('--dsc',             bool,   False,      None,   'Depthwise separable synthesis layers; with --resume they start from '
           'the dense ones', GROUP),
    Option('--dsc-order',       click.Choice(['depthwise', 'pointwise']), 'depthwise', '[depthwise|pointwise]', 'Which factor of '
           'a layer that upsamples comes first; pointwise runs at low resolution', GROUP),
    Option('--dsc-rank',        Whole(1, 9), 1, 'INT', 'Filters per channel', GROUP),
    Option('--dsc-res',         Window(), None,    'LOW-HIGH', 'Resolutions whose layers are separable  [default: all]', GROUP),
    Option('--dsc-convs',       click.Choice(['1', '2', 'both']), 'both', '[1|2|both]', 'Which of the two convolutions in each '
           'block of FastGAN are separable', GROUP),
    Option('--fast',            bool,   False,      None,   'Layers of StyleGAN2 and StyleGAN3, of generator and discriminator, '
           'compute the same functions in less time and memory in training', GROUP),
]

#----------------------------------------------------------------------------

def apply_layers(c, options, host):
    """Put the layers into the config; return lines for the launch log. Raises SpiderError."""
    lines = []
    if options['fast']:
        _check_layers(c, options, '--fast', 'fast')
        _add(c, 'fast')
        lines += [f'{"Fast layers:":<21s}G factorises its demodulation', _fast_discriminator(c)]
        for network in 'GD':
            fuse_adam(c.get(f'{network}_opt_kwargs', {}))
    if options['dsc']:
        lines += _apply_dsc(c, options, host)
    return lines

def _apply_dsc(c, options, host):
    declared = registry.generators[options['cfg']] if options['cfg'] else None
    before = dict(c['G_kwargs'])
    if not (declared and declared.dsc):
        mixin = _check_layers(c, options, '--dsc', 'dsc')
        if options['dsc_order'] not in mixin.orders:
            raise SpiderError('--dsc-order=pointwise is for layers that upsample by convolution, which StyleGAN3 does not have; '
                              'use depthwise.')
        if 'pointwise' not in mixin.orders and c['G_kwargs'].get('conv_kernel', 3) == 1:
            raise SpiderError('--dsc has nothing to replace in this generator: the layers of StyleGAN3-R are 1x1 already; use '
                              '--cfg=stylegan3-t, or leave it out.')
        _add(c, 'dsc')
        if options['dsc_convs'] != 'both':
            raise SpiderError(f'--dsc-convs={options["dsc_convs"]} is for --cfg=fastgan, whose blocks have two convolutions; '
                              'leave it out.')
    window = options['dsc_res'] or (0, host.target.resolution)
    c['G_kwargs']['dsc'] = dict(order=options['dsc_order'], rank=options['dsc_rank'], res=list(window))
    if declared and declared.dsc:
        c['G_kwargs']['dsc']['convs'] = CONVS[options['dsc_convs']]
    try:
        layers = {name: layer for name, layer in host.networks()['G'].named_modules() if hasattr(layer, 'dw_weight')}
    except SpiderError as error:
        if not isinstance(error.__cause__, ValueError | TypeError | AttributeError):
            _check_dense(type(host)(dict(c, G_kwargs=before)), before['class_name'], error)
            raise
        raise SpiderError(f'--dsc cannot be used with this generator: {error.__cause__}; choose other --dsc-* options, or leave '
                          'it out.') from error
    if not layers:
        raise SpiderError('--dsc leaves every layer of this generator as it is: it has none of --dsc-res='
                          f'{window[0]}-{window[1]} with --dsc-convs={options["dsc_convs"]}; choose others, or leave it out.')
    now = sum(layer.dw_weight.numel() + layer.pw_weight.numel() for layer in layers.values())
    dense = sum(9 * layer.pw_weight[0].numel() for layer in layers.values())
    return [f'{"DSC layers:":<21s}{len(layers)}, {options["dsc_order"]} first, rank {options["dsc_rank"]}; '
            f'{dense / 1e6:.2f}M weights are now {now / 1e6:.2f}M']

def _check_dense(host, class_name, error):
    """Raise SpiderError if the host can build its generator, of that class; `error` says why it cannot with separable layers."""
    from spider_plugin.bundles.names import host_class
    if error.__cause__ is None:
        return
    try:
        host.network('G')
    except Exception:   # of a host's code: then the layers are not at fault
        return
    why = f'{type(error.__cause__).__name__}: {shown(error.__cause__)}'
    raise SpiderError(f'--dsc cannot be used with {host_class(class_name)[1]}, whose layers are built in another '
                      f'way than those of StyleGAN2 and StyleGAN3 ({why}); leave it out.') from error

def _add(c, feature):
    from spider_plugin.bundles.names import class_with
    c['G_kwargs']['class_name'] = class_with(c['G_kwargs']['class_name'], feature)

def _fast_discriminator(c):
    """Give the config's discriminator fast layers if it is StyleGAN2's; return a line for the launch log."""
    from spider_plugin.bundles.names import fast_discriminator
    class_name = c.get('D_kwargs', {}).get('class_name', '')
    try:
        fast = fast_discriminator(class_name)
        module = importlib.import_module(class_name.rpartition('.')[0])
        layer = inspect.signature(module.Conv2dLayer.forward).parameters
    except (ValueError, AttributeError, ImportError):
        return f'{"":<21s}D stays as it is: {class_name} does not have the layers of StyleGAN2'
    if list(layer)[:3] != ['self', 'x', 'gain'] or not hasattr(module, 'conv2d_resample'):
        return f'{"":<21s}D stays as it is: the layers of {class_name} take other arguments than those of StyleGAN2'
    c['D_kwargs']['class_name'] = fast
    return f'{"":<21s}D convolves by kernels for CPUs where it runs on one'

def fuse_adam(optimizer):
    """Let torch's Adam, of the `*_opt_kwargs` of a config, update a weight and its moments in one pass."""
    if optimizer.get('class_name') == 'torch.optim.Adam':
        optimizer['fused'] = True

#----------------------------------------------------------------------------
# Layers are found by capability: a module's SynthesisLayer, whose forward takes the arguments of the plugin's layer.

def _check_layers(c, options, option, feature):
    """Return the mixin for the layers of the config's generator. Raises SpiderError where there is none."""
    from spider_plugin.bundles.names import host_class
    from spider_plugin.portable.layers.dsc import dsc_layer_mixin
    from spider_plugin.portable.layers.modconv import fast_layer_mixin
    if options['cfg']:
        raise SpiderError(f'{option} cannot be used with --cfg={options["cfg"]}, which has no modulated convolutions; leave it '
                          'out.')
    class_name = c['G_kwargs']['class_name']
    try:
        stock = host_class(class_name)[1]
    except ValueError as error:
        raise SpiderError(f'{option} cannot be used with {class_name} ({error}); leave it out.') from error
    module = importlib.import_module(stock.rpartition('.')[0])
    layer = getattr(module, 'SynthesisLayer', None)
    if layer is None:
        raise SpiderError(f'{option} cannot be used with {stock}, which has no SynthesisLayer as StyleGAN2 and StyleGAN3 have; '
                          'use such a configuration, or leave it out.')
    mixin = dict(dsc=dsc_layer_mixin, fast=fast_layer_mixin)[feature](module)
    wanted, taken = (inspect.signature(cls.forward).parameters for cls in (layer, mixin))
    unknown = [name for name, parameter in wanted.items() if name not in taken and parameter.default is parameter.empty
               and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)]
    if unknown:
        raise SpiderError(f'{option} cannot be used with {stock}, whose layers need {unknown[0]}, which those of the plugin '
                          'do not take; leave it out.')
    return mixin

#----------------------------------------------------------------------------
# A snapshot resumes with the same separable layers: in another order, tensors of the same shape mean something else.

def check_resumed_dsc(c, before):
    """Raise SpiderError where the config does not fit `before`, the `dsc` of the pickled generator, None for a dense one."""
    now = c['G_kwargs'].get('dsc')
    if before is None:
        return
    if now is None:
        raise SpiderError(f'--resume={c["resume_pkl"]} was trained with --dsc; pass it again.')
    for key in ('order', 'rank', 'res'):
        if list(_tuple(before.get(key))) != list(_tuple(now[key])):
            text = '-'.join(map(str, _tuple(before.get(key))))
            raise SpiderError(f'--resume={c["resume_pkl"]} was trained with --dsc-{key}={text}; pass that.')
    convs = list(before.get('convs', CONVS['both']))
    if convs != list(now.get('convs', CONVS['both'])):
        text = next(name for name, listed in CONVS.items() if listed == convs)
        raise SpiderError(f'--resume={c["resume_pkl"]} was trained with --dsc-convs={text}; pass that.')

def _tuple(value):
    return tuple(value) if isinstance(value, (list, tuple)) else (value,)

#----------------------------------------------------------------------------
