"""--resume with an option of the plugin: a snapshot continues with the source it was trained with, a stock generator starts as it
is, and the tensors that fit are copied by a plan."""

import pkgutil

from spider_plugin import registry
from spider_plugin.errors import SpiderError, shown
from spider_plugin.options.dsc import check_resumed_dsc
from spider_plugin.options.generators import IMAGE
from spider_plugin.options.packages import of_package

#----------------------------------------------------------------------------

def resume_spider(c, options, source, classes, host):
    """(gain of the residual, whether its skip is learned where no option says so or None for a fresh one, lines for the launch
    log)."""
    if c.get('resume_pkl') is None:
        return 1.0, None, []
    from spider_plugin.portable.source.arguments import SpiderArguments
    spider, identity = _resumed_spider(host.local_file(c['resume_pkl']), options['trust_pickle'])
    try:
        spider = _checked(SpiderArguments.read(spider))
    except (ValueError, TypeError) as error:
        raise SpiderError(f'--resume={c["resume_pkl"]}: {shown(error)}; give a snapshot of this version or '
                          'an earlier one.') from error
    if spider is None:
        if registry.mappings[options['spider_mapping']].needs != IMAGE:
            return 1.0, False, []
        return 0.0, False, ['Spider resume:       a stock generator, so the source starts at gain 0 and the images as they were']
    for what, before, now in (('mapping', spider.mapping, options['spider_mapping']),
                              ('source', _describe(identity), _describe(source.identity)),
                              ('source classes', spider.classes, classes)):
        if before != now and not options['spider_force']:
            raise SpiderError(f'--resume={c["resume_pkl"]} was trained with the {what} {shown(before)}, not {now}; give that '
                              'one, or pass --spider-force.')
    return spider.gain, spider.learn_skip, []

def resume_from_what_fits(c, options, host):
    """Points the host at a pickle of the tensors that fit; lines for the launch log."""
    if c.get('resume_pkl') is None:
        return []
    from spider_plugin.snapshots.rebuild import unpickle
    from spider_plugin.snapshots.records import read_pickle
    from spider_plugin.snapshots.resume_plan import convert
    path = host.local_file(c['resume_pkl'])
    contents = unpickle(path) if options['trust_pickle'] else read_pickle(path)
    lines = [f'{"Resume from:":<21s}{c["resume_pkl"]}']
    generator = contents.get('G_ema') or contents.get('G')
    dsc_before = getattr(generator, 'init_kwargs', {}).get('dsc')
    check_resumed_dsc(c, dsc_before)
    fit = _fit(options['cfg'], c, fresh_layers=dsc_before is None and 'dsc' in c['G_kwargs'])
    c['resume_pkl'], plans, fits = convert(path, contents, host.networks(), fit)
    for layer, error in fits.items():
        lines.append(f'{"":<21s}{layer}: fitted to the dense kernel, relative error {error:.2f}')
    return lines + [f'{"":<21s}{plan.line()}' for plan in plans.values()]

def _fit(cfg, c, fresh_layers):
    """The function that makes a dense snapshot's tensors fit the separable layers of --cfg.

    fresh_layers: whether the config has such layers and the snapshot none. Raises SpiderError where they cannot be fitted."""
    from spider_plugin.snapshots.warm_start import fit_layers
    if cfg is None:
        return fit_layers
    name = registry.generators[cfg].warm_start
    if name is not None:
        with of_package(f'--cfg={cfg}'):
            fit = pkgutil.resolve_name(name)
        return fit if name.startswith('spider_plugin.') else _fit_of_package(cfg, fit)
    if fresh_layers:
        raise SpiderError(f'--dsc cannot start from --resume={c["resume_pkl"]}, which was trained without it: --cfg={cfg} '
                          'declares no way to fit its layers to dense ones; leave --dsc out.')
    return lambda state, network: (state, {})

def _fit_of_package(cfg, fit):
    def fitted(state, network):
        with of_package(f'--cfg={cfg} with --dsc and --resume'):
            state, errors = fit(state, network)
            return dict(state), {str(layer): float(error) for layer, error in errors.items()}
    return fitted

def _resumed_spider(path, trust):
    """(the `spider` argument of the pickled generator, its source's identity); (None, None) for a stock generator."""
    from spider_plugin.snapshots.lineage import cascade_stages
    from spider_plugin.snapshots.rebuild import checked_bank_state, load_generator
    from spider_plugin.snapshots.records import generator_record
    if trust:
        generator = load_generator(path, trust=True)
        source = generator.__dict__.get('source')
        return getattr(generator, 'init_kwargs', {}).get('spider'), source and source.identity
    record = generator_record(path)
    spider = record.init_kwargs.get('spider')
    try:
        state = checked_bank_state(record)
    except ValueError as error:
        raise SpiderError(f'--resume={path} holds {shown(error)}; give a complete snapshot of spider-plugin.') from error
    if spider is not None and state is None:
        raise SpiderError(f'--resume={path} holds a Spider generator without its source; give a complete snapshot of '
                          'spider-plugin.')
    return spider, state and cascade_stages(state['identity'], path)[0]

def _checked(spider):
    """The SpiderArguments, whose gain and factor go into the config. Raises ValueError where a file holds others than the
    plugin writes."""
    if spider is not None and not (isinstance(spider.mapping, str) and isinstance(spider.gain, (int, float))
                                   and 0 <= spider.gain <= 1 and isinstance(spider.learn_skip, bool)):
        raise ValueError('its `spider` argument has entries of other types')
    return spider

def _describe(identity):
    return '{name} ({transform}, sha256 {sha256:.12})'.format(**identity)

#----------------------------------------------------------------------------
