"""--recompute: less memory for more time, in any host whose networks are made of blocks."""

from spider_plugin.errors import SpiderError
from spider_plugin.options.types import Option

OPTIONS = [
    Option('--recompute',       bool,   False,      None,   'Compute the blocks of G and D again in the backward pass: less '
           'memory, more time', 'Memory options'),
]

_BUILDER = 'spider_plugin.training.recompute.recomputing'

def apply_recompute(c, host):
    """Lets G and D of the config be built with blocks that are computed again; lines for the launch log."""
    from spider_plugin.training.recompute import recomputable
    counts = {name: len(recomputable(network)) if network is not None else 0 for name, network in host.networks().items()}
    for name, count in counts.items():
        if count:
            kwargs = c[f'{name}_kwargs']
            kwargs['recomputed_class'] = kwargs['class_name']
            kwargs['class_name'] = _BUILDER
    if not any(counts.values()):
        raise SpiderError(f'--recompute finds no block to compute again in {c["G_kwargs"]["class_name"]}, whose batch norm or '
                          'spectral norm must see each batch once; leave it out, and lower --batch-gpu.')
    return [f'{"Recompute:":<21s}{counts["G"]} blocks of G and {counts["D"]} of D, in the backward pass']
