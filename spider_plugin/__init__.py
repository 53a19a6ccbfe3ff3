"""Spider plugin: train GANs on small image sets from a friendly neighbour's images (arXiv 2305.07613)."""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = '0.2.0'

if TYPE_CHECKING:
    from spider_plugin import metrics as metrics
    from spider_plugin import nn as nn
    from spider_plugin.errors import SpiderError as SpiderError
    from spider_plugin.evaluation import evaluate as evaluate
    from spider_plugin.evaluation import rank_sources as rank_sources
    from spider_plugin.hosts.edit import edit_config as edit_config
    from spider_plugin.image_bank import ImageBank as ImageBank
    from spider_plugin.projected_discriminator import ProjectedDiscriminator as ProjectedDiscriminator
    from spider_plugin.snapshots.rebuild import load_generator as load_generator
    from spider_plugin.sources.prepare import prepare_source as prepare_source

# The public API (docs/api.md): name -> the module that defines it, or None for a module of this package. Each is imported at its
# first use, because the attached line imports this package in every process of a host, where torch is not loaded yet.

PUBLIC: dict[str, str | None] = {
    'edit_config':            'spider_plugin.hosts.edit',
    'prepare_source':         'spider_plugin.sources.prepare',
    'ImageBank':              'spider_plugin.image_bank',
    'load_generator':         'spider_plugin.snapshots.rebuild',
    'ProjectedDiscriminator': 'spider_plugin.projected_discriminator',
    'nn':                     None,
    'metrics':                None,
    'evaluate':               'spider_plugin.evaluation',
    'rank_sources':           'spider_plugin.evaluation',
    'SpiderError':            'spider_plugin.errors',
}

__all__ = ['__version__', *PUBLIC]

def __getattr__(name: str) -> Any:
    if name not in PUBLIC:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    module = PUBLIC[name]
    loaded = importlib.import_module(module or f'{__name__}.{name}')
    globals()[name] = loaded if module is None else getattr(loaded, name)
    return globals()[name]

def __dir__() -> list[str]:
    return sorted(__all__)
