"""The detector of a host, a feature network for commands of the plugin, found and loaded as the host's metrics do; or one of the
plugin's named detectors (spider_plugin/detectors.py), which needs no host.

The host decides where it keeps detectors, which ones it downloads and how it reads them; this module does not repeat that.
The checkout (`--host`, else the embedded host) becomes the first entry of sys.path in this process, and these of its functions
are used:

    metrics.detectors.find(value)                            the file for a name, a URL or a path, if the module exists
    dnnlib.util.open_url(url, return_filename=True)          otherwise the file of a URL, in the host's cache
    metrics.metric_utils.get_feature_detector(url, device)   the network

Only TorchScript files are loaded here, for all hosts alike. A host whose detectors are pickles could not load them."""

import functools
import importlib
import inspect
import os
import sys
import zipfile
from pathlib import Path

import torch

from spider_plugin import detectors
from spider_plugin.detectors import load_torchscript
from spider_plugin.errors import SpiderError, out_of_memory, printable
from spider_plugin.files.cache import sha256_of_file
from spider_plugin.resources import resource_dir

DEFAULT = 'inception'   # Name of the network of published scores in hosts with a detector lookup.

PUBLISHED = 'f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4'  # sha256 of inception-2015-12-05.pt

KNOWN = {       # sha256 of detectors that are as they were published
    PUBLISHED,
    'b437eb095feaeb0b83eb3fa11200ebca4548ee39a07fb944a417ddc516cc07c3',     # VGG16 of LPIPS, vgg16.pt
    '2a78af6b7d6ae4ff5fb41b9d1aac54e72dd77cec040f2793210a8914260e3e3c',     # demo_detector.pt of the embedded host
}

#----------------------------------------------------------------------------

class HostDetector:
    """Maps images uint8 [N, C, H, W] to features float [N, n] on the device; grey images are repeated to RGB.

    value:      value of --detector: an entry of registry.detectors, a name that the host knows or any TorchScript file.
                None takes the host's default.
    host:       directory of a checkout; None for the embedded host.
    device:     where the network runs.
    name, path and identity (hex digest of the file) are looked up at first use; the network is loaded at the first call.
    Raises SpiderError."""

    def __init__(self, value=None, host=None, device='cpu'):
        self.value, self.device = value, torch.device(device)
        self.host = Path(resource_dir('reference_host') if host is None else host).absolute()
        if host == '' or not os.path.isfile(self.host / 'metrics' / 'metric_utils.py'):
            raise SpiderError(f'--host={host} has no metrics/metric_utils.py; give the folder of a StyleGAN-style checkout.')

    def __call__(self, images):
        network, options = self._network
        if images.shape[1] == 1:
            images = images.repeat([1, 3, 1, 1])
        try:
            with torch.backends.cudnn.flags(allow_tf32=False):
                return network(images.to(self.device), **options)
        except RuntimeError as error:
            if out_of_memory(error):
                raise
            shape = ' x '.join(map(str, images.shape[1:]))
            raise SpiderError(f'--detector={self.name} cannot take images of {shape} ({_last_line(error)}); give another '
                              'detector, or images of a size that it takes.') from error

    @functools.cached_property
    def path(self):
        """The detector's file."""
        if (lookup := self._module('metrics.detectors', optional=True)) is not None:
            path = self._try(lambda: lookup.find(self.value or DEFAULT))
        elif self.value is None:
            raise SpiderError(f'--host={self.host} has no detector lookup; name its network by --detector=FILE or URL.')
        elif '://' in self.value:
            path = self._try(lambda: self._module('dnnlib.util').open_url(self.value, return_filename=True))
        else:
            path = self.value
        if not os.path.isfile(path):
            raise SpiderError(f'--detector={path} does not exist; give a TorchScript file.')
        return path

    @property
    def name(self):
        return self.value or DEFAULT

    @property
    def label(self):
        """What stands beside its scores: '' for the network of published scores, else a short name."""
        if self.value in (None, DEFAULT) or not self.is_named and self.identity == PUBLISHED:
            return ''
        return self.value if self.is_named else detectors.short_name(self.value)

    @functools.cached_property
    def identity(self):
        return detectors.identity_of(self.value) if self.is_named else sha256_of_file(self.path)

    @property
    def is_named(self):
        """Whether it is an entry of registry.detectors."""
        return detectors.known(self.value)

    @property
    def about(self):
        """A sentence about what its scores compare with, '' where there is none."""
        return detectors.about(self.value)

    #------------------------------------------------------------------------

    @functools.cached_property
    def _network(self):
        """(network, keywords of its calls)."""
        if self.is_named:
            return detectors.open_detector(self.value, self.device), {}
        self._say_that_it_is_code()
        if _is_torchscript(self.path):
            return self._try(lambda: load_torchscript(self.path, self.device)), {}
        load = self._module('metrics.metric_utils').get_feature_detector
        network = self._try(lambda: load(self.value or DEFAULT, device=self.device)).eval()
        names = inspect.signature(network.forward).parameters
        return network, dict(return_features=True) if 'return_features' in names or 'kwargs' in names else {}

    def _say_that_it_is_code(self):
        """Print a line for a file whose digest the embedded host does not know."""
        code = _is_torchscript(self.path) or str(self.path).endswith('.pkl')
        if code and self.identity not in KNOWN and os.environ.get('RANK', '0') == '0':
            print(f'--detector={printable(self.name)} (sha256 {self.identity[:12]}) is not in the table of known detectors; a '
                  'detector is code, which runs with your rights, so give a file that you trust (docs/security.md)',
                  file=sys.stderr)

    def _try(self, load):
        """Return the result of `load`. It runs the host's code, so every exception becomes an error about --detector, except one
        with exit code 2 and a message, as a host's click errors have."""
        try:
            return load()
        except SpiderError:
            raise
        except Exception as error:
            if out_of_memory(error):
                raise
            if getattr(error, 'exit_code', None) == SpiderError.exit_code and hasattr(error, 'message'):
                raise SpiderError(error.message) from error
            raise SpiderError(f'--detector={self.name} cannot be loaded ({_last_line(error)}); give a file written by '
                              'torch.jit.save.') from error

    def _module(self, name, optional=False):
        """Return a module of the host."""
        if sys.path[0] != str(self.host):
            sys.path.insert(0, str(self.host))
        try:
            module = importlib.import_module(name)
        except ImportError as error:
            if optional and error.name == name:
                return None
            raise SpiderError(f'--host={self.host}: {name} cannot be imported ({error}); give a complete checkout, or leave the '
                              'option out.') from error
        if self.host.resolve() not in Path(module.__file__).resolve().parents:
            raise SpiderError(f'--host={self.host}: this process has already imported another {name}, {module.__file__}; take '
                              'that off PYTHONPATH.')
        return module

def _is_torchscript(path):
    """Return whether a file is of torch.jit.save, whose archives hold code; those of torch.save hold none."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any('/code/' in name for name in archive.namelist())

def _last_line(error):
    """Return the reason of an error, short enough for a sentence."""
    return (str(error).strip() or type(error).__name__).splitlines()[-1].strip().rstrip('.')[:160]

def pick_device():
    """Return this rank's cuda device on its machine, else the cpu."""
    if torch.cuda.is_available():
        return torch.device('cuda', int(os.environ.get('LOCAL_RANK', 0)) % torch.cuda.device_count())
    return torch.device('cpu')

#----------------------------------------------------------------------------
