"""All options of the plugin, in the order of the help, and the edit they make to a host's config.

Options are read in the parent process. The edit leaves only class names and JSON values in the config `c`: the host itself
prints and saves it, and its spawned ranks get it. Every error a user can make is raised here, before training starts."""

from spider_plugin import registry
from spider_plugin.errors import SpiderError
from spider_plugin.options import discriminator, dry, dsc, generators, pggan, recompute, spider, state, steady, track
from spider_plugin.options.packages import check_build
from spider_plugin.options.resume import read_resumed, resume_from_what_fits
from spider_plugin.options.types import Option

#----------------------------------------------------------------------------

OPTIONS = [*spider.OPTIONS, *pggan.OPTIONS, *recompute.OPTIONS, *dsc.OPTIONS, *discriminator.OPTIONS, *steady.OPTIONS,
           *state.OPTIONS, *track.OPTIONS, *dry.OPTIONS]

def all_options() -> list[Option]:
    """Return OPTIONS, the plugin's, and those that generators bring, each once, in the order of the help."""
    brought = [option for declared in registry.generators.values() for option in declared.options]
    return [*OPTIONS, *(option for i, option in enumerate(brought) if option not in brought[:i])]

#----------------------------------------------------------------------------

def apply_options(c, options, *, given, host):
    """Edit a host's config in place; return lines for the launch log.

    c:        the config, a dict that the host is about to print and save.
    options:  {key: value} of every entry of all_options(), and `cfg`: a name in registry.generators, or None for a host's own.
    given:    names of the parameters, the plugin's and the host's, that the user set.
    host:     answers questions about the host (hosts/capabilities.py): target, generator(), loss_keyword(name), local_file(path).
    Raises SpiderError."""
    _check_brought(options, given)
    resume = c.get('resume_pkl')
    lines = generators.apply_generator(c, options, given, host)
    lines += pggan.apply_progressive(c, options, given, host) + discriminator.apply_disc(c, options, given, host)
    resumed = read_resumed(c, options, host)
    if options['spider_source'] is not None or resumed is not None and resumed.spider is not None:
        lines += spider.apply_spider(c, options, given, host, resumed)
    elif lonely := [option.name for option in spider.OPTIONS if option.key in given
                    and not (option.key in ('spider_force', 'trust_pickle') and c.get('resume_pkl') is not None)]:
        raise SpiderError(f'{lonely[0]} has no effect without --spider-source; give a source of images, or leave it out.')
    if not options['dsc'] and (lonely := [option.name for option in dsc.OPTIONS if option.name.startswith('--dsc-')
                                          and option.key in given]):
        raise SpiderError(f'{lonely[0]} has no effect without --dsc; pass both, or leave it out.')
    lines += dsc.apply_layers(c, options, host)
    check_build(c, options, host)
    lines += resume_from_what_fits(c, options, host, resumed)
    if options['recompute']:
        lines += recompute.apply_recompute(c, host)
    lines += steady.apply_steady(c, options)
    return lines + state.apply_state(c, options, resume, host) + track.apply_track(c, options, host)

def _check_brought(options, given):
    """Raise SpiderError for an option that a generator brings where another one trains."""
    for option in all_options():
        names = [name for name, declared in registry.generators.items() if option in declared.options]
        if option.key in given and names and options['cfg'] not in names:
            raise SpiderError(f'{option.name} has no effect without --cfg={" or ".join(names)}; leave it out.')

#----------------------------------------------------------------------------
