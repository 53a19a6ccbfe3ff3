"""Questions about the host that is running, answered by looking at what it can do and not at its name."""

import dataclasses
import functools
import importlib
import os

from spider_plugin.errors import UserError

@dataclasses.dataclass(frozen=True)
class Target:
    """The host's training set; label_dim is 0 where it trains without labels."""

    path:       str
    resolution: int
    channels:   int
    label_dim:  int

@dataclasses.dataclass(frozen=True)
class Layers:
    """The host's generator at the target's resolution."""

    num_ws:         int
    constant_input: bool # Synthesis starts from a learned 4x4 constant, as in StyleGAN2.

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
        return Target(kwargs['path'], dataset.resolution, dataset.num_channels, label_dim)

    def generator(self):
        """Builds the host's generator with very few channels, and looks at it.

        Raises UserError where it has no mapping and synthesis networks that a Spider generator could be made of."""
        import torch
        class_name, target = self._c['G_kwargs']['class_name'], self.target
        kwargs = {key: value for key, value in self._c['G_kwargs'].items() if key != 'class_name'}
        kwargs.update(z_dim=4, w_dim=4, channel_base=target.resolution, channel_max=4)
        try:
            module = importlib.import_module(class_name.rpartition('.')[0])
            with torch.random.fork_rng(devices=[]):
                G = import_name(class_name)(c_dim=0, img_resolution=target.resolution, img_channels=target.channels, **kwargs)
            fits = isinstance(G.mapping, module.MappingNetwork) and isinstance(G.synthesis, module.SynthesisNetwork)
            layers = Layers(num_ws=G.mapping.num_ws, constant_input=hasattr(getattr(G.synthesis, 'b4', None), 'const'))
        except (AttributeError, TypeError, ImportError) as error:
            raise UserError(f'--spider-source cannot be used with {class_name} ({error}); use a StyleGAN2 or StyleGAN3 '
                            'configuration.') from error
        if not fits:
            raise UserError(f'--spider-source cannot be used with {class_name}; use a StyleGAN2 or StyleGAN3 configuration.')
        return layers

    def local_file(self, path):
        """The file itself, or the copy of a URL in the host's cache."""
        if os.path.exists(path) or '://' not in path:
            return path
        return import_name('dnnlib.util.open_url')(path, return_filename=True)

def import_name(dotted):
    """Object of a dotted name, `package.module.Object`."""
    module, _, name = dotted.rpartition('.')
    return getattr(importlib.import_module(module), name)
