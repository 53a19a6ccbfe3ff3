"""Named registries: what options can name, and how others add to it.

    from spider_plugin import registry

    @registry.sources.register('stripes')       # (count, resolution, channels, rng, reference) -> uint8 images
    def stripes(...): ...

    registry.datasets.register('mine')(Dataset(...))            # --spider-source=mine, spider_plugin/sources/catalogue.py

    registry.mappings.register('mine')(MappingKind(...))        # --spider-mapping=mine, spider_plugin/options/mappings.py

    registry.generators.register('mynet')(PluginGenerator(...)) # --cfg=mynet, spider_plugin/options/generators.py

    registry.discriminators.register('mine')(PluginDiscriminator(...))  # --disc=mine, spider_plugin/options/discriminator.py

    registry.feature_networks.register('resnet50')(Backbone(...))       # --disc-backbone, spider_plugin/weights.py

    @registry.metrics.register('mymetric')      # (opts) -> dict of floats, as in the host's metrics/metric_main.py
    def mymetric(opts): ...

Built-ins register by the same call when their module is imported. A package adds its own by an entry point that names the
module to import:

    [project.entry-points.spider_plugin]
    my-plugin = "my_package.spider"

Entry points are imported once in each process, at the first look into a registry. SPIDER_LOAD_PLUGINS, a comma-separated
list of entry point or package names, restricts them; set to nothing, it turns all of them off. One line on stderr says what each
adds, because pickles may name its generators and mappings. Configs and snapshots carry names only, never objects.
docs/write-a-plugin.md is the tutorial."""

import importlib
import multiprocessing
import os
import re
import sys
from collections.abc import Mapping
from importlib import metadata

from spider_plugin.errors import SpiderError

ENTRY_POINTS = 'spider_plugin'
BUILTINS     = ('spider_plugin.options.mappings', 'spider_plugin.options.dcgan', 'spider_plugin.options.fastgan',
                'spider_plugin.options.pggan', 'spider_plugin.options.discriminator', 'spider_plugin.sources.procedural',
                'spider_plugin.sources.catalogue', 'spider_plugin.weights', 'spider_plugin.hosts.sid_metric')

#----------------------------------------------------------------------------

class Registry(Mapping):
    """Name -> object; filled at the first look."""

    def __init__(self, kind):
        self.kind, self._entries = kind, {}

    def register(self, name):
        """Decorator that files its function or class under `name`.

        Raises ValueError for a name that is taken, or is not lower-case letters, digits, '-' and '_'."""
        if not re.fullmatch(r'[a-z0-9][a-z0-9_-]*', name):
            raise ValueError(f'{name!r} cannot name a {self.kind}: use lower-case letters, digits, "-" and "_"')
        if name in self._entries:
            raise ValueError(f'there is a {self.kind} named {name!r} already')
        def decorator(entry):
            self._entries[name] = entry
            return entry
        return decorator

    def lookup(self, name, option):
        """The entry `name`, or a SpiderError that lists the names `option` can take."""
        if name not in self:
            raise SpiderError(f'{option}={name} is not a known {self.kind}; choose from {", ".join(sorted(self))}.')
        return self[name]

    def _loaded(self):
        load_plugins()
        return self._entries

    def __getitem__(self, name):
        return self._loaded()[name]

    def __iter__(self):
        return iter(self._loaded())

    def __len__(self):
        return len(self._loaded())

sources    = Registry('source')
datasets   = Registry('dataset')
mappings   = Registry('mapping')
generators = Registry('generator')
discriminators   = Registry('discriminator')
feature_networks = Registry('feature network')
metrics    = Registry('metric')

#----------------------------------------------------------------------------
# Built-in entries first, so that nobody takes their names. A package that fails to import is named on stderr and left out.

REGISTRIES = (sources, datasets, mappings, generators, discriminators, feature_networks, metrics)

_plugins_loaded = False

def load_plugins():
    """Imports the modules that register, once in a process."""
    global _plugins_loaded
    if _plugins_loaded:
        return
    _plugins_loaded = True
    for module in BUILTINS:
        importlib.import_module(module)
    wanted = os.environ.get('SPIDER_LOAD_PLUGINS')
    wanted = None if wanted is None else {name.strip() for name in wanted.split(',')}
    for entry_point in metadata.entry_points(group=ENTRY_POINTS):
        package = entry_point.dist.name if entry_point.dist else None
        if wanted is None or entry_point.name in wanted or package in wanted:
            _load(entry_point)

def _load(entry_point):
    before = _entries()
    try:
        entry_point.load()
    except (Exception, SystemExit) as error: # Code of another package: it must not take a training run down.
        print(f'spider-plugin: plugin {entry_point.name} was left out ({type(error).__name__}: {error})', file=sys.stderr)
    added = [f'{kind} {name}' for kind, name in _entries() if (kind, name) not in before]
    if added and multiprocessing.parent_process() is None:
        print(f'spider-plugin: {entry_point.name} adds {", ".join(added)}', file=sys.stderr)

def _entries():
    return [(registry.kind, name) for registry in REGISTRIES for name in registry._entries]

#----------------------------------------------------------------------------
