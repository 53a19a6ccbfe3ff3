"""Names that numpy had when hosts were written, and an argument of its percentile. What the host's files contain is supplied."""

import functools
import re
import warnings
from pathlib import Path

from spider_plugin.hosts import imports
from spider_plugin.hosts.shims.cpu_device import View

# {name: what numpy's notes say to write in its place}; a name of Python's, or of numpy's.
BUILTINS = dict(int=int, float=float, bool=bool, object=object, str=str, complex=complex, long=int)
RENAMED  = dict(product='prod', cumproduct='cumprod', sometrue='any', alltrue='all', float_='float64', complex_='complex128',
                unicode_='str_', string_='bytes_', Inf='inf', Infinity='inf', infty='inf', NaN='nan', NAN='nan', PINF='inf',
                row_stack='vstack', trapz='trapezoid', in1d='isin', round_='round', cast='asarray')

_MOST = 400     # Files of a host that are looked into.

@functools.cache
def named_by_host(folder):
    """Return those of the names that the .py files of a folder write after `np.` or `numpy.`."""
    pattern, found = re.compile(r'\b(?:np|numpy)\.(\w+)'), set()
    files = [path for depth in ('*.py', '*/*.py', '*/*/*.py') for path in sorted(Path(folder).glob(depth))]
    for path in files[:_MOST]:
        try:
            found |= set(pattern.findall(path.read_text(encoding='utf-8', errors='replace')))
        except OSError:
            continue
    return found & {*BUILTINS, *RENAMED}

def lacking(numpy):
    """Return the names that the host writes and this numpy does not have."""
    return sorted(name for name in named_by_host(imports.host_folder()) if name not in dir(numpy) and not _has(numpy, name))

def _has(numpy, name):
    try:
        getattr(numpy, name)
    except Exception:   # numpy says in the error of a removed name what to write
        return False
    return True

def supply(numpy):
    """Give numpy the names that the host writes."""
    for name in lacking(numpy):
        setattr(numpy, name, BUILTINS[name] if name in BUILTINS else getattr(numpy, RENAMED[name]))

#----------------------------------------------------------------------------
# numpy.percentile(interpolation=) has become method=.

def percentile_refuses():
    import numpy
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            numpy.percentile([0.0, 1.0], 50, interpolation='lower')
    except TypeError:
        return True
    return False

def give_percentile(module):
    """Give a module of a host, by its name `np`, a view of numpy whose percentile takes `interpolation`."""
    import numpy
    @functools.wraps(numpy.percentile)
    def percentile(*args, interpolation=None, **kwargs):
        return numpy.percentile(*args, **kwargs, **({} if interpolation is None else dict(method=interpolation)))
    module.np = View(module.np, percentile=percentile)
