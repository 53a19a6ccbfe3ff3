"""Presets: the options of a published recipe by one name, `--preset=NAME`, a file each in configs/.

A file says for each option what it is, whether that is known, and from where; the rest of it is for people. What the user gives
wins, on the command line or by an environment variable: a preset gives defaults, and click does the rest."""

from pathlib import Path

import click

from spider_plugin.errors import SpiderError, shown
from spider_plugin.files.limits import MOST_JSON, parse_json, read_file
from spider_plugin.options.types import path_type
from spider_plugin.resources import resource_dir

_FIELDS = ('title', 'data', 'options', 'unknown', 'hardware', 'time')
_DATA   = ('name', 'resolution', 'channels', 'classes', 'images')

#----------------------------------------------------------------------------
# Files.

def names():
    """Those of the presets that come with the plugin, sorted."""
    return sorted(path.stem for path in resource_dir('configs').glob('*.json'))

def load(name):
    """The preset `name`, or that in a .json file of the user's; a dict with the entries of _FIELDS, and `name`.

    options is {name of an option without its dashes: dict(value, known: bool, source)}. Raises SpiderError."""
    path = Path(name) if name.endswith('.json') else resource_dir('configs') / f'{name}.json'
    if not name.endswith('.json') and name not in names():
        raise SpiderError(f'--preset={name} is not a known preset; choose from {", ".join(names())}, or give a .json file.')
    try:
        preset = parse_json(read_file(path, MOST_JSON))
    except (OSError, ValueError) as error:
        raise SpiderError(f'--preset={name} cannot be read ({shown(error)}); give a JSON file like those that `spider presets` '
                          'shows.') from error
    options = preset.get('options') if isinstance(preset, dict) else None
    if not isinstance(options, dict) or not all(isinstance(entry, dict) and 'value' in entry for entry in options.values()):
        raise SpiderError(f'--preset={name} has no "options" of the form {{"gamma": {{"value": 5}}}}; write it like one of those '
                          'that `spider presets NAME --json` shows.')
    return dict(dict.fromkeys(_FIELDS), **preset, name=Path(name).stem)

#----------------------------------------------------------------------------
# Use: a command's defaults.

NAME = '--preset'

def option(cls, name=NAME, **kwargs):
    """The click option --preset, of a class of the caller's. It is read before all others.

    name: what to call it where a host has an option of its name."""
    return cls([name], metavar='[NAME|FILE.json]', type=path_type, is_eager=True, expose_value=False, callback=_use,
               help='Defaults from a recipe that `spider presets` lists; what you give yourself wins', **kwargs)

def _use(ctx, _param, name):
    if name is None:
        return
    preset = load(name)
    params = {text.lstrip('-'): param for param in ctx.command.params for text in (*param.opts, *param.secondary_opts)}
    params |= {param.plugin_name.lstrip('-'): param for param in ctx.command.params if hasattr(param, 'plugin_name')}
    defaults, lacking = {}, []
    for key, entry in preset['options'].items():
        if key not in params:
            lacking.append(key)
            continue
        _check_choice(preset, key, params[key], entry['value'])
        defaults[params[key].name] = entry['value']
    ctx.default_map = {**defaults, **(ctx.default_map or {})}
    ctx.meta[__name__] = preset, {params[key].name: key for key in preset['options'] if key in params}, lacking

def _check_choice(preset, key, param, value):
    if isinstance(param.type, click.Choice) and value not in param.type.choices:
        raise SpiderError(f'--preset={preset["name"]} needs --{key}={value}, which this host does not have (it has '
                          f'{", ".join(param.type.choices)}); train in a host that has it, `spider train` for example.')

def launch_lines(ctx):
    """Return the lines of the launch log about the preset in use."""
    if __name__ not in ctx.meta:
        return []
    preset, keys, lacking = ctx.meta[__name__]
    preset_keys = [key for name, key in keys.items() if ctx.get_parameter_source(name) == click.core.ParameterSource.DEFAULT_MAP]
    user_keys = [key for key in keys.values() if key not in preset_keys]
    lines = [f'{"Preset:":<21s}{preset["name"]} ({preset["title"]})',
             f'{"Preset options:":<21s}{" ".join(_shown(key, preset["options"][key]) for key in preset_keys) or "none"}']
    if user_keys:
        lines.append(f'{"Yours instead:":<21s}{" ".join(f"--{key}" for key in user_keys)}')
    if lacking:
        lines.append(f'{"Preset leaves out:":<21s}{" ".join(_shown(key, preset["options"][key]) for key in lacking)}, which this '
                     'host does not have; its own defaults hold')
    return lines

def target_lines(ctx, resolution):
    """Return a line for the launch log where the preset in use was made for images of another resolution than --data has."""
    preset = ctx.meta[__name__][0] if __name__ in ctx.meta else {}
    made_for = (preset.get('data') or {}).get('resolution')
    if made_for is None or resolution is None or made_for == resolution:
        return []
    return [f'Note: --preset={preset["name"]} is a recipe for {made_for}x{made_for} images, but --data has '
            f'{resolution}x{resolution}: --gamma and the widths may not suit them.']

def _shown(key, entry):
    value = entry['value']
    return f'--{key}={str(value).lower() if isinstance(value, bool) else value}'

#----------------------------------------------------------------------------
# Reading them: `spider presets`, docs/presets.md.

def table(presets):
    """Lines for a terminal."""
    rows = [('name', 'data', 'side', 'what it is')]
    rows += [(p['name'], p['data']['name'], str(p['data']['resolution']), p['title']) for p in presets]
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    return ['  '.join([*(cell.ljust(width) for cell, width in zip(row, widths)), row[3]]) for row in rows]

def show(preset):
    """Lines for a terminal: all that is known of one."""
    options = [(_shown(key, entry), 'known' if entry.get('known') else 'assumed', entry.get('source', ''))
               for key, entry in preset['options'].items()]
    width = max(len(text) for text, _, _ in options)
    data = ', '.join(f'{key} {preset["data"][key]}' for key in _DATA[1:]) if preset['data'] else 'unknown'
    return [f'{preset["name"]}: {preset["title"]}',
            f'  data:      {preset["data"]["name"] if preset["data"] else "any"} ({data})',
            f'  hardware:  {preset["hardware"] or "unknown"}',
            f'  time:      {preset["time"] or "unknown"}',
            f'  unknown:   {"; ".join(preset["unknown"] or []) or "nothing"}',
            *(f'  {text.ljust(width)}  {state:<7s}  {source}' for text, state, source in options)]

def markdown():
    """docs/presets.md from its first table on: what tests compare it with."""
    presets = [load(name) for name in names()]
    lines = ['| preset | data | side | images | hardware | time |', '|---|---|---|---|---|---|']
    lines += [f'| [`{p["name"]}`](#{p["name"]}) | {p["data"]["name"]} | {p["data"]["resolution"]} | {p["data"]["images"]} | '
              f'{p["hardware"] or "unknown"} | {p["time"] or "unknown"} |' for p in presets]
    for p in presets:
        lines += ['', f'## {p["name"]}', '', f'{p["title"]}.', '', '| option | | from |', '|---|---|---|']
        lines += [f'| `{_shown(key, entry)}` | {"known" if entry["known"] else "assumed"} | {entry["source"]} |'
                  for key, entry in p['options'].items()]
        lines += ['', f'Unknown: {"; ".join(p["unknown"]) or "nothing"}.']
    return '\n'.join(lines) + '\n'

#----------------------------------------------------------------------------
