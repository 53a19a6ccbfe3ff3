"""Queries about the host that is running. They inspect its modules and classes, not its name."""

import dataclasses
import functools
import importlib
import importlib.util
import inspect
import json
import os
import re
import types

from spider_plugin.errors import SpiderError, shown
from spider_plugin.hosts.saving import LOOP_MODULE
from spider_plugin.options.generators import IMAGE, VECTOR

@dataclasses.dataclass(frozen=True)
class Target:
    """The host's training set. label_dim is 0 if it trains without labels; subset is (most images, seed that picks them)."""

    path:       str
    resolution: int
    channels:   int
    label_dim:  int
    subset:     tuple | None = None

@dataclasses.dataclass(frozen=True)
class Layers:
    """The parts of the host's generator at the target's resolution."""

    z_dim:          int
    w_dim:          int
    num_ws:         int | None          # Rows of ws; None if its mapping network has none, as in FastGAN.
    constant_input: bool                # Synthesis starts from a learned 4x4 constant, as in StyleGAN2.
    mapping:        str | None = None   # Path of its mapping network's class in its module, where that is not MappingNetwork.
    stylegan:       bool = True         # Its networks are used as those of StyleGAN are.

    @property
    def source(self):
        """What a generator over this one can do with a source, as in options/generators.py."""
        return frozenset({VECTOR, IMAGE} if self.constant_input else {VECTOR})

# For a generator that takes no source.
_INSTEAD = 'use another configuration, or a generator of the plugin, such as --spider-cfg=fastgan'

class NotBuilt(SpiderError):
    """A network of the host's cannot be built in this process; the cause is the error of its class."""

class Host:
    """Answers about the host that will train with the config `c`, for options.table.apply_options."""

    def __init__(self, c):
        self._c = c
        self._built = {}    # (network, its arguments as JSON) -> module

    @functools.cached_property
    def target(self):
        """The training set, opened with the host's dataset class."""
        kwargs = dict(self._c['training_set_kwargs'])
        dataset = import_name(kwargs.pop('class_name'))(**kwargs)
        label_dim = dataset.label_dim if kwargs.get('use_labels') else 0
        subset = None if kwargs.get('max_size') is None else (kwargs['max_size'], kwargs.get('random_seed', 0))
        return Target(kwargs['path'], dataset.resolution, dataset.num_channels, label_dim, subset)

    def generator(self):
        """Build the host's generator as training will, and return its Layers.

        Raises SpiderError if a Spider generator cannot be made of it, because it has no mapping network that takes z."""
        class_name = self._c['G_kwargs']['class_name']
        try:
            G = self._looked_at('G')
            module = importlib.import_module(class_name.rpartition('.')[0])
            mapping = path_of(type(G.mapping), module)
            if mapping is None and isinstance(G.mapping, getattr(module, 'MappingNetwork', ())):
                mapping = 'MappingNetwork'
            stylegan = mapping is not None and isinstance(G.synthesis, getattr(module, 'SynthesisNetwork', ())) and \
                all(isinstance(getattr(G.mapping, name, None), int) for name in ('num_ws', 'w_dim'))
            layers = Layers(z_dim=G.z_dim, w_dim=G.w_dim, num_ws=getattr(G.mapping, 'num_ws', None), stylegan=stylegan,
                            constant_input=stylegan and hasattr(getattr(G.synthesis, 'b4', None), 'const'),
                            mapping=None if stylegan and mapping == 'MappingNetwork' else mapping)
        except (AttributeError, TypeError, NotBuilt) as error:
            if isinstance(error, NotBuilt) and not isinstance(error.__cause__, AttributeError | TypeError):
                raise
            raise SpiderError(f'--spider-source needs a generator with a mapping network that takes z, and that of this host is '
                              f'{class_name} ({shown(error.__cause__ or error)}); {_INSTEAD}.') from error
        if not class_name.endswith('.Generator') or mapping is None:
            raise SpiderError(f'--spider-source needs a generator whose class is called Generator, with its mapping network in '
                              f'its module or in one that it imports, and that of this host is {class_name} with the mapping '
                              f'network {type(G.mapping).__module__}.{type(G.mapping).__name__}; {_INSTEAD}.')
        return layers

    def networks(self):
        """Return {'G': generator, 'D': discriminator} of the config, as training will build them.

        D is None if it cannot be built here, for example because it would download a feature network."""
        try:
            D = self.network('D')
        except Exception: # The host's code may raise errors of any type in an environment that it was not made for.
            D = None
        return dict(G=self._looked_at('G'), D=D)

    def network(self, name):
        """Return the network `name`, 'G' or 'D', as training will build it: once for the arguments in the config, so callers
        leave it as it is."""
        import torch
        kwargs = dict(self._c[f'{name}_kwargs'])
        key = name, json.dumps(kwargs, sort_keys=True, default=str)
        if key not in self._built:
            shape = dict(c_dim=self.target.label_dim, img_resolution=self.target.resolution, img_channels=self.target.channels)
            network = import_name(kwargs.pop('class_name'))
            with torch.random.fork_rng(devices=[]):
                self._built[key] = built(network, kwargs, shape)
        return self._built[key]

    def _looked_at(self, name):
        """Return network(name). Raises NotBuilt for any error of its class."""
        try:
            return self.network(name)
        except SpiderError:
            raise
        except Exception as error:  # of a host's code, in an environment that it may not have been made for
            raise NotBuilt(f'The options of spider-plugin need a look at {self._c[f"{name}_kwargs"]["class_name"]} of this host, '
                           f'which cannot be built here ({type(error).__name__}: {shown(error)}); correct that, or leave them '
                           'out.') from error

    def generator_family(self):
        """The host family of the generator by its tensors, as in snapshots/families.py; None for another one, and for one that
        cannot be built here."""
        from spider_plugin.snapshots.families import family_of_tensors
        try:
            return family_of_tensors(self.network('G').state_dict())
        except Exception: # Of a host's code, in an environment that it may not have been made for.
            return None

    def generator_has(self, attribute, value):
        """Return whether a module of the generator has this attribute with this value."""
        return any(getattr(module, attribute, None) == value for module in self._looked_at('G').modules())

    def loss_keyword(self, name):
        """Return the value that the loss will get for a keyword; None if it has no such keyword, or the config no loss."""
        loss = self._c.get('loss_kwargs')
        if loss is None:
            return None
        parameter = inspect.signature(import_name(loss['class_name'])).parameters.get(name)
        return None if parameter is None else loss.get(name, parameter.default)

    def remove_unknown(self, before):
        """Remove from the config the intervals that an edit switched off and that the training loop does not have; before: the
        config as it was."""
        added = [name for name in ('G_reg_interval', 'D_reg_interval') if name in self._c and name not in before]
        if added and self.has_loop():
            for name in added:
                if not self.loop_takes(name):
                    del self._c[name]

    @staticmethod
    def has_loop():
        """Return whether the host has a training loop where hosts have it."""
        try:
            return importlib.util.find_spec(LOOP_MODULE) is not None
        except (ImportError, ValueError):
            return False

    def loop_takes(self, name):
        """Return whether the host's training loop has an argument of that name."""
        return name in inspect.signature(import_name(f'{LOOP_MODULE}.training_loop')).parameters

    def local_file(self, path):
        """Return the path of a file, or of the copy of a URL in the host's cache."""
        if os.path.exists(path) or '://' not in path:
            return path
        return import_name('dnnlib.util.open_url')(path, return_filename=True)

def built(network, kwargs, shape):
    """Return network(**kwargs, **shape) without the entries of `shape` that its class does not take: hosts whose images have
    always three colours have no img_channels.

    Signatures do not say so where a class hands its keywords on, so its errors do."""
    shape = {name: value for name, value in shape.items() if name not in kwargs}
    while True:
        try:
            return network(**kwargs, **shape)
        except TypeError as error:
            unknown = re.search(r"unexpected keyword argument '(\w+)'", str(error))
            if not unknown or shape.pop(unknown[1], None) is None:
                raise

def path_of(cls, module):
    """Return the dotted path by which a module reaches a class: a name of its own, or one in a module that it imports, at most
    three modules on; None where it does not, or where the path cannot be a part of a bundle's name."""
    from spider_plugin.bundles.names import can_be_named
    seen, spaces = {id(module)}, [('', module)]
    for _depth in range(4):
        for prefix, space in spaces:
            names = [name for name, value in vars(space).items() if value is cls and can_be_named(prefix + name)]
            if names:
                return prefix + (cls.__name__ if cls.__name__ in names else names[0])
        below = []
        for prefix, space in spaces:
            for name, value in list(vars(space).items()):
                if issubclass(type(value), types.ModuleType) and id(value) not in seen:
                    seen.add(id(value))
                    below.append((f'{prefix}{name}.', value))
        spaces = below
    return None

def import_name(dotted):
    """Return the object of a dotted name, `package.module.Object`."""
    module, _, name = dotted.rpartition('.')
    return getattr(importlib.import_module(module), name)
