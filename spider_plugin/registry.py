"""Named registries of the values that options can take. Other packages can add to them.

    from spider_plugin import registry

    @registry.sources.register('stripes')       # (count, resolution, channels, rng, reference) -> uint8 images
    def stripes(...): ...

    registry.datasets.register('mine')(Dataset(...))            # --spider-source=mine, spider_plugin/sources/catalogue.py

    registry.mappings.register('mine')(MappingKind(...))        # --spider-mapping=mine, spider_plugin/options/mappings.py

    registry.generators.register('mynet')(PluginGenerator(...)) # --cfg=mynet, spider_plugin/options/generators.py

    registry.discriminators.register('mine')(PluginDiscriminator(...))  # --disc=mine, spider_plugin/options/discriminator.py

    registry.feature_networks.register('resnet50')(FeatureNetwork(...)) # --disc-backbone, spider_plugin/weights.py

    @registry.metrics.register('mymetric')      # (opts) -> dict of floats, as in the host's metrics/metric_main.py
    def mymetric(opts): ...

Built-ins register by the same call when their module is imported. Another package adds entries by an entry point that names the
module to import:

    [project.entry-points.spider_plugin]
    my-plugin = "my_package.spider"

Entry points are imported once in each process, when a registry is first used. SPIDER_LOAD_PLUGINS, a comma-separated list of
entry point or package names, restricts them; an empty value turns all of them off. A line on stderr lists the entries
of each, because pickles may name its generators and mappings. Configs and snapshots carry only names, never objects.
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
    """A mapping of names to objects, filled when it is first read."""

    def __init__(self, kind):
        self.kind, self._entries = kind, {}

    def register(self, name):
        """Return a decorator that registers its function or class under `name`.

        Raises ValueError for a name that is taken, or that has other characters than lower-case letters, digits, '-', '_'."""
        if not re.fullmatch(r'[a-z0-9][a-z0-9_-]*', name):
            raise ValueError(f'{name!r} cannot name a {self.kind}: use lower-case letters, digits, "-" and "_"')
        if name in self._entries:
            raise ValueError(f'there is a {self.kind} named {name!r} already')
        def decorator(entry):
            self._entries[name] = entry
            return entry
        return decorator

    def lookup(self, name, option):
        """Return the entry `name`. Raises SpiderError with the list of names that `option` can take."""
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
# Built-ins are imported first, so that no other package can take their names. An entry point that cannot be imported is reported
# on stderr and left out.

REGISTRIES = (sources, datasets, mappings, generators, discriminators, feature_networks, metrics)

_plugins_loaded = False

def load_plugins():
    """Import the modules that register entries, once in a process."""
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
    except (Exception, SystemExit) as error: # Code of another package must not end a training run.
        print(f'spider-plugin: plugin {entry_point.name} was left out ({type(error).__name__}: {error})', file=sys.stderr)
    added = [f'{kind} {name}' for kind, name in _entries() if (kind, name) not in before]
    if added and multiprocessing.parent_process() is None:
        print(f'spider-plugin: {entry_point.name} adds {", ".join(added)}', file=sys.stderr)

def _entries():
    return [(registry.kind, name) for registry in REGISTRIES for name in registry._entries]

#----------------------------------------------------------------------------
