"""The cache of the plugin: one folder for built kernels, prepared sources, downloads and features."""

import os
from pathlib import Path

def cache_root() -> Path:
    """Return $SPIDER_CACHE_DIR, else spider_plugin/ below $DNNLIB_CACHE_DIR, else ~/.cache/spider_plugin; nothing is created."""
    if os.environ.get('SPIDER_CACHE_DIR'):
        root = Path(os.environ['SPIDER_CACHE_DIR'])
    elif os.environ.get('DNNLIB_CACHE_DIR'):
        root = Path(os.environ['DNNLIB_CACHE_DIR'], 'spider_plugin')
    else:
        root = Path.home() / '.cache' / 'spider_plugin'
    return root.expanduser().absolute()
