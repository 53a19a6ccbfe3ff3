"""Named registries of the values that options can take. Other packages can add to them.

    from spider_plugin import registry

    @registry.sources.register('stripes')       # (count, resolution, channels, rng, reference) -> uint8 images
    def stripes(...): ...

    registry.datasets.register('mine')(Dataset(...))            # --spider-source=mine, spider_plugin/sources/catalogue.py

    registry.mappings.register('mine')(MappingKind(...))        # --spider-mapping=mine, spider_plugin/options/mappings.py

    registry.generators.register('mynet')(PluginGenerator(...)) # --cfg=mynet, spider_plugin/options/generators.py

    registry.discriminators.register('mine')(PluginDiscriminator(...))  # --disc=mine, spider_plugin/options/discriminator.py

    registry.feature_networks.register('resnet50')(FeatureNetwork(...)) # --disc-backbone, spider_plugin/weights.py

    registry.detectors.register('mine')(NamedDetector(...))     # --detector=mine, spider_plugin/detectors.py

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

import dataclasses
import importlib
import multiprocessing
import os
import pkgutil
import re
import sys
import types
import typing
from collections.abc import Callable, Mapping
from importlib import metadata

from spider_plugin.errors import SpiderError, printable

ENTRY_POINTS = 'spider_plugin'
BUILTINS     = ('spider_plugin.options.mappings', 'spider_plugin.options.dcgan', 'spider_plugin.options.fastgan',
                'spider_plugin.options.pggan', 'spider_plugin.options.discriminator', 'spider_plugin.sources.procedural',
                'spider_plugin.sources.catalogue', 'spider_plugin.weights', 'spider_plugin.detectors',
                'spider_plugin.hosts.sid_metric')

#----------------------------------------------------------------------------

class Registry(Mapping):
    """A mapping of names to objects, filled when it is first read.

    kind:   what an entry is, in messages.
    entry:  `module:Class` of its entries, as a text, since that module registers the first of them; None for any object."""

    def __init__(self, kind, entry=None):
        self.kind, self._entry, self._entries = kind, entry, {}

    def register(self, name):
        """Return a decorator that registers its function or object under `name`.

        Raises SpiderError for a name that is taken, or that has other characters than lower-case letters, digits, '-', '_', and
        for an object that is no entry of this registry: of another class, with a field of another type than its class says,
        or that its own check(name) refuses."""
        if not isinstance(name, str) or not re.fullmatch(r'[a-z0-9][a-z0-9_-]*', name):
            raise SpiderError(f'{name!r} cannot name a {self.kind}; use lower-case letters, digits, "-" and "_".')
        if name in self._entries:
            raise SpiderError(f'There is a {self.kind} named {name!r} already; choose another name.')
        def decorator(entry):
            self._check(name, entry)
            self._entries[name] = entry
            return entry
        return decorator

    def registered(self):
        """Return {name: entry} of what is registered by now; no plugin is loaded for it."""
        return dict(self._entries)

    def restore(self, entries):
        """Go back to the entries that `registered` returned."""
        self._entries = dict(entries)

    def _check(self, name, entry):
        if self._entry is None:
            return
        cls = pkgutil.resolve_name(self._entry)
        if not isinstance(entry, cls):
            wanted = 'a function' if cls is Callable else f'a {cls.__name__} of {cls.__module__}'
            raise SpiderError(f'The {self.kind} {name!r} is of class {type(entry).__name__}; register {wanted}.')
        if dataclasses.is_dataclass(cls):
            _check_fields(f'the {self.kind} {name!r}', entry, cls)
        if hasattr(entry, 'check'):
            entry.check(name)

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

def _check_fields(what, entry, cls):
    """Raise SpiderError for a field of a dataclass whose value is not of its annotated type."""
    for field, hint in typing.get_type_hints(cls).items():
        union = typing.get_origin(hint) in (typing.Union, types.UnionType)
        classes = tuple(typing.get_origin(one) or one for one in (typing.get_args(hint) if union else [hint]))
        if not isinstance(value := getattr(entry, field), classes):
            wanted = ' or '.join('None' if one is type(None) else one.__name__ for one in classes)
            raise SpiderError(f'The field {field} of {what} is {value!r}; give it a value of type {wanted}.')

#----------------------------------------------------------------------------

_FUNCTION = 'collections.abc:Callable'

sources    = Registry('source',    _FUNCTION)
datasets   = Registry('dataset',   'spider_plugin.sources.catalogue:Dataset')
mappings   = Registry('mapping',   'spider_plugin.options.mappings:MappingKind')
generators = Registry('generator', 'spider_plugin.options.generators:PluginGenerator')
discriminators   = Registry('discriminator',   'spider_plugin.options.discriminator:PluginDiscriminator')
feature_networks = Registry('feature network', 'spider_plugin.weights:FeatureNetwork')
detectors  = Registry('detector',  'spider_plugin.detectors:NamedDetector')
metrics    = Registry('metric',    _FUNCTION)

#----------------------------------------------------------------------------
# Built-ins are imported first, so that no other package can take their names. An entry point that cannot be imported is reported
# on stderr and left out, with all that it has registered until then.

REGISTRIES = (sources, datasets, mappings, generators, discriminators, feature_networks, detectors, metrics)

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
    before, modules = [registry.registered() for registry in REGISTRIES], set(sys.modules)
    try:
        entry_point.load()
    except (Exception, SystemExit) as error: # Code of another package must not end a training run.
        _take_back(before, [name for name in sys.modules
                            if name not in modules and _package(name) == _package(entry_point.value)])
        reason = error.message if isinstance(error, SpiderError) else f'{type(error).__name__}: {error}'
        print(printable(f'spider-plugin: plugin {entry_point.name} was left out ({reason})'), file=sys.stderr)
    added = [f'{registry.kind} {name}' for registry, entries in zip(REGISTRIES, before)
             for name in registry.registered() if name not in entries]
    if added and multiprocessing.parent_process() is None:
        print(f'spider-plugin: {entry_point.name} adds {", ".join(added)}', file=sys.stderr)

def _take_back(before, modules):
    """Undo what an entry point did. Another one of the same package may import these modules again, and then they register."""
    for registry, entries in zip(REGISTRIES, before):
        registry.restore(entries)
    for name in modules:
        del sys.modules[name]

def _package(name):
    return name.partition(':')[0].partition('.')[0]

#----------------------------------------------------------------------------
