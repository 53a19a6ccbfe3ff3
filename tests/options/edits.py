"""Edits of a host's config, on plain dicts and a host that is made up."""

import math
from types import SimpleNamespace

from spider_plugin.hosts.capabilities import Layers, Target
from spider_plugin.options.table import all_options, apply_options
from spider_plugin.portable.source.arguments import SpiderArguments

#----------------------------------------------------------------------------

def host_config(**kwargs):
    c = dict(
        G_kwargs            = dict(class_name='training.networks_stylegan2.Generator', z_dim=512, w_dim=512,
                                   mapping_kwargs=dict(num_layers=8), channel_base=4096, channel_max=64),
        D_kwargs            = dict(class_name='training.networks_stylegan2.Discriminator', channel_base=4096,
                                   epilogue_kwargs=dict(mbstd_group_size=2)),
        G_opt_kwargs        = dict(class_name='torch.optim.Adam', betas=[0, 0.99], lr=0.002),
        D_opt_kwargs        = dict(class_name='torch.optim.Adam', betas=[0, 0.99], lr=0.005),
        loss_kwargs         = dict(class_name='training.loss.StyleGAN2Loss', r1_gamma=1.0, style_mixing_prob=0.9, pl_weight=2),
        training_set_kwargs = dict(path='target.zip', use_labels=False, resolution=16),
        G_reg_interval      = 4,
        metrics             = ['fid50k_full'],
    )
    return {**c, **kwargs}

LOSS_DEFAULTS = {'training.loss.StyleGAN2Loss': dict(style_mixing_prob=0, pl_weight=0)}

def host(resolution=16, channels=3, label_dim=0, constant_input=True, path='target.zip', z_dim=512, mapping=None):
    return SimpleNamespace(
        target     = Target(path, resolution, channels, label_dim),
        generator  = lambda: Layers(z_dim=z_dim, w_dim=512, num_ws=2 * int(math.log2(resolution)) - 2,
                                    constant_input=constant_input, mapping=mapping, stylegan=mapping is None),
        local_file = lambda path: path,
    )

def edit(c=None, host=host(), given=(), cfg=None, **options):
    """(edited config, log lines); an option counts as given where it is named."""
    c = host_config() if c is None else c
    values = {option.key: option.default for option in all_options()} | options | {'cfg': cfg}
    host.loss_keyword = lambda name: (LOSS_DEFAULTS.get(c['loss_kwargs']['class_name'], {}) | c['loss_kwargs']).get(name)
    lines = apply_options(c, values, given=set(options) | set(given), host=host)
    return c, '\n'.join(lines)

def open_bank(spider):
    """The source that a config's `spider` names."""
    return SpiderArguments.read(spider).open()

def resume(source, **options):
    """edit() of a config that resumes from old.pkl, with this source."""
    return edit(host_config(resume_pkl='old.pkl'), spider_source=source, **options)

def carried(spider, **changed):
    """What a snapshot of a run with this `spider` argument carries of its bank."""
    return open_bank(spider | changed).__getstate__()

#----------------------------------------------------------------------------
