"""Tools of hosts that open snapshots of Spider generators: videos, projections, mixed styles, path lengths.

They go through `mapping` and `synthesis`, and know nothing of the rows of ws that name a source image (docs/contracts.md). The
reference host's tools ask for the functions that they get here; in other hosts the hooks of generate/interpolable.py go on the
networks that a tool loads."""

import functools
import inspect
import sys
import warnings

import click

from spider_plugin.errors import SpiderError

SCRIPTS = 'tool_utils'                              # of the reference host
LOADER  = 'legacy'                                  # of hosts
PATHS   = 'metrics.perceptual_path_length'
TARGETS = {'target_fname', 'target'}                # parameters that name an image to project

_running = []   # the names of the parameters of the tool's command, once it is made

def note(params):
    """Take note that the running script is a tool whose command has parameters of these names."""
    _running[:] = [params]

def give_functions(tool_utils):
    """Give the reference host's tools what they ask for, where it asks."""
    if hasattr(tool_utils, 'rows_near'):
        from spider_plugin.generate.interpolable import interpolable
        from spider_plugin.generate.projection import rows_near
        tool_utils.interpolable, tool_utils.rows_near = interpolable, rows_near

def extend_loader(legacy):
    """Let the networks that a tool of another host loads be interpolated."""
    stock = getattr(legacy, 'load_network_pkl', None)
    if stock is None or hasattr(stock, 'spider_plugin'):
        return
    @functools.wraps(stock)
    def load_network_pkl(f, *args, **kwargs):
        data = stock(f, *args, **kwargs)
        if _running and SCRIPTS not in sys.modules:
            from spider_plugin.generate.interpolable import interpolable
            for name in ('G', 'G_ema'):
                if isinstance(data, dict) and hasattr(data.get(name), 'synthesis'):
                    _check_projection(data[name])
                    _check_styles(data[name])
                    interpolable(data[name], getattr(f, 'name', 'the snapshot'))
        return data
    load_network_pkl.spider_plugin = True
    legacy.load_network_pkl = load_network_pkl

def _check_projection(G):
    """Raise SpiderError where the running script projects a target, and the images of G also depend on a source image."""
    from spider_plugin.generate.interpolable import W_ALONE, carries_key
    if TARGETS & set(_running[0]) and carries_key(G):
        raise SpiderError(W_ALONE)

def _check_styles(G):
    """Raise SpiderError where --styles of style_mixing.py names rows that are no styles of G."""
    context = click.get_current_context(silent=True)
    wanted = context.params.get('col_styles') if context is not None and 'col_styles' in _running[0] else None
    have = getattr(G.synthesis, 'num_ws', None)
    if isinstance(wanted, list) and wanted and isinstance(have, int) and max(wanted) >= have:
        if have < 2:
            raise SpiderError('--network has one style for all layers, so there is nothing to mix; `spider video` walks through '
                              'its images.')
        raise SpiderError(f'--styles: {max(wanted)} is out of range; the network has the styles 0 to {have - 1}.')

#----------------------------------------------------------------------------
# Path lengths. The source image has no neighbours in z, and between two of them there is no path of the generator's own.

_NO_PATH = ('--metrics: the images of this network depend on the source image alone, so there is no path in W whose length could '
            'be measured; leave the metric out. `spider video` shows its walk from source to source.')

def check_path(G):
    """Raise SpiderError where the images of G do not depend on styles."""
    import torch

    from spider_plugin.generate.interpolable import carries_key, styles
    if not carries_key(G):
        return
    parameter = next(G.parameters())
    rows = getattr(G.mapping, 'num_ws', G.num_ws) - styles(G)
    w = torch.zeros([1, styles(G), G.w_dim], device=parameter.device, requires_grad=True)
    rest = torch.zeros([1, rows, G.w_dim], device=parameter.device)
    with torch.enable_grad():
        depends = G.synthesis(torch.cat([w, rest], dim=1), noise_mode='const').requires_grad
    if not depends:
        raise SpiderError(_NO_PATH)

def extend_path_length(module):
    """Let a host measure the paths of styles, each at one source image."""
    stock = getattr(module, 'compute_ppl', None)
    if stock is None or hasattr(stock, 'spider_plugin'):
        return
    @functools.wraps(stock)
    def compute_ppl(opts, *args, **kwargs):
        from spider_plugin.generate.interpolable import held
        G = opts.G
        if getattr(G, 'source', None) is not None:
            space = inspect.signature(stock).bind(opts, *args, **kwargs).arguments.get('space', 'w')
            if space == 'z':
                raise SpiderError('--metrics: neighbouring latents z of a Spider generator have unrelated source images, so '
                                  'there is no path in Z; ppl2_wend measures paths in W.')
            try:
                check_path(G)
            except SpiderError as error:
                if 'training.training_loop' not in sys.modules:
                    raise
                warnings.warn(error.message)    # a score is no reason to end a run
                return float('nan')
        with held(G):
            return stock(opts, *args, **kwargs)
    compute_ppl.spider_plugin = True
    module.compute_ppl = compute_ppl

def check_metrics_of(metric_main):
    """Let the reference host refuse, before anything starts, path lengths that do not exist."""
    for name, metric in getattr(metric_main, '_metric_dict', {}).items():
        if name.startswith('ppl') and not hasattr(metric, 'check_generator'):
            metric.check_generator = check_path

#----------------------------------------------------------------------------
