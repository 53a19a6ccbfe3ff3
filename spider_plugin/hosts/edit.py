"""`spider_plugin.edit_config`: the options for a training script that no hook can reach, because it has no click command or no
launch function that is known."""

import copy
import difflib
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from spider_plugin import registry
from spider_plugin.errors import SpiderError
from spider_plugin.hosts.capabilities import Host, import_name
from spider_plugin.hosts.data import check_host_data
from spider_plugin.options import packages
from spider_plugin.options.table import all_options, apply_options

Config = TypeVar('Config', bound=dict[str, Any])

# The entries of a host's config that options edit, or ask about.
PARTS = ('training_set_kwargs', *packages.PARTS)

def edit_config(config: Config, options: Sequence[str] | Mapping[str, Any], *, host: str | Path | None = None,
                given: Collection[str] = (), log: Callable[[str], object] = print) -> Config:
    """Return a copy of a host's config that trains as the plugin's options say. It holds class names and JSON values only, so it
    can be saved and sent to other processes.

        args, rest = parser.parse_known_args()
        config = spider_plugin.edit_config(config, rest)

    config:     dict with the entries of StyleGAN2/3-style hosts: `training_set_kwargs` (class_name of the data set, path) and
                `G_kwargs` (class_name of the generator) always; `D_kwargs`, `G_opt_kwargs`, `D_opt_kwargs`, `loss_kwargs`
                and `resume_pkl` where an option edits them. Class names are dotted names that can be imported.
    options:    a command line, ['--spider-source=photos.zip', '--dsc'], or a mapping, {'spider_source': 'photos.zip',
                'dsc': True} (None: not given). docs/options.md lists them; besides, `--cfg` takes a plugin generator's name.
    host:       folder of the code that the class names are in; it goes first on sys.path. None: they can be imported already.
    given:      names of the host's options that its user set, such as 'glr', which a plugin generator then leaves as they are.
    log:        gets each line of the launch log.
    Raises SpiderError: for what cannot be used, before anything is built or trained."""
    if host is not None and str(Path(host).absolute()) not in sys.path:
        sys.path.insert(0, str(Path(host).absolute()))
    for part in PARTS[:2]:
        if 'class_name' not in config.get(part, {}):
            raise SpiderError(f'The config has no {part} with a class_name; give the config of a StyleGAN-like host, as a dict.')
    values, named = _from_mapping(options) if isinstance(options, Mapping) else _from_command_line(options)
    if values['cfg'] is not None:
        registry.generators.lookup(values['cfg'], '--cfg')
    edited = copy.deepcopy(config)
    data = edited['training_set_kwargs']
    try:
        lines = check_host_data(data.get('path'), _class_of(data['class_name'])) if named else []
        lines += apply_options(edited, values, given=named | set(given), host=Host(edited))
    except KeyError as error:
        if error.args[0] not in PARTS:
            raise
        raise SpiderError(f'The config has no {error.args[0]}, which {_shown(named)} edits; add it, or leave the option '
                          'out.') from error
    for line in lines:
        log(line)
    return edited

def _class_of(class_name: str) -> type | None:
    """Return the class of a data set; None where it cannot be imported, which whoever opens it says."""
    try:
        return import_name(class_name)
    except (ImportError, AttributeError):
        return None

def _shown(named: set[str]) -> str:
    return ' or '.join(f'--{key.replace("_", "-")}' for key in sorted(named))

#----------------------------------------------------------------------------
# ({key: value} of all options, the keys that were given).

def _command() -> click.Command:
    return click.Command('edit_config', params=[*(option.on_command() for option in all_options()), click.Option(['--cfg'])],
                         add_help_option=False)

def _from_command_line(args: Sequence[str]) -> tuple[dict[str, Any], set[str]]:
    if isinstance(args, str):
        raise SpiderError(f'options={args!r} is one string; give a list of strings, such as ["--dsc"], or a mapping.')
    try:
        context = _command().make_context('edit_config', list(args))
    except click.ClickException as error:
        raise SpiderError(error.format_message()) from error
    asked = {name for name in context.params if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE}
    return context.params, asked

def _from_mapping(options: Mapping[str, Any]) -> tuple[dict[str, Any], set[str]]:
    command = _command()
    params = {str(param.name): param for param in command.params}
    context = command.make_context('edit_config', [])
    values, asked = dict(context.params), set()
    for key, value in options.items():
        if key not in params:
            near = difflib.get_close_matches(key, params, n=1)
            remedy = f'did you mean {near[0]!r}?' if near else 'docs/options.md lists them.'
            raise SpiderError(f'{key!r} is no option of the plugin; {remedy}')
        if value is None:
            continue
        try:
            values[key] = params[key].type_cast_value(context, value)
        except click.ClickException as error:
            raise SpiderError(f'{key}={value!r}: {error.message}') from error
        if values[key] != context.params[key]:
            asked.add(key)
    return values, asked

#----------------------------------------------------------------------------
