"""Questions about the host that is running, answered by looking at what it can do and not at its name."""

import dataclasses
import functools
import importlib
import inspect
import os

from spider_plugin.errors import SpiderError

@dataclasses.dataclass(frozen=True)
class Target:
    """The host's training set; label_dim is 0 where it trains without labels; subset: (most images, seed that picks them)."""

    path:       str
    resolution: int
    channels:   int
    label_dim:  int
    subset:     tuple | None = None

@dataclasses.dataclass(frozen=True)
class Layers:
    """What the host's generator is made of at the target's resolution."""

    z_dim:          int
    w_dim:          int
    num_ws:         int | None          # None: its mapping network has no rows, as in FastGAN.
    constant_input: bool                # Synthesis starts from a learned 4x4 constant, as in StyleGAN2.
    mapping:        str | None = None   # Class of its mapping network, where it and synthesis have other names than StyleGAN's.

class Host:
    """What config.apply_options asks about the host that is about to train with the config `c`."""

    def __init__(self, c):
        self._c = c

    @functools.cached_property
    def target(self):
        """The training set, opened with the host's own class."""
        kwargs = dict(self._c['training_set_kwargs'])
        dataset = import_name(kwargs.pop('class_name'))(**kwargs)
        label_dim = dataset.label_dim if kwargs.get('use_labels') else 0
        subset = None if kwargs.get('max_size') is None else (kwargs['max_size'], kwargs.get('random_seed', 0))
        return Target(kwargs['path'], dataset.resolution, dataset.num_channels, label_dim, subset)

    def generator(self):
        """Builds the host's generator, as training will, and looks at it.

        Raises SpiderError where it has no mapping network that takes z, of which a Spider generator could be made."""
        import torch
        class_name, target = self._c['G_kwargs']['class_name'], self.target
        kwargs = {key: value for key, value in self._c['G_kwargs'].items() if key != 'class_name'}
        try:
            module = importlib.import_module(class_name.rpartition('.')[0])
            with torch.random.fork_rng(devices=[]):
                G = import_name(class_name)(c_dim=target.label_dim, img_resolution=target.resolution,
                                            img_channels=target.channels, **kwargs)
            stylegan = all(isinstance(getattr(G, part), getattr(module, network, ()))
                           for part, network in (('mapping', 'MappingNetwork'), ('synthesis', 'SynthesisNetwork')))
            mapping = type(G.mapping).__name__
            fits = class_name.endswith('.Generator') and (stylegan or getattr(module, mapping, None) is type(G.mapping))
            layers = Layers(z_dim=G.z_dim, w_dim=G.w_dim, num_ws=getattr(G.mapping, 'num_ws', None),
                            constant_input=stylegan and hasattr(getattr(G.synthesis, 'b4', None), 'const'),
                            mapping=None if stylegan else mapping)
        except (AttributeError, TypeError, ImportError) as error:
            raise SpiderError(f'--spider-source cannot be used with {class_name} ({error}); use a StyleGAN2 or StyleGAN3 '
                              'configuration.') from error
        if not fits:
            raise SpiderError(f'--spider-source cannot be used with {class_name}, whose mapping network is not a class beside '
                              'it; use a StyleGAN2 or StyleGAN3 configuration.')
        return layers

    def networks(self):
        """{'G': the generator, 'D': the discriminator} of the config, as training will build them; D is None where it cannot
        be built here, because it would download a backbone for example."""
        try:
            D = self._network('D')
        except Exception: # Of a host's code, in an environment that it may not have been made for.
            D = None
        return dict(G=self._network('G'), D=D)

    def _network(self, name):
        import torch
        kwargs = dict(self._c[f'{name}_kwargs'])
        shape = dict(c_dim=self.target.label_dim, img_resolution=self.target.resolution, img_channels=self.target.channels)
        with torch.random.fork_rng(devices=[]):
            return import_name(kwargs.pop('class_name'))(**kwargs, **shape)

    def generator_has(self, attribute, value):
        """Whether a module of the generator has this attribute with this value."""
        return any(getattr(module, attribute, None) == value for module in self._network('G').modules())

    def loss_keyword(self, name):
        """What the loss will get for a keyword, or None if it knows none of that name, or if the config has no loss."""
        loss = self._c.get('loss_kwargs')
        if loss is None:
            return None
        parameter = inspect.signature(import_name(loss['class_name'])).parameters.get(name)
        return None if parameter is None else loss.get(name, parameter.default)

    def loop_takes(self, name):
        """Whether the host's training loop has an argument of that name."""
        return name in inspect.signature(import_name('training.training_loop.training_loop')).parameters

    def local_file(self, path):
        """The file itself, or the copy of a URL in the host's cache."""
        if os.path.exists(path) or '://' not in path:
            return path
        return import_name('dnnlib.util.open_url')(path, return_filename=True)

def import_name(dotted):
    """Object of a dotted name, `package.module.Object`."""
    module, _, name = dotted.rpartition('.')
    return getattr(importlib.import_module(module), name)
