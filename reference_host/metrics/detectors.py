"""Finds, downloads and calls detectors, the feature networks of metrics.

A detector is a TorchScript file that maps uint8 images [N, 3, H, W] to float [N, F]. `--detector` names a file, a URL, one of
the networks in PUBLIC, or 'demo'. Copies of public networks are looked for in the folders of other tools. If there is none, the
network is downloaded to the path where NVIDIA's hosts also look for it."""

import functools
import glob
import hashlib
import importlib
import inspect
import os
import sys
import tempfile
import time
import urllib.parse

import requests
import torch

import dnnlib
from training.runtime import SpiderError

#----------------------------------------------------------------------------

DEMO_DETECTOR = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'demo_detector.pt')
DEMO_RESOLUTION = 32

TEMP = '.' if os.name == 'nt' else '/tmp' # Where clean-fid puts its network.

_ADA = 'https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/'
_SG3 = 'https://api.ngc.nvidia.com/v2/models/nvidia/research/stylegan3/versions/1/files/metrics/'

PUBLIC = dict( # The networks of published scores. `others` are URLs of the same network as a pickle, which would run code.
    inception = dnnlib.EasyDict(
        url         = _ADA + 'inception-2015-12-05.pt',
        others      = [_SG3 + 'inception-2015-12-05.pkl'],
        sha256      = 'f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4',
        checkpoints = ['weights-inception-2015-12-05-6726825d.pth', 'pt_inception-2015-12-05-6726825d.pth']),
    vgg16 = dnnlib.EasyDict(
        url         = _ADA + 'vgg16.pt', # Features, and LPIPS of Zhang et al. 2018.
        others      = [_SG3 + 'vgg16.pkl'],
        sha256      = 'b437eb095feaeb0b83eb3fa11200ebca4548ee39a07fb944a417ddc516cc07c3',
        checkpoints = []),
)

def public_name(url):
    """Return the key in PUBLIC of a --detector value, or None."""
    for name, spec in PUBLIC.items():
        if url in (name, spec.url, *spec.others):
            return name
    return None

named = None # A plugin's table of further detectors: known(name), open_detector(name, device), identity_of(name), about(name).

def is_named(url):
    """Return whether a --detector value is the name of a detector of the plugin."""
    return named is not None and url != 'demo' and named.known(url)

def is_published(url):
    """Return whether a --detector value is a network of published scores, by its name or its bytes."""
    return public_name(url) is not None or not is_named(url) and detector_identity(url) in [
        spec.sha256 for spec in PUBLIC.values()]

def about(url):
    """Return a sentence about what the scores of a --detector value compare with, or ''."""
    if url == 'demo':
        return 'Scores of the demo detector compare only with each other, because it was trained on the demo images.'
    return named.about(url) if is_named(url) else ''

def get_feature_detector_name(url):
    """Return a short name for messages and file names."""
    if public_name(url) is not None:
        url = PUBLIC[public_name(url)].url
    return os.path.splitext(os.path.basename(str(url).rstrip('/')))[0]

#----------------------------------------------------------------------------
# A TorchScript file is a program: it can read and write files.

KNOWN = {*(spec.sha256 for spec in PUBLIC.values()),
         '2a78af6b7d6ae4ff5fb41b9d1aac54e72dd77cec040f2793210a8914260e3e3c'} # That of DEMO_DETECTOR.

@functools.cache # Once in a process.
def say_that_it_is_code(url):
    """Print a line for a --detector value whose file is there and is none of the known ones."""
    if is_named(url):
        return
    path = find(url)
    if not is_checkpoint(path) and detector_identity(url) not in KNOWN:
        print(f'--detector={ascii(str(url))[1:-1]} (sha256 {detector_identity(url)[:12]}) is not in the table of known '
              'detectors; a TorchScript file is code, which runs with your rights, so give one that you trust', file=sys.stderr)

#----------------------------------------------------------------------------
# Lookup.

def find(url):
    """Return the file of a --detector value, or its name if it is one of the plugin's; download it if necessary.

    Raises SpiderError if there is none."""
    if url == 'demo':
        return DEMO_DETECTOR
    if is_named(url):
        named.identity_of(url) # Raises an error where the network cannot be had.
        return url
    if public_name(url) is not None:
        return find_public(public_name(url))
    if dnnlib.util.is_url(url):
        path = download_path(url)
        if not os.path.isfile(path):
            try:
                download(url, path)
            except (OSError, ValueError) as err:
                shown = dnnlib.util.without_login(url)
                reason = first_line(err).replace(url, shown)
                raise SpiderError(f'--detector: {shown} cannot be downloaded ({reason}); give a file instead') from err
        return path
    if not os.path.isfile(url): # A pipe would be waited for.
        raise SpiderError(f'--detector: {url} does not exist, or is no file; give a file written by torch.jit.save')
    return url

@functools.cache # Digests take a moment.
def find_public(name):
    """Return the file of a network in PUBLIC, an existing copy or else a download."""
    spec = PUBLIC[name]
    for path in copies(name):
        digest = file_digest(path)
        if digest == spec.sha256 or is_checkpoint(path) and digest.startswith(path[-12:-4]) and torch_fidelity() is not None:
            return path
        if not is_checkpoint(path):
            print(f'Ignoring {path}, which is not the published file of {spec.url}', flush=True)
    path = download_path(spec.url)
    try:
        download(spec.url, path, spec.sha256)
    except (OSError, ValueError) as err:
        raise SpiderError(f'--detector: the {name} network is not on this machine and cannot be downloaded '
                          f'({first_line(err)}); give --detector=FILE.pt, set SPIDER_DETECTOR=FILE.pt, or put {spec.url} '
                          f'into {os.path.dirname(path)}') from err
    return path

def copies(name):
    """Return existing copies of a network in PUBLIC, of hosts, users, clean-fid, and torch-fidelity or pytorch-fid."""
    spec = PUBLIC[name]
    fname = os.path.basename(spec.url)
    downloads = dnnlib.make_cache_dir_path('downloads')
    paths = sorted(glob.glob(os.path.join(glob.escape(downloads), url_key(spec.url) + '_*')))
    paths += [os.path.join(downloads, fname), os.path.join(TEMP, fname)]
    paths += [os.path.join(torch.hub.get_dir(), 'checkpoints', checkpoint) for checkpoint in spec.checkpoints]
    return [path for path in paths if os.path.isfile(path)]

def url_key(url):
    return hashlib.md5(url.encode()).hexdigest()

def download_path(url):
    """Return the path of a download, under which NVIDIA's hosts find it in the cache that they share with this host."""
    fname = os.path.basename(urllib.parse.urlsplit(url).path)
    return dnnlib.make_cache_dir_path('downloads', f'{url_key(url)}_{fname}')

def file_digest(path):
    """Return the hex SHA-256 of a file."""
    digest = hashlib.sha256()
    with open(path, 'rb') as f:
        while chunk := f.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()

@functools.cache # The loaded network is kept as well, so a change of the file has no effect.
def detector_identity(url):
    """Return the hex digest of a detector's file, or that of a plugin's detector, for cache keys."""
    return named.identity_of(url) if is_named(url) else file_digest(find(url))

def first_line(err):
    """Return the reason of an error, short enough for a sentence."""
    if isinstance(err, (requests.ConnectionError, requests.Timeout)):
        return 'no connection'
    return (str(err).strip() or type(err).__name__).splitlines()[0].rstrip('.')

#----------------------------------------------------------------------------
# Download.

def download(url, path, sha256=None, timeout=(5, 30)):
    """Write the content of url to path, complete or not at all, with progress lines.

    There is one attempt, which fails within seconds without a network. Raises OSError (requests.RequestException is one), and
    ValueError if the length or the digest is not the announced one."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    fd, temp = tempfile.mkstemp(dir=os.path.dirname(path), prefix='.download-')
    try:
        with os.fdopen(fd, 'wb') as f, requests.get(url, stream=True, timeout=timeout) as reply:
            reply.raise_for_status()
            total = int(reply.headers.get('Content-Length', 0))
            digest, done, progress = hashlib.sha256(), 0, DownloadProgress(url, total)
            for chunk in dnnlib.util.body_of(reply):
                f.write(chunk)
                digest.update(chunk)
                done += len(chunk)
                progress.update(done)
        if total and done != total and 'Content-Encoding' not in reply.headers:
            raise ValueError(f'only {done} of {total} bytes arrived')
        if sha256 is not None and digest.hexdigest() != sha256:
            raise ValueError(f'the downloaded file has the SHA-256 {digest.hexdigest()}, not {sha256}')
        os.replace(temp, path)
    except BaseException:
        os.unlink(temp)
        raise

class DownloadProgress:
    """Prints lines like `inception.pt: 12.0 of 91.2 MiB, 3.1 MiB/s, 26s left`, every few seconds and at the end."""

    def __init__(self, url, total, interval=3):
        self.name = os.path.basename(urllib.parse.urlsplit(url).path)
        self.total = total
        self.interval = interval
        self.start = self.last = time.monotonic()
        print(f'Downloading {dnnlib.util.without_login(url)} ...', flush=True)

    def update(self, done):
        now = time.monotonic()
        if done != self.total and now < self.last + self.interval:
            return
        self.last = now
        rate = done / max(now - self.start, 1e-6)
        size = f'{done / 2**20:.1f}' + (f' of {self.total / 2**20:.1f}' if self.total else '')
        left = f', {dnnlib.util.format_time((self.total - done) / rate)} left' if self.total > done else ''
        print(f'{self.name}: {size} MiB, {rate / 2**20:.1f} MiB/s{left}', flush=True)

#----------------------------------------------------------------------------
# Networks.

_detectors = {} # (url, device) -> module.

def get_feature_detector(url, device=torch.device('cpu'), num_gpus=1, rank=0, verbose=False):
    """Return the feature network of a --detector value, on the device, in evaluation mode."""
    if (url, device) not in _detectors and is_named(url):
        _detectors[url, device] = named.open_detector(url, device)
    if (url, device) not in _detectors:
        path = find(url)
        try:
            net = TorchFidelityInception(path) if is_checkpoint(path) else torch.jit.load(path, map_location=device)
        except (OSError, RuntimeError, ValueError) as err:
            raise SpiderError(f'--detector: {url} cannot be loaded as a TorchScript file ({first_line(err)}); give a file '
                              'written by torch.jit.save') from err
        _detectors[url, device] = net.eval().to(device)
    return _detectors[url, device]

def is_checkpoint(path):
    """Return whether a file is the checkpoint of the Inception network that torch-fidelity and pytorch-fid download."""
    return os.path.basename(path) in PUBLIC['inception'].checkpoints

def torch_fidelity():
    """Return torch-fidelity's module of the Inception network, or None if it cannot be imported."""
    try:
        return importlib.import_module('torch_fidelity.feature_extractor_inceptionv3')
    except Exception: # It imports torchvision, which fails in many ways beside a torch it was not built for.
        return None

class TorchFidelityInception(torch.nn.Module):
    """torch-fidelity's Inception network with the keywords of the TorchScript one; the weights are the same."""

    def __init__(self, path):
        super().__init__()
        if torch_fidelity() is None:
            raise ValueError('this checkpoint needs torch-fidelity: pip install torch-fidelity')
        self.net = torch_fidelity().FeatureExtractorInceptionV3('inception', ['2048', 'logits_unbiased', 'logits'],
                                                                feature_extractor_weights_path=path)

    def forward(self, img, return_features=False, no_output_bias=False):
        features, unbiased, logits = self.net(img)
        return features if return_features else (unbiased if no_output_bias else logits).softmax(dim=1)

def run_detector(detector, images, detector_kwargs):
    """Return the output of the detector for images [N, C, H, W] in [0, 255].

    Grey images are repeated to RGB, and keywords that the detector does not take are left out."""
    if images.shape[1] == 1:
        images = images.repeat([1, 3, 1, 1])
    return detector(images, **accepted_kwargs(detector, detector_kwargs))

def accepted_kwargs(detector, kwargs):
    """Return the keyword arguments that the detector's forward takes."""
    if isinstance(detector, torch.jit.ScriptModule):
        names = [argument.name for argument in detector.forward.schema.arguments]
    else:
        parameters = inspect.signature(detector.forward if isinstance(detector, torch.nn.Module) else detector).parameters
        if any(parameter.kind == parameter.VAR_KEYWORD for parameter in parameters.values()):
            return kwargs
        names = list(parameters)
    return {name: value for name, value in kwargs.items() if name in names}

#----------------------------------------------------------------------------
