"""`spider_plugin.evaluate` and `spider_plugin.rank_sources`: scores of a generator, and of sources, from Python."""

import contextlib
import dataclasses
import functools
import hashlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch

from spider_plugin.detectors import asked_for
from spider_plugin.errors import SpiderError
from spider_plugin.files.progress import Progress
from spider_plugin.metrics.distances import Distance, fid, kid
from spider_plugin.metrics.sid import MIN_SAMPLES, SIDResult, sid
from spider_plugin.neighbors.compare import find_neighbors
from spider_plugin.neighbors.detector import HostDetector, pick_device
from spider_plugin.neighbors.features import ImageSet, SetProgress, compute_features, detect, open_set
from spider_plugin.neighbors.ranking import MEASURES
from spider_plugin.snapshots.rebuild import load_generator

METRICS: dict[str, Callable[[Any, Any], SIDResult | Distance]] = {'sid': sid, 'fid': fid, 'kid': kid}

# What tells images apart: None for SPIDER_DETECTOR, else Inception; a name or file as of --detector, a torch module, or an
# object as of neighbors.features.compute_features.
Detector: TypeAlias = str | Path | torch.nn.Module | Any | None

#----------------------------------------------------------------------------

def evaluate(generator: torch.nn.Module | str | Path, data: str | Path, metrics: Sequence[str] = ('sid', 'fid', 'kid'), *,
             detector: Detector = None, num_images: int | None = None, max_images: int = 50000,
             labels: torch.Tensor | None = None, batch: int = 64, seed: int = 0, trust: bool = False,
             quiet: bool = False) -> dict[str, SIDResult | Distance]:
    """Return the distances of a generator's images to a data set: {'sid': SIDResult, 'fid': Distance, 'kid': Distance}.

    generator:  a module with `z_dim` and `c_dim` (0 where it has none), called as generator(z [N, z_dim], c [N, c_dim]) ->
                images [N, C, R, R] in [-1, 1], float; or the path of a snapshot.
    data:       zip or folder of images, the name of a dataset, or an .npz of features.
    metrics:    of 'sid', 'fid', 'kid'; one pass over the images serves all.
    detector:   feature network. None: that of SPIDER_DETECTOR, else Inception, which is downloaded once. A name or file as
                of --detector; 'demo' knows images of 32 x 32 pixels, resizes others, and needs no download. A torch module,
                called with uint8 images [N, C, R, R] on its device, returning features [N, n]: the data's features are kept in
                the cache under a hash of its class and tensors.
    num_images: images to draw; default: as many as are looked at of the data.
    max_images: most images of the data that are looked at, chosen uniformly.
    labels:     [M, c_dim], from which c is drawn uniformly. None: one-hot, all classes equally often.
    batch:      images in a call of the generator.
    seed:       of latents, labels and the generator's noise; the random state of the process stays as it is.
    trust:      unpickle a snapshot as hosts do, which runs code that the file carries.
    quiet:      no progress on stderr.
    A module is run in eval mode, where its parameters are, and left in the mode that it was in.
    Raises SpiderError for what cannot be read or compared."""
    if unknown := [name for name in metrics if name not in METRICS]:
        raise SpiderError(f'metrics: {unknown[0]!r} is unknown; choose from {", ".join(METRICS)}.')
    reals = open_set(str(data), max_images=max_images)
    count = min(reals.num_images, max_images) if num_images is None else num_images
    if count < MIN_SAMPLES:
        raise SpiderError(f'num_images={count} is too few to tell distributions apart; give at least {MIN_SAMPLES}.')
    network = _open_detector(detector)
    drawn = generator if isinstance(generator, torch.nn.Module) else load_generator(str(generator), trust=trust).to(pick_device())
    p = _generated_features(drawn, network, count, labels, batch, seed, quiet)
    q = compute_features(reals, network, max_images, SetProgress(min(reals.num_images, max_images), 1, quiet)).values
    if p.shape[1] != q.shape[1]:
        raise SpiderError(f'{data} has {q.shape[1]} features of an image, but the detector gives {p.shape[1]}; take both from '
                          'one detector.')
    return {name: METRICS[name](p, q) for name in metrics}

@dataclasses.dataclass(frozen=True)
class RankedSource:
    """A source and its distances to the target. Ranks differ only where intervals are apart; within a tie, order says nothing."""

    source:   str           # As it was given.
    rank:     int           # From 1; tied sources share one.
    tied:     bool
    sid:      Distance      # SID(source || target): negative where the source is narrower than the target.
    sid_back: Distance      # SID(target || source).
    fid:      Distance
    kid:      Distance
    images:   int           # So many were looked at.
    words:    str           # What the sign of SID means for this source.
    detector: str           # Whose features these are: '' for Inception, '.npz' for features from files, else a name.

    def __repr__(self) -> str:
        by = f' by {self.detector}' if self.detector else ''
        return (f'RankedSource({self.rank}{" (tied)" if self.tied else ""}: {self.source}, FID {self.fid.value:.4g}, '
                f'KID {self.kid.value:.4g}, SID {self.sid.value:+.4g}{by})')

def rank_sources(target: str | Path, sources: Sequence[str | Path], *, by: str = 'fid', detector: Detector = None,
                 max_images: int = 50000, trust: bool = False, quiet: bool = False) -> list[RankedSource]:
    """Return the sources in the order of their distance to the target, as `spider neighbors` ranks them.

    target:     zip or folder of images, or an .npz of features [N, n] named `features`.
    sources:    the same, generators (.pkl), names that `spider sources` lists, or noise, strokes, shapes, covariance:PATH; each
                once. One that holds the same images as the target is left out.
    by:         'fid', 'kid' or 'sid' (its absolute value): what ranks.
    detector:   as of `evaluate`; it is not used where all sets are .npz files.
    max_images: most images of a set that are looked at, chosen uniformly. Features are kept in the cache.
    trust:      unpickle generators as hosts do, which runs code that they carry.
    quiet:      no progress on stderr.
    Warns (UserWarning) where measures disagree, sets are small, or few images of a source were drawn. Raises SpiderError for
    what cannot be read or compared."""
    if by not in MEASURES:
        raise SpiderError(f'by={by!r} is unknown; use {", ".join(MEASURES)}.')
    summary = find_neighbors(str(target), [str(source) for source in sources], _open_detector(detector), max_images=max_images,
                             by=by, trust=trust, device=pick_device(), quiet=quiet)
    for sentence in [*summary['warnings'], *summary['notes']]:
        warnings.warn(sentence, stacklevel=2)
    distance = lambda entry: Distance(entry['value'], entry['ci95'])
    return [RankedSource(
        source=entry['source'], rank=entry['rank'], tied=entry['tied'], images=entry['images'], words=entry['sid']['words'],
        detector=summary['label'],
        **{name: distance(entry[name]) for name in ('sid', 'sid_back', 'fid', 'kid')}) for entry in summary['sources']]

#----------------------------------------------------------------------------
# Detectors.

def _open_detector(detector: Detector) -> Any:
    if detector is None or isinstance(detector, (str, Path)):
        return HostDetector(asked_for(None if detector is None else str(detector)), device=pick_device())
    if isinstance(detector, torch.nn.Module):
        return ModuleDetector(detector)
    if not callable(detector) or not isinstance(getattr(detector, 'identity', None), str):
        raise SpiderError('detector must be a name, a file, a torch module, or a function of uint8 images with an attribute '
                          '`identity`, a string under which features are kept in the cache.')
    return detector

class ModuleDetector:
    """A torch module of the user's as a detector; its identity is a digest of its class and tensors."""

    def __init__(self, module: torch.nn.Module) -> None:
        self.module, self.device = module, _device_of(module)
        self.name = type(module).__name__

    @functools.cached_property
    def identity(self) -> str:
        digest = hashlib.sha256(f'{type(self.module).__module__}.{type(self.module).__qualname__}'.encode())
        for name, tensor in self.module.state_dict().items():
            digest.update(f'{name} {tensor.dtype} {list(tensor.shape)}'.encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
        return digest.hexdigest()

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        with _in_eval_mode(self.module):
            features: torch.Tensor = self.module(images.to(self.device))
        return features

def _device_of(module: torch.nn.Module) -> torch.device:
    return next((tensor.device for tensor in [*module.parameters(), *module.buffers()]), torch.device('cpu'))

@contextlib.contextmanager
def _in_eval_mode(module: torch.nn.Module) -> Iterator[None]:
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode

#----------------------------------------------------------------------------
# The pass over a generator's images.

@torch.no_grad()
def _generated_features(generator: torch.nn.Module, detector: Any, count: int, labels: torch.Tensor | None, batch: int,
                        seed: int, quiet: bool) -> np.ndarray[Any, Any]:
    """float32 [count, n]."""
    device, progress = _device_of(generator), Progress('Generator', count)
    shown = ImageSet('the generator', 'the generator', 'generator', count)
    rng, features = torch.Generator().manual_seed(seed), []
    with torch.random.fork_rng(devices=[device] if device.type == 'cuda' else []), _in_eval_mode(generator):
        torch.manual_seed(seed)
        for start in range(0, count, batch):
            z, c = _draw_inputs(generator, min(batch, count - start), labels, rng)
            features.append(detect(detector, _pixels(generator(z.to(device), c.to(device)), len(z)), shown))
            if not quiet:
                progress.update(start + len(z))
    return np.concatenate(features)

def _draw_inputs(generator: torch.nn.Module, count: int, labels: torch.Tensor | None,
                 rng: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """z [count, z_dim] and c [count, c_dim], float32."""
    z_dim, c_dim = getattr(generator, 'z_dim', None), int(getattr(generator, 'c_dim', 0))
    if not isinstance(z_dim, int):
        raise SpiderError(f'{type(generator).__name__} has no z_dim, the length of its latents; set that attribute to a number.')
    if labels is not None and (labels.ndim != 2 or labels.shape[1] != c_dim or len(labels) == 0):
        raise SpiderError(f'labels must have the shape [images, {c_dim}], not {list(labels.shape)}.')
    z = torch.randn([count, z_dim], generator=rng)
    if labels is not None:
        return z, labels[torch.randint(len(labels), [count], generator=rng)].to(torch.float32)
    if c_dim == 0:
        return z, torch.zeros([count, 0])
    return z, torch.nn.functional.one_hot(torch.randint(c_dim, [count], generator=rng), c_dim).to(torch.float32)

def _pixels(images: torch.Tensor, count: int) -> np.ndarray[Any, Any]:
    """Images in [-1, 1] as hosts save them: uint8 [N, C, R, R]."""
    if images.ndim != 4 or len(images) != count or images.shape[1] not in (1, 3) or not images.is_floating_point():
        raise SpiderError(f'The generator gives {images.dtype} {list(images.shape)} for {count} latents; it must give floats '
                          '[images, 1 or 3, side, side] in [-1, 1].')
    pixels: np.ndarray[Any, Any] = (images.to(torch.float32) * 127.5 + 128).clamp(0, 255).to(torch.uint8).cpu().numpy()
    return pixels

#----------------------------------------------------------------------------
