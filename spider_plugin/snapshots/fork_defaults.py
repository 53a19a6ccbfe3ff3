"""Defaults that a fork has changed, from the source text that a snapshot carries.

A snapshot records the arguments that its network was given, and not those that it left at their default. Where a fork has another
default, the known class of this machine would take every tensor and draw other images. The text of the classes is searched for
`name = constant` in the head of __init__; it is neither parsed as a program nor run."""

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_LONGEST = 1 << 20      # bytes of a source text that is searched
_LINE    = 1000         # letters of a line in a signature

_CONSTANT = r"None|True|False|'\w*'|\"\w*\"|\[[\d,. ]*\]|-?\d+(?:\.\d+)?(?:e-?\d+)?(?: ?\*\* ?\d+(?:\.\d+)?)?"
_DEFAULT  = re.compile(rf'(\w{{1,40}})(?: *: *[\w.\[\]| ]{{1,40}})? *= *({_CONSTANT})(?= *(?:[,)]|$))')

# Arguments that the images depend on, of the mapping network and of the classes whose names begin with Synthesis. num_fp16_res
# and conv_clamp are read from the layers.
_MAPPING   = ('activation', 'lr_multiplier', 'num_layers')
_SYNTHESIS = ('activation', 'architecture', 'resample_filter', 'use_noise', 'channel_base', 'channel_max', 'conv_kernel',
              'filter_size', 'lrelu_upsampling', 'output_scale', 'margin_size', 'first_cutoff', 'first_stopband',
              'last_stopband_rel', 'num_critical', 'num_layers', 'use_radial_filters')

def defaults_in(source: str) -> dict[str, dict[str, Any]]:
    """Return {class: {argument of its __init__: default}} of the constants in a module's source text."""
    found: dict[str, dict[str, Any]] = {}
    for name, signature in _signatures(source[:_LONGEST]):
        found.setdefault(name, {argument: _value(text) for argument, text in _DEFAULT.findall(signature)})
    return found

def _signatures(source: str) -> Iterator[tuple[str, str]]:
    """Yield (class, text between the brackets of its __init__, without comments)."""
    name, lines = '', None      # type: tuple[str, list[str] | None]
    for line in source.split('\n'):
        line = line[:_LINE].split('#')[0].rstrip()
        if match := re.match(r'class (\w+)', line):
            name, lines = match[1], None
        if re.match(r'\s+def __init__\(', line):
            lines = []
        if lines is not None:
            lines.append(line)
            if line.endswith(':'):
                yield name, '\n'.join(lines)
                lines = None

def _value(text: str) -> Any:
    if text in ('None', 'True', 'False'):
        return dict(None_=None, True_=True, False_=False)[f'{text}_']
    if text[0] in '\'"':
        return text[1:-1]
    if text[0] == '[':
        return [float(number) for number in text[1:-1].split(',') if number.strip()]
    base, _, power = text.replace(' ', '').partition('**')
    try:
        value = float(base) ** float(power or 1)
    except (OverflowError, ZeroDivisionError):
        value = math.nan
    if not isinstance(value, float) or not math.isfinite(value):     # the class will refuse it
        return math.nan
    return int(value) if value.is_integer() and re.fullmatch(r'-?\d+', base) and not power else value

def changed_defaults(source: str, file: str | None, given: dict[str, Any]) -> dict[str, Any]:
    """Return arguments for a known Generator where its defaults are others than those in the source text of a snapshot.

    source: of the snapshot; '' for a network that carries none.
    file:   of the known class's module; None where it has none.
    given:  the arguments of the snapshot, in the form of stylegan3's, which are not defaults."""
    if not source or file is None or not file.endswith('.py'):
        return {}
    try:
        here = defaults_in(Path(file).read_text(encoding='utf-8', errors='replace'))
    except OSError:
        return {}
    there, changed, mapping = defaults_in(source), {}, {}
    for name in [name for name in there if name in here]:
        of_mapping = name == 'MappingNetwork'
        if not of_mapping and not name.startswith('Synthesis'):
            continue
        for argument in _MAPPING if of_mapping else _SYNTHESIS:
            if argument in there[name] and argument in here[name] and there[name][argument] != here[name][argument]:
                (mapping if of_mapping else changed)[argument] = there[name][argument]
    own = given.get('mapping_kwargs') or {}
    mapping = {argument: value for argument, value in mapping.items() if argument not in own}
    changed = {argument: value for argument, value in changed.items() if argument not in given}
    return changed | (dict(mapping_kwargs={**own, **mapping}) if mapping else {})
