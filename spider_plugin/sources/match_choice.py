"""Chooses how strongly a source is moved towards the target: not at all, or at 1 x 1 to 16 x 16 pixels (`--spider-match=auto`).

A strong match helps a source whose layout is far from the target's, and spoils one that is close already. So each strength is
tried: the transport is fitted to all but some images of both sets, moves source images that were held out, and their distance to
held-out target images is measured in two ways:

    patches     sliced Wasserstein distance of 5 x 5 patches of a Laplacian pyramid (Karras et al. 2018, section 5)
    features    Frechet distance of the features of a detector: that of --detector or SPIDER_DETECTOR, else lite1, where
                its weights are installed (spider_plugin/detectors.py)

The strength with the smallest geometric mean of the two is chosen, in which features count twice, or with the smallest distance
of patches alone. Each of them alone chooses wrong on some pair: benchmarks/convergence/match_choice.py measures that. None is
chosen where no strength is nearer by a quarter: gains of 3 to 12 % by the draw of the images that are held out were lost in
training. A strength whose covariance has more dimensions than half of the images of the smaller set is not tried."""

import dataclasses
import hashlib
import json

import numpy as np
import torch
import torch.nn.functional as F

from spider_plugin import detectors, registry
from spider_plugin.detectors import LITE1
from spider_plugin.files.cache import atomic_file, cache_dir
from spider_plugin.metrics.distances import Moments, fid
from spider_plugin.sources.match import STRENGTHS, STRONGEST, GaussianTransport
from spider_plugin.weights import package_file

FORMAT  = 3         # of the cached choice, and of the code that decides it
HELD    = 500       # most images of a set that are held out
LEAST   = 80        # images of each set that a choice needs
SIDE    = 64        # pixels to which larger images are averaged before they are compared
WEIGHTS = (1, 2)    # of patches and features in the mean
GAIN    = 0.75      # most of the mean without a match that a match may leave
PATCHES = 12        # of an image at each level
SLICES  = 128

#----------------------------------------------------------------------------

@dataclasses.dataclass(frozen=True)
class Choice:
    """A chosen strength, and what it was chosen by."""

    strength:  int          # 0 for none, else a side of STRENGTHS.
    distances: dict         # Name of a strength -> [patches] or [patches, features]; empty where nothing was measured.
    reason:    str          # Words for the launch log.
    label:     str = ''     # Name of the detector.

    def lines(self):
        """Return the lines for the launch log: the choice, then the table."""
        found = [f'{"Spider match:":<21s}{name_of(self.strength)}, {self.reason}']
        if self.distances:
            head = f'patches, {self.label}' if len(next(iter(self.distances.values()))) > 1 else 'patches'
            found.append(f'{"Match distances:":<21s}{head}: ' + '; '.join(
                f'{name} {", ".join(f"{value:.4g}" for value in row)}' for name, row in self.distances.items()))
        return found

def name_of(strength):
    """Return '16 x 16' for 16, 'none' for 0."""
    return f'{strength} x {strength}' if strength else 'none'

# The strength is an entry of a source's identity where it is not the strongest, as earlier versions had no other.

def recorded(strength):
    """Return the entries of a strength in an identity."""
    return {} if strength == STRONGEST else dict(strength=str(strength))

def at_pixels(strength):
    """Return the words of a strength in the transform of an identity."""
    return '' if strength == STRONGEST else f' at {name_of(strength)} pixels'

def kept(identity, sha256, digest):
    """Return the Choice that a snapshot's source was prepared by; None where it is another source, or of another target.

    identity:       of the snapshot's source, or None.
    sha256, digest: of the source's images and of the target's."""
    if identity is None or identity.get('sha256') != sha256 or identity.get('match') not in (None, digest):
        return None
    text = identity.get('strength', '') if 'match' in identity else '0'
    return Choice(next((r for r in (0, *STRENGTHS) if str(r) == text), STRONGEST), {}, 'as in the snapshot')

def candidates(channels, side, count):
    """Return the strengths that `count` images of each set allow, 0 for none among them.

    channels, side: of the images."""
    return [0] + [r for r in STRENGTHS if r <= side and channels * r * r <= count / 2]

def with_lite1():
    """Return whether the weights of lite1 are installed."""
    entry = registry.feature_networks.get('tf_efficientnet_lite1')
    return entry is not None and package_file('tf_efficientnet_lite1', '--spider-match=auto') is not None

def choose(source, target, detector=None, label=LITE1):
    """Return the Choice for uint8 source images [M, C, R, R] and target images [N, C, R, R], in shuffled orders.

    detector:   a function of uint8 images [B, C, r, r] to features [B, n]; None: the patches alone decide. label: its name.
    R is a power of two. Results repeat to the last bits of the features."""
    count = min(len(source), len(target))
    if count < LEAST:
        return Choice(1, {}, f'since {LEAST} images of each set are needed to choose, and there are {count}')
    held = min(HELD, count // 2)
    (fit_s, held_s), (fit_t, held_t) = ((images[:-held], images[-held:]) for images in (source, target))
    measures = [lambda images: patch_distance(images, shrunk(held_t))]
    if detector is not None:
        moments = Moments(_features(detector, shrunk(held_t)))
        measures.append(lambda images: fid(Moments(_features(detector, images)), moments).value)
    distances = {}
    for strength in candidates(source.shape[1], source.shape[2], count):
        moved = GaussianTransport(fit_s, fit_t, strength)(held_s) if strength else held_s
        distances[strength] = [float(measure(shrunk(moved))) for measure in measures]
    means = {strength: mean(row) for strength, row in distances.items()}
    best = min(means, key=means.__getitem__)
    by = f'{label} and patches' if detector is not None else 'patches'
    by = f'by {by} of {held} held-out images of each set'
    hint = '' if detector is not None else "; pip install 'spider-plugin[imagenet]' for a second opinion"
    reason = f'the nearest to --data {by}{hint}'
    if best and means[best] > GAIN * means[0]:
        best, reason = 0, f'since {name_of(best)} is nearer to --data by less than a quarter, {by}{hint}'
    return Choice(best, {name_of(strength): row for strength, row in distances.items()}, reason, label)

def mean(distances):
    """Return the geometric mean of [patches] or [patches, features]."""
    return float(np.exp(np.average(np.log(np.maximum(distances, 1e-12)), weights=WEIGHTS[: len(distances)])))

def cached_choice(key, read_source, read_target, detector=None):
    """Return the Choice of `choose`, from the cache where it was made before.

    key: JSON values that decide on the images; read_source, read_target: () -> the images.
    detector: value of --detector; None for that of SPIDER_DETECTOR, else lite1 where its weights are installed."""
    wanted = detectors.asked_for(detector) or (LITE1 if with_lite1() else None)
    found = None if wanted is None else detectors.find_detector(wanted, '--detector' if detector else detectors.ENVIRONMENT)
    parts = [FORMAT, found and found.identity, found and found.label, key]
    path = cache_dir('match') / f'{hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]}.json'
    try:
        return Choice(**json.loads(path.read_text(encoding='utf-8')))
    except (OSError, ValueError, TypeError):
        pass
    device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    network = found and found.open(device)
    looks = network and (lambda images: network(_in_colour(images).to(device)).cpu())
    choice = choose(read_source(), read_target(), looks, found.label if found else '')
    with atomic_file(path) as temp:
        temp.write_text(json.dumps(dataclasses.asdict(choice)), encoding='utf-8')
    return choice

#----------------------------------------------------------------------------

def shrunk(images):
    """Return uint8 [N, C, R, R] averaged to at most SIDE pixels."""
    if images.shape[-1] <= SIDE:
        return images
    x = F.avg_pool2d(torch.from_numpy(images).to(torch.float32), images.shape[-1] // SIDE)
    return x.round().clamp(0, 255).to(torch.uint8).numpy()

def _in_colour(images):
    return images.expand(-1, 3, -1, -1)

def _features(detector, images, batch=64):
    with torch.no_grad():
        return torch.cat([detector(part) for part in torch.from_numpy(images).split(batch)]).double()

def patch_distance(a, b, levels=3, size=5, seed=0):
    """Return the sliced Wasserstein distance of patches of two sets, uint8 [N, C, R, R] with one N: the mean over the levels of a
    Laplacian pyramid that have room for a patch, in thousandths of the range [-1, 1]."""
    rng, found = torch.Generator().manual_seed(seed), []
    for x, y in zip(_pyramid(a, levels), _pyramid(b, levels)):
        if x.shape[-1] < size:
            continue
        x, y = _patches(x, size, rng), _patches(y, size, rng)
        slices = torch.randn([x.shape[1], SLICES], generator=rng)
        slices /= slices.norm(dim=0)
        found.append(((x @ slices).sort(dim=0).values - (y @ slices).sort(dim=0).values).abs().mean())
    if not found:   # images smaller than a patch: their pixels
        x, y = (torch.from_numpy(images).flatten(1).float().sort(dim=0).values / 127.5 for images in (a, b))
        found = [(x - y).abs().mean()]
    return 1000 * float(torch.stack(found).mean())

def _pyramid(images, levels):
    x, found = torch.from_numpy(images).to(torch.float32) / 127.5 - 1, []
    for _ in range(levels - 1):
        if x.shape[-1] < 2:
            break
        low = F.avg_pool2d(x, 2)
        found.append(x - F.interpolate(low, scale_factor=2, mode='bilinear', align_corners=False))
        x = low
    return [*found, x]

def _patches(x, size, rng):
    """[N, C, R, R] -> [N * PATCHES, C * size^2], at random places."""
    n, c, h, w = x.shape
    rows, places = torch.arange(n)[:, None], torch.randint((h - size + 1) * (w - size + 1), [n, PATCHES], generator=rng)
    patches = x.unfold(2, size, 1).unfold(3, size, 1)     # [N, C, h', w', size, size], a view
    return patches[rows, :, places // (w - size + 1), places % (w - size + 1)].reshape(n * PATCHES, c * size * size)

#----------------------------------------------------------------------------
