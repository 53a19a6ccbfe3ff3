"""What an option is, and the types of values that click has no name for.

Every number is finite and has a least and a most; the sentence about a value outside says both. A value of a preset, which need
not be a text, is read as the text of it would be."""

import dataclasses
import os
import re
from collections.abc import Callable
from typing import Any

import click

from spider_plugin.errors import shown

MOST_IMAGES  = 10**8        # of a bank
MOST_KIMG    = 10**9
MOST_SEED    = 2**32 - 1    # that numpy takes
MOST_SIDE    = 4096         # of an image that an option asks for, in pixels

#----------------------------------------------------------------------------

def quoted(value):
    """Return a value of an option for a sentence about it."""
    return f"'{shown(value, 40)}'"

def _number(text, most, least=0):
    """Return the whole number that a text of digits is; None where it is none, or out of range."""
    number = int(text) if re.fullmatch('[0-9]{1,12}', text) else -1
    return number if least <= number <= most else None

class Whole(click.IntRange):
    """A whole number from `min` to `max`."""

    def convert(self, value, param, ctx):
        try:
            return super().convert(str(value), param, ctx)
        except click.BadParameter:
            self.fail(f'{quoted(value)} is not a whole number from {self.min} to {self.max}.', param, ctx)

class Real(click.FloatRange):
    """A finite number from `min`, which min_open excludes, to `max`."""

    def convert(self, value, param, ctx):
        try:
            number = super().convert(str(value), param, ctx)
        except click.BadParameter:
            number = None
        if number is None or number != number:      # NaN is in every range of click's
            least = f'above {self.min:g} and at most' if self.min_open else f'from {self.min:g} to'
            self.fail(f'{quoted(value)} is not a number {least} {self.max:g}.', param, ctx)
        return number

def at_home(spec: str) -> str:
    """Return a path, or a spec NAME:PATH, with the home folder in place of its ~."""
    match = re.fullmatch(r'((?:[\w.-]+:)?)(~.*)', spec, re.DOTALL)
    return match[1] + os.path.expanduser(match[2]) if match else spec

class PathType(click.Path):
    """A path, or a spec NAME:PATH, of which ~ is the home folder. A URL passes where `urls` is true."""

    def __init__(self, *, urls: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.urls = urls

    def convert(self, value, param, ctx):
        if not self.urls and '://' in str(value):
            self.fail(f'{quoted(value)} is a URL; give a path of this machine.', param, ctx)
        if '\0' in str(value):
            self.fail(f'{quoted(value)} has a null character, which no path has.', param, ctx)
        return super().convert(at_home(value) if isinstance(value, str) else value, param, ctx)

path_type = PathType()
file_type = PathType(urls=True)

class Seeds(click.ParamType):
    """A list of seeds, such as 0-3,7: [0, 1, 2, 3, 7]."""

    name = 'seeds'
    most = 100_000      # seeds in a list

    def convert(self, value, param, ctx):
        seeds = []
        for part in str(value).split(','):
            ends = [_number(text, MOST_SEED) for text in part.strip().split('-', 1)]
            if None in ends or not 0 <= ends[-1] - ends[0] < self.most - len(seeds):
                self.fail(f'{quoted(value)} is not a list of at most {self.most} seeds and ranges, such as 0-3,7; a seed is '
                          f'at most {MOST_SEED}.', param, ctx)
            seeds += range(ends[0], ends[-1] + 1)
        return seeds

class Bank(click.ParamType):
    """A number of images, such as 100k, or 'online'."""

    name = 'bank'

    def convert(self, value, param, ctx):
        if value == 'online':
            return value
        digits, unit = re.fullmatch('(.*?)([kM]?)', str(value), re.DOTALL).groups()
        number = _number(digits, MOST_IMAGES)
        if number is None or not 2 <= (number := number * {'': 1, 'k': 1_000, 'M': 1_000_000}[unit]) <= MOST_IMAGES:
            self.fail(f'{quoted(value)} is neither a number of images from 2 to {MOST_IMAGES}, such as 5000 or 100k, nor '
                      '"online".', param, ctx)
        return number

class Pairs(click.ParamType):
    """A list of two whole numbers each, such as 0:3,1:5; first, second: the most of each."""

    name = 'pairs'

    def __init__(self, first, second):
        self.first, self.second = first, second

    def convert(self, value, param, ctx):
        if isinstance(value, list) and all(isinstance(pair, tuple) for pair in value):
            value = ','.join(':'.join(map(str, pair)) for pair in value)
        pairs = [part.split(':') for part in str(value).split(',')]
        pairs = [(_number(pair[0].strip(), self.first), _number(pair[1].strip(), self.second)) if len(pair) == 2 else (None,)
                 for pair in pairs]
        if any(None in pair for pair in pairs):
            self.fail(f'{quoted(value)} is not a list of two numbers each, such as 0:3,1:5, the first at most {self.first} and '
                      f'the second at most {self.second}.', param, ctx)
        if len(dict(pairs)) != len(pairs):
            self.fail(f'{quoted(value)} names a number before ":" twice.', param, ctx)
        return pairs

class Window(click.ParamType):
    """A resolution or two, such as 8-64: (8, 64)."""

    name = 'window'

    def convert(self, value, param, ctx):
        if isinstance(value, tuple):
            value = '-'.join(map(str, value))
        low, dash, high = str(value).partition('-')
        low = _number(low, MOST_SIDE, least=1)
        high = _number(high, MOST_SIDE, least=1) if dash else low
        if low is None or high is None or low > high:
            self.fail(f'{quoted(value)} is not a resolution or two from 1 to {MOST_SIDE}, such as 8-64.', param, ctx)
        return low, high

class Blur(click.ParamType):
    """Pixels, or pixels and kimg, such as 2:300: (2.0, 300.0), or (2.0, None)."""

    name = 'blur'
    most = 1000     # pixels

    def convert(self, value, param, ctx):
        if isinstance(value, tuple):
            value = ':'.join(str(part) for part in value if part is not None)
        number = r'([0-9]+\.?[0-9]*|\.[0-9]+)'
        blur = re.fullmatch(f'{number}(?::{number})?', str(value))
        if not blur or float(blur[1]) > self.most or float(blur[2] or 0) > MOST_KIMG:
            self.fail(f'{quoted(value)} is not a blur in pixels, or that and how many kimg it lasts, such as 2 or 2:300; they '
                      f'are at most {self.most} and {MOST_KIMG}.', param, ctx)
        return float(blur[1]), None if blur[2] is None else float(blur[2])

#----------------------------------------------------------------------------

@dataclasses.dataclass(frozen=True)
class Option:
    name:    str
    type:    Any
    default: Any
    metavar: str | None
    help:    str
    group:   str

    @property
    def key(self) -> str:
        return self.name.lstrip('-').replace('-', '_')

    def on_command(self, make: Callable[..., click.Option] = click.Option, name: str | None = None) -> click.Option:
        """Return the option as click has it; make: its class; name: what to call it where a host has an option of its name."""
        return make([name or self.name], type=self.type, default=self.default, metavar=self.metavar, help=self.help,
                    is_flag=self.type is bool, show_default=self.default not in (None, False))

#----------------------------------------------------------------------------
