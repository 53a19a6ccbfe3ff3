"""What is asked of the declarations of other packages, so that their mistakes are sentences before training and end no rank."""

import contextlib
import json
import re
from collections.abc import Iterator

from spider_plugin import registry
from spider_plugin.errors import SpiderError, out_of_memory, shown
from spider_plugin.options.types import Option

#----------------------------------------------------------------------------

def check_module(what, module):
    """Raise SpiderError for a text that names no module."""
    if module is not None and not all(part.isidentifier() for part in module.split('.')):
        raise SpiderError(f'The module of the {what} is {module!r}; give a dotted name, such as __name__.')

def check_options(what, options):
    """Raise SpiderError for options of a generator that cannot be, or whose name is taken by the plugin or another generator."""
    from spider_plugin.options.table import OPTIONS
    for option in options:
        if not isinstance(option, Option) or not re.fullmatch('--[a-z][a-z0-9-]*', str(option.name)):
            raise SpiderError(f'The options of the {what} hold {option!r}; give an Option with a name such as --my-width.')
        if option.key in {'cfg', 'preset', *(known.key for known in OPTIONS)}:
            raise SpiderError(f'The option {option.name} of the {what} has the name of an option of the plugin; give it another '
                              'name.')
        for name, declared in registry.generators.registered().items():
            if any(known.name == option.name and known != option for known in declared.options):
                raise SpiderError(f'The option {option.name} of the {what} has the name of an option of the generator {name!r}; '
                                  'give it another name.')

def foreign(module):
    """Return whether a declaration with that module, or with None, is one of another package."""
    return module is None or not module.startswith('spider_plugin.')

@contextlib.contextmanager
def of_package(what: str) -> Iterator[None]:
    """Raise what code of another package raises as a SpiderError; what: the option that it serves, with its value."""
    try:
        yield
    except Exception as error:
        if isinstance(error, SpiderError) or out_of_memory(error):
            raise
        raise SpiderError(f'{what} failed in the code of its package ({type(error).__name__}: {shown(error)}); report it to the '
                          f'author of the package, or leave {what} out.') from error

#----------------------------------------------------------------------------
# The config after an edit, and the generator that is built of it.

PARTS = ('G_kwargs', 'D_kwargs', 'G_opt_kwargs', 'D_opt_kwargs', 'loss_kwargs')

def parts_with_a_class(c):
    """Return the parts of a config that name a class."""
    return [part for part in PARTS if isinstance(c.get(part), dict) and 'class_name' in c[part]]

def check_config(c, before, what):
    """Raise SpiderError where the edit of another package left a part of the config that cannot train.

    before: what parts_with_a_class returned before the edit; what: the option with its value."""
    for part in before:
        entry = c.get(part)
        if not isinstance(entry, dict) or not isinstance(entry.get('class_name'), str):
            raise SpiderError(f'{what} leaves {part} without a class_name; report it to the author of its package.')
        try:
            json.dumps(entry)
        except (TypeError, ValueError) as error:
            raise SpiderError(f'{what} puts a value into {part} that is no JSON ({shown(error)}); report it to the author of its '
                              'package.') from error

# Attributes that hosts and tools read of a generator.
_READ = ('z_dim', 'c_dim', 'img_resolution', 'img_channels', 'num_ws', 'mapping', 'synthesis')

def check_build(c, options, host):
    """Build the generator of the config here, where a module of another package has a part in it: an error would end a rank.

    A generator without a module is not built. Raises SpiderError."""
    mapping = (c['G_kwargs'].get('spider') or {}).get('mapping')    # as given, by default, or that of the resumed snapshot
    kind = None if mapping is None else registry.mappings[mapping]
    declared = registry.generators[options['cfg']] if options['cfg'] is not None else None
    modules = {f'--cfg={options["cfg"]}': declared and declared.module, f'--spider-mapping={mapping}': kind and kind.module}
    parts = [option for option, module in modules.items() if module is not None and foreign(module)]
    if parts:
        what = ' with '.join(parts)
        with of_package(what):
            generator = host.network('G')
        lacking = [name for name in _READ if not hasattr(generator, name)]
        if declared is not None and lacking:
            raise SpiderError(f'{what} makes a generator without {lacking[0]}, which hosts read; report it to the author of its '
                              'package.')

#----------------------------------------------------------------------------
