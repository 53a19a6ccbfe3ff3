"""Writes docs/api.md from the signatures and docstrings of the public names, and docs/options.md from the table of options.

    python -m tools.make_docs           writes both files
    python -m tools.make_docs --check   exit code 1 where one of them is not what the code says; writes nothing

The code stays the one place of every text: change a docstring or a help text, then run this."""

import ast
import dataclasses
import inspect
import re
import sys
import textwrap
from pathlib import Path

import click

import spider_plugin
import torch_utils_ext
from spider_plugin.automatic import command
from spider_plugin.evaluation import RankedSource
from spider_plugin.options import presets
from spider_plugin.options.table import OPTIONS
from spider_plugin.options.types import Real, Whole
from spider_plugin.sources.prepare import PreparedSource

ROOT = Path(__file__).resolve().parents[1]

#----------------------------------------------------------------------------
# docs/api.md. Sections: title -> [(name as a user writes it, object)].

API = {
    'Sources':          [(name, getattr(spider_plugin, name)) for name in ('ImageBank', 'prepare_source')]
                        + [('PreparedSource', PreparedSource)],
    'Training':         [('edit_config', spider_plugin.edit_config)],
    'Networks':         [(name, getattr(spider_plugin, name)) for name in ('load_generator', 'ProjectedDiscriminator')]
                        + [('nn.SeparableConv2d', spider_plugin.nn.SeparableConv2d)],
    'Metrics':          [('metrics.sid.sid', spider_plugin.metrics.sid.sid)]
                        + [(f'metrics.{name}', getattr(spider_plugin.metrics, name))
                           for name in ('fid', 'kid', 'SIDResult', 'Distance', 'Moments')]
                        + [('evaluate', spider_plugin.evaluate)],
    'Choice of a source': [('rank_sources', spider_plugin.rank_sources), ('RankedSource', RankedSource)],
    'Errors':           [('SpiderError', spider_plugin.SpiderError)],
    'Kernels':          [('torch_utils_ext.status', torch_utils_ext.status)],
}

API_HEAD = """\
# Python API

This page lists the names that a script imports from `spider_plugin`, with the shapes, dtypes, units and errors of each.
`tools/make_docs.py` writes it from the code, and a test compares the two. A name is imported at its first use, so that
`import spider_plugin` loads neither torch nor click. The annotations are checked by mypy, and the package carries `py.typed`.

In annotations, `Features` stands for an array or tensor [N, n] of any real dtype, `Array` for a numpy array, `Config` for a
dict, and `Detector` for what the entry of `detector` says.

    import spider_plugin

    bank = spider_plugin.ImageBank.from_folder('photos/', size=32)
    images = bank.sample(torch.randn([16, 512]))

    from spider_plugin import metrics
    metrics.fid(features_a, features_b)         # a Distance: value and half-width of the 95% interval
    metrics.sid.sid(features_a, features_b)     # a SIDResult; `metrics.sid` is a module

    spider_plugin.evaluate('network-snapshot.pkl', 'photos/', ['fid', 'kid'])
    spider_plugin.rank_sources('photos/', ['tinyimagenet', 'noise'])

    args, rest = parser.parse_known_args()      # a training script that no hook can reach
    config = spider_plugin.edit_config(config, rest)
"""

def api_page():
    lines = [API_HEAD, '| name | |', '|---|---|']
    lines += [f'| [`{name}`](#{_anchor(name)}) | {_first_sentence(thing)} |' for names in API.values() for name, thing in names]
    for title, names in API.items():
        lines += ['', f'## {title}']
        for name, thing in names:
            lines += ['', f'### `{name}`', '', *_entry(name, thing)]
    return '\n'.join(lines) + '\n'

def _entry(name, thing):
    lines = ['```python', _signature(thing, name), '```', *_document(thing)]
    if inspect.isclass(thing):
        if dataclasses.is_dataclass(thing):
            lines += ['', '```python', *_fields(thing), '```']
        for method, function in vars(thing).items():
            plain = getattr(function, '__func__', function)     # of a classmethod
            if not method.startswith('_') and inspect.isfunction(plain) and plain.__doc__:
                lines += ['', f'#### `{name.rpartition(".")[2]}.{method}`', '', '```python', _signature(plain, method), '```',
                          *_document(plain)]
    return lines

def _document(thing):
    """The first paragraph as prose, the rest, which is aligned, as it is."""
    first, _, rest = inspect.getdoc(thing).partition('\n\n')
    lines = ['', *first.splitlines()]
    return [*lines, '', '```text', *rest.splitlines(), '```'] if rest else lines

def _first_sentence(thing):
    words = ' '.join(inspect.getdoc(thing).partition('\n\n')[0].split())
    return re.split(r'(?<!et al)\. ', words)[0].rstrip('.:').replace('|', '\\|')

def _anchor(name):
    return ''.join(c for c in name.lower() if c.isalnum() or c in '_-')

def _definition(thing):
    return ast.parse(textwrap.dedent(inspect.getsource(thing))).body[0]

def _bases_here(thing):
    """The class and its bases in the same module."""
    return [base for base in thing.__mro__ if base.__module__ == thing.__module__]

def _signature(thing, name):
    """The signature as the source writes it, on lines of at most 120 columns."""
    node = _definition(thing)
    if isinstance(node, ast.ClassDef):
        init = next((part for base in _bases_here(thing) for part in _definition(base).body
                     if isinstance(part, ast.FunctionDef) and part.name == '__init__'), None)
        if init is None:
            return name
        node, returns = init, ''
    else:
        returns = f' -> {_annotation(node.returns)}' if node.returns else ''
    args = node.args
    if args.posonlyargs or args.vararg or args.kwarg:
        raise ValueError(f'{name} has arguments of a kind that this page does not show')
    given = [None] * (len(args.args) - len(args.defaults)) + args.defaults
    words = [_argument(arg, default) for arg, default in zip(args.args, given) if arg.arg not in ('self', 'cls')]
    words += ['*'] * bool(args.kwonlyargs)
    words += [_argument(arg, default) for arg, default in zip(args.kwonlyargs, args.kw_defaults)]
    line = f'{name}({", ".join(words)}){returns}'
    return line if len(line) <= 120 else f'{name}(\n    ' + ',\n    '.join(words) + f'\n){returns}'

def _argument(arg, default):
    text = arg.arg + (f': {_annotation(arg.annotation)}' if arg.annotation else '')
    equals = ' = ' if arg.annotation else '='
    return text if default is None else f'{text}{equals}{ast.unparse(default)}'

def _annotation(node):
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ast.unparse(node)

def _fields(cls):
    """Lines of a dataclass between its docstring and its first method: the fields with their comments."""
    source, node = textwrap.dedent(inspect.getsource(cls)).splitlines(), _definition(cls)
    fields = [part for part in node.body if isinstance(part, ast.AnnAssign)]
    return textwrap.dedent('\n'.join(source[fields[0].lineno - 1 : fields[-1].end_lineno])).splitlines()

#----------------------------------------------------------------------------
# docs/options.md.

OPTIONS_HEAD = """\
# Options

This page lists the options that the attached line adds to a host's `train.py`, that `spider train` has, and that
[`edit_config`](api.md#edit_config) takes. `tools/make_docs.py` writes it from the code, where the help texts are, and a test
compares the two. An option that is not given changes nothing. A host's options are those of its own `--help`, where those of
generators of other packages are too. Those about photos are options of `spider train` alone.
"""

def options_page():
    lines, options = [OPTIONS_HEAD], [*command.OPTIONS, *OPTIONS]
    for group in dict.fromkeys(option.group for option in options):
        lines += [f'## {group}', '']
        for option in options:
            if option.group == group:
                text = _text(option.help, option.default, _range(option.type))
                lines += [f'### `{option.name}{_takes(option)}`', '', *text, '']
    preset = presets.option(click.Option)
    return '\n'.join([*lines, '## Presets', '', f'### `--preset={preset.metavar}`', '', *_text(preset.help, None)]) + '\n'

def _takes(option):
    if option.type is bool:
        return ''
    return f'={option.metavar or "[" + "|".join(option.type.choices) + "]"}'

def _range(kind):
    """The words for the numbers that an option takes, none for other types."""
    if not isinstance(kind, (Whole, Real)):
        return ''
    return f' {"Above" if kind.min_open else "From"} {kind.min} to {kind.max}.'

def _text(help, default, said_last=''):
    """Lines of a help text, and of the default that it names in brackets or that is given here."""
    words, _, named = help.partition('  [default: ')
    if named:
        said = f' Default: {named.removesuffix("]")}.'
    else:
        said = '' if default is None or default is False else f' Default: `{default}`.'
    return textwrap.wrap(f'{words}.{said}{said_last}', width=120, break_long_words=False, break_on_hyphens=False)

#----------------------------------------------------------------------------

PAGES = {'docs/api.md': api_page, 'docs/options.md': options_page}

def main(args):
    changed = []
    for name, page in PAGES.items():
        path, text = ROOT / name, page()
        if not path.is_file() or path.read_text(encoding='utf-8') != text:
            changed.append(name)
            if '--check' not in args:
                path.write_text(text, encoding='utf-8')
    if changed and '--check' in args:
        sys.exit(f'{" and ".join(changed)}: not what the code says; run python -m tools.make_docs')

if __name__ == '__main__':
    main(sys.argv[1:])
