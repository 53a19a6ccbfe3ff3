"""Types of options whose numbers are finite and have a least and a most. The sentence about a value outside says both."""

import os
import re

import click

MOST_CLASSES = 65_536       # Of a dataset: a label is as many numbers.
MOST_KIMG    = 10**9
MOST_SEED    = 2**32 - 1    # That numpy takes.
MOST_SEEDS   = 1_000_000    # In a list.

def quoted(value):
    """A value in quotes, on one line, ASCII and cut."""
    return f"'{ascii(str(value)[:40])[1:-1]}'"

#----------------------------------------------------------------------------

class Whole(click.IntRange):
    """A whole number from `min` to `max`."""

    def convert(self, value, param, ctx):
        try:
            return super().convert(str(value), param, ctx) # As text: a preset may hold 2.5, or a list.
        except click.BadParameter:
            self.fail(f'{quoted(value)} is not a whole number from {self.min} to {self.max}', param, ctx)

class Real(click.FloatRange):
    """A finite number from `min`, which min_open excludes, to `max`."""

    def convert(self, value, param, ctx):
        try:
            number = super().convert(str(value), param, ctx)
        except click.BadParameter:
            number = None
        if number is None or number != number: # NaN is in every range of click's.
            least = f'above {self.min:g} and at most' if self.min_open else f'from {self.min:g} to'
            self.fail(f'{quoted(value)} is not a number {least} {self.max:g}', param, ctx)
        return number

class PathType(click.ParamType):
    """A path, of which ~ is the home folder. A URL passes where `urls` is true."""

    name = 'path'

    def __init__(self, urls=False):
        self.urls = urls

    def convert(self, value, param, ctx):
        if '\0' in str(value):
            self.fail(f'{quoted(value)} has a null character, which no path has', param, ctx)
        if '://' in str(value):
            if not self.urls:
                self.fail(f'{quoted(value)} is a URL; give a path of this machine', param, ctx)
            return value
        return os.path.expanduser(str(value))

class Grouped(click.Command):
    """A command whose help has a heading where its options begin a new group.

    headings: {name of the first parameter of a group: heading}."""

    def __init__(self, *args, headings, **kwargs):
        super().__init__(*args, **kwargs)
        self.headings = headings

    def format_options(self, ctx, formatter):
        groups = []
        for param in self.get_params(ctx):
            if param.name in self.headings or not groups:
                groups.append((self.headings.get(param.name, 'Options'), []))
            if (record := param.get_help_record(ctx)) is not None:
                groups[-1][1].append(record)
        for heading, records in groups:
            with formatter.section(heading):
                formatter.write_dl(records)

path_type    = PathType()
file_type    = PathType(urls=True)
class_type   = Whole(0, MOST_CLASSES - 1)
seed_type    = Whole(0, MOST_SEED)
threads_type = Whole(1, 1024)
trunc_type   = Real(-10, 10)

#----------------------------------------------------------------------------
# Types of several numbers: functions of a text, or of what they returned before.

def parse_range(text):
    """Return [0, 2, 5, 6, 7] for '0,2,5-7'."""
    if isinstance(text, list):
        return text
    numbers = []
    for part in str(text).split(','):
        match = re.fullmatch(r'\s*([0-9]{1,10})(?:-([0-9]{1,10}))?\s*', part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not first <= last <= MOST_SEED or len(numbers) + last - first >= MOST_SEEDS:
            raise click.BadParameter(f'{quoted(text)} is not a list of at most {MOST_SEEDS} numbers below 2^32 and ranges such '
                                     'as 0,2,5-7')
        numbers += range(first, last + 1)
    return numbers

def parse_vec2(text):
    """Return (0.3, 1.0) for '0.3,1'."""
    if isinstance(text, tuple):
        return text
    try:
        x, y = map(float, str(text).split(','))
    except ValueError:
        x = y = float('nan')
    if not max(abs(x), abs(y)) <= 100 or y != y:
        raise click.BadParameter(f'{quoted(text)} is not a pair of numbers from -100 to 100 such as 0.3,1')
    return x, y

def parse_size(text, most, what):
    """Return (64, 32) for '64x32'; what: names the two numbers, of which each is from 1 to `most`."""
    if isinstance(text, tuple):
        return text
    match = re.fullmatch(r'([0-9]{1,9})[x,]([0-9]{1,9})', str(text))
    size = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1 <= min(size) <= max(size) <= most:
        raise click.BadParameter(f'{quoted(text)} is not {what}, each from 1 to {most}')
    return size

def parse_list(text):
    """'a,b' -> ['a', 'b']; None, '' and 'none' -> []."""
    if isinstance(text, list):
        return text
    if text is None or str(text).lower() in ('', 'none'):
        return []
    return [item.strip() for item in str(text).split(',')]

def parse_words(text):
    """Return a text that can be a part of a file's name."""
    if not re.fullmatch(r'[\w +,.=@-]{1,100}', str(text)):
        raise click.BadParameter(f'{quoted(text)} cannot be a part of a name; give 1 to 100 letters, digits, spaces and signs of '
                                 '+,.=@-_')
    return str(text)

#----------------------------------------------------------------------------
