"""--track: the statistics of a run also go to TensorBoard or Weights & Biases."""

import importlib.util
import inspect
import sys

import click

from spider_plugin.errors import SpiderError
from spider_plugin.options.types import Option, quoted

TRACKERS = dict(tensorboard='tensorboard', wandb='wandb')       # name -> the package that it needs

class Trackers(click.ParamType):
    """A list of trackers, such as tensorboard,wandb."""

    name = 'trackers'

    def convert(self, value, param, ctx):
        names = value if isinstance(value, list) else [name.strip() for name in str(value).split(',')]
        wrong = next((name for name in names if name not in TRACKERS), None)
        if wrong is not None or len(set(names)) != len(names):
            self.fail(f'{quoted(value)} is not a list of {" and ".join(TRACKERS)}, each at most once.', param, ctx)
        return names

OPTIONS = [
    Option('--track',           Trackers(), None,   '[tensorboard,wandb]', 'Also send statistics, metrics and images to these '
           'trackers; Weights & Biases stays offline where WANDB_API_KEY and WANDB_MODE are not set', 'Report options'),
]

def apply_track(c, options, host):
    """Puts the trackers into the record of the run (training/run_watch.py opens them); lines for the launch log.

    Raises SpiderError for a package that is missing, and in a host whose loop says nothing of its progress."""
    names = options['track']
    if not names:
        return []
    for name in names:
        if not _is_installed(TRACKERS[name]):
            raise SpiderError(f'--track={name} needs the package {TRACKERS[name]}; run pip install {TRACKERS[name]}, or leave '
                              'the tracker out.')
    if not host.loop_takes('progress_fn'):
        raise SpiderError('--track finds no progress_fn in this host\'s training loop; leave it out, or use a host like '
                          'NVlabs/stylegan3.')
    if 'tensorboard' in names and _writes_events():
        raise SpiderError('--track=tensorboard has no effect in this host, which writes events for TensorBoard into each run '
                          'folder anyway; leave it out.')
    c['spider_run'] = dict(c.get('spider_run') or {}, track=names)
    return [f'{"Trackers:":<21s}{", ".join(names)}']

def _is_installed(package):
    """Return whether a package can be imported; a folder of its name, which wandb leaves where it ran, is none."""
    spec = importlib.util.find_spec(package)
    return spec is not None and spec.origin is not None

def _writes_events():
    """Return whether the training loop of the host writes events itself."""
    try:
        return 'SummaryWriter' in inspect.getsource(sys.modules['training.training_loop'])
    except (KeyError, OSError, TypeError):
        return False

#----------------------------------------------------------------------------
