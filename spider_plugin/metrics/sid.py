"""Signed Inception distance (SID) of two sets of features, in closed form and with a confidence interval.

    D_p(x) = E_{c ~ p} phi(|x - c|),    phi(t) = t^k for k > 0, -t^k for k < 0
    SID_r(p || q) = E_{x ~ U[cube_r]} [ D_p(x) - D_q(x) ],    cube_r = mu_q +- r w

with mu_q the mean of q, and w its standard deviations, either one for each dimension (sigma='vector') or their mean for all
(sigma='scalar', as in the released code). SID is positive if p lies further from q's centre than q does, because it is shifted
or wider, and negative if p is narrower and inside.

For x = mu + r w u with u uniform on [-1, 1]^n, the squared distance to a centre c is a sum of n independent terms. With
rho^2 = |c - mu|^2 and tau = sum_d w_d^2 (c - mu)_d^2 its mean and variance are

    A = rho^2 + r^2 sum(w^2) / 3,    V = 4/45 r^4 sum(w^4) + 4/3 r^2 tau

and E phi = g(A, V) = sign(k) A^(k/2) [ 1 + k/2 (k/2 - 1) / 2 V / A^2 ] up to a relative O(n^-2). So two numbers for each feature
vector replace the distances to random points. The definition is that of the released code; values are comparable only if the
same radii are summed."""

import dataclasses
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from spider_plugin.errors import SpiderError

RADII       = 0.25 * np.arange(1, 200)  # Half-widths of the cube in standard deviations of q: the released code's grid.
MIN_SAMPLES = 50                        # With fewer, the debiased distances and the interval are not meaningful.
MIN_DIM     = 8                         # With at least this many dimensions times |k|, the expansion in 1/n is good to 1% of SID.
MAX_ORDER   = 10                        # At higher orders a few outliers decide the value.
BLOCK       = 1 << 18                   # Numbers in a float64 temporary; some dozens of these are the memory beyond the features.

Array    = np.ndarray[Any, Any]
Features = Array | torch.Tensor         # [N, n] of any real dtype.

#----------------------------------------------------------------------------

@dataclasses.dataclass(frozen=True)
class SIDResult:
    """SID of p (source or fakes) against q (target or reals)."""

    radii:              Array       # [J], half-widths of the cube in standard deviations of q.
    curve:              Array       # [J], SID at each radius.
    value:              float       # Cumulative SID: the sum of the curve. It grows with the logarithm of the largest radius.
    ci95:               float       # Half-width of the 95% interval of `value` over samples, q's mean and scale redrawn too.
    ci95_conditional:   float       # The same for q's mean and scale as given: too narrow for a shift along wide directions.
    r1:                 float       # SID at a radius of one standard deviation, be it on the grid or not.
    location:           float       # |mean p - mean q|^2. To first order a positive multiple of location + spread is SID.
    spread:             float       # tr cov p - tr cov q. Both parts are unbiased with debias, plain without.
    trace_q:            float       # tr cov q, the scale of the two.
    order:              float       # k of phi(t) = sign(k) t^k.
    sigma:              str
    debias:             bool
    num_p:              int
    num_q:              int

    def __repr__(self) -> str:
        return (f'SIDResult(value={self.value:+.6g}, ci95={self.ci95:.2g}, order={self.order:g}, num_p={self.num_p}, '
                f'num_q={self.num_q})')

    def explain(self, p: str = 'p', q: str = 'q') -> str:
        """Return one sentence on what the sign means for this pair; p, q: what to call the two sets, in the singular."""
        noise = 3 * ((self.trace_q + self.spread) / self.num_p + self.trace_q / self.num_q) # Bound on location's, at 2 s.d.
        off_centre = self.location > noise
        share = lambda part: f'{100 * part / self.trace_q:+.3g}%'
        parts = f'location {share(self.location)} and spread {share(self.spread)} of the variance of {q}'
        head = f'SID {self.value:+.4g} +- {self.ci95:.2g}'
        if abs(self.value) <= self.ci95:
            reason = (f'{p} lies off the centre of {q} but is narrower, and the two cancel' if off_centre and self.spread < 0 else
                      f'these samples show {p} neither further out than {q} nor further in; they need not be equal')
            return f'{head} is zero within its interval, because {reason} ({parts}).'
        if self.value * (self.location + self.spread) <= 0:
            side = 'nearer to' if self.value < 0 else 'further from'
            where = f'{side} the centre of {q} by the measure of order {self.order:g}, though not by variance'
        elif self.value < 0:
            where = f'narrower than {q}' + (', by more than it lies off its centre' if off_centre else ' and inside it')
        elif self.spread > 0.1 * self.location:
            where = f'wider than {q}' + (' and off its centre' if off_centre else '')
        else:
            where = f'off the centre of {q}' + (', by more than it is narrower' if -self.spread > 0.1 * self.location else '')
        return f'{head} is {"negative" if self.value < 0 else "positive"}: {p} is {where} ({parts}).'

    def as_dict(self) -> dict[str, Any]:
        """Return all fields as numbers, strings and lists for JSON."""
        return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in vars(self).items()}

#----------------------------------------------------------------------------

@torch.no_grad()
def sid(p: Features, q: Features, *, order: float = 1, sigma: str = 'scalar', radii: Sequence[float] | Array | None = None,
        debias: bool = True) -> SIDResult:
    """Return the signed Inception distance of p against q (Asokan and Seelamantula 2023) in closed form: a SIDResult.

        SID_r(p || q) = E_{x ~ U[cube_r]} [ D_p(x) - D_q(x) ],    D_p(x) = E_{c ~ p} phi(|x - c|),    phi(t) = sign(k) t^k

    cube_r is the mean of q plus and minus r times its standard deviations. The result is positive where p lies further out from
    the centre of q than q does, and negative where p is narrower and inside. It is computed in float64 and in blocks.

    p, q:       features [N, n] of any real dtype, arrays (memory-mapped ones too) or tensors; n >= 8 |k|, N >= 50.
    order:      k, not 0; the paper's are 1, -1, -3, -5. 2 gives location + spread at every radius.
    sigma:      'scalar': the mean of the standard deviations for all dimensions, as in the released code; 'vector': each its
                own.
    radii:      half-widths of the cube in standard deviations of q, > 0; default: 0.25, 0.50, ..., 49.75 (the released code's).
    debias:     takes out the bias that the estimated mean of q brings. It supposes that p and q are independent samples:
                switch it off to compare a set with itself, which then gives 0 exactly.
    returns     SIDResult. It is computed on the first of q and p that is on a cuda device, else on the cpu.

    Raises SpiderError for features that are not finite, all the same, too few or not comparable, and for bad options."""
    p, q, order, sigma, radii = check_inputs(p, q, order, sigma, radii)
    if q.shape[1] < MIN_DIM * max(abs(order), 1):
        raise SpiderError(f'The closed form of SID of order {order:g} needs at least {MIN_DIM * max(abs(order), 1):g} feature '
                          f'dimensions, not {q.shape[1]}; use sid_monte_carlo.')
    frame = reference_frame(p, q, sigma)
    grid = torch.as_tensor(radii, device=frame.device)
    side_p, side_q = [_distances(features, frame) for features in [p, q]]
    location, spread = _location_and_spread(side_p, side_q, frame, debias)
    if debias:
        side_p -= torch.stack([frame.var.sum(), frame.width.square() @ frame.var]) / len(q)
        side_q *= len(q) / (len(q) - 1)
    sums_p, sums_q = [_kernel_sums(side, grid, order, frame) for side in [side_p, side_q]]
    curve = sums_p.curve - sums_q.curve
    r1 = [_kernel_sums(side, grid.new_ones([1]), order, frame).curve.item() for side in [side_p, side_q]]
    influence = _influence_of_frame(p, q, sums_p, sums_q, sigma, frame) - sums_q.total
    half_width = lambda of_p, of_q: 1.96 * (of_p.var() / len(p) + of_q.var() / len(q)).sqrt().item()
    return SIDResult(radii=radii, curve=curve.cpu().numpy(), value=curve.sum().item(),
                     ci95=half_width(sums_p.total, influence), ci95_conditional=half_width(sums_p.total, sums_q.total),
                     r1=r1[0] - r1[1], location=location, spread=spread, trace_q=frame.var.sum().item(),
                     order=order, sigma=sigma, debias=debias, num_p=len(p), num_q=len(q))

#----------------------------------------------------------------------------
# Inputs.

def check_inputs(p: Features, q: Features, order: float, sigma: str,
                 radii: Sequence[float] | Array | None) -> tuple[Any, Any, float, str, Array]:
    """The arguments of `sid` as [N, n] arrays or tensors, a number, a string, and float64 [J]; or a SpiderError."""
    p, q = [features.detach() if isinstance(features, torch.Tensor) else np.asarray(features) for features in [p, q]]
    for name, features in dict(p=p, q=q).items():
        if features.ndim != 2:
            raise SpiderError(f'{name} must hold features of the shape [images, dimensions], not {list(features.shape)}.')
        if len(features) < MIN_SAMPLES:
            count = {0: 'no image', 1: 'one image'}.get(len(features), f'{len(features)} images')
            raise SpiderError(f'{name} holds the features of {count}, and SID compares sets: give it at least {MIN_SAMPLES}.')
    if p.shape[1] != q.shape[1]:
        raise SpiderError(f'p has {p.shape[1]} feature dimensions and q has {q.shape[1]}; take both from one detector.')
    if not 0 < abs(order) <= MAX_ORDER:
        raise SpiderError(f'order={order} is not an order of SID; use 1, or another number from -{MAX_ORDER} to {MAX_ORDER}, '
                          f'0 excepted.')
    if sigma not in ['scalar', 'vector']:
        raise SpiderError(f'sigma={sigma} is unknown; use scalar or vector.')
    radii = np.array(RADII if radii is None else radii, dtype=np.float64)
    if radii.ndim != 1 or radii.size == 0 or not (np.isfinite(radii) & (radii > 0)).all():
        raise SpiderError('radii must be a list of positive finite numbers.')
    return p, q, order, sigma, radii

def blocks(features: Features, device: torch.device, count: int | None = None) -> Iterator[tuple[slice, torch.Tensor]]:
    """Yields (slice, float64 tensor of these rows on device) over features [N, n], about `count` (BLOCK) numbers at a time."""
    step = max((count or BLOCK) // features.shape[1], 1)
    for start in range(0, len(features), step):
        rows = slice(start, start + step)
        block = features[rows]
        tensor = torch.from_numpy(block.astype(np.float64)) if isinstance(block, np.ndarray) else block
        yield rows, tensor.to(device, torch.float64)

def _mean(features: Features, name: str, device: torch.device) -> torch.Tensor:
    """Mean [n], finite or a SpiderError."""
    mean = torch.zeros(features.shape[1], dtype=torch.float64, device=device)
    for _, block in blocks(features, device):
        mean += block.sum(dim=0)
    mean /= len(features)
    if not mean.isfinite().all():
        raise SpiderError(f'{name} holds features that are NaN or infinite; look for broken images, or fp16 overflow in the '
                          f'detector or generator they came from.')
    return mean

def _variance(features: Features, name: str, mean: torch.Tensor) -> torch.Tensor:
    """Variance [n], not zero altogether or a SpiderError."""
    var = torch.zeros_like(mean)
    for _, block in blocks(features, mean.device):
        var += (block - mean).square_().sum(dim=0)
    var /= len(features) - 1
    if var.sum() <= 1e-12 * mean.square().sum():
        raise SpiderError(f'{name} holds the same features for every image, so there is no distribution to compare; '
                          f'look for a set of one repeated image, or a collapsed generator.')
    return var

def reference_frame(p: Features, q: Features, sigma: str) -> SimpleNamespace:
    """Where the cube lies: mean, var, std and half-width `width` of q, each float64 [n]; and the mean of p."""
    device = next((x.device for x in [q, p] if isinstance(x, torch.Tensor) and x.is_cuda), torch.device('cpu'))
    mean_p, mean = _mean(p, 'p', device), _mean(q, 'q', device)
    var_p, var = _variance(p, 'p', mean_p), _variance(q, 'q', mean)
    std = var.sqrt()
    width = std if sigma == 'vector' else std.mean().expand_as(std)
    return SimpleNamespace(device=device, mean=mean, var=var, std=std, width=width, mean_p=mean_p, trace_p=var_p.sum())

#----------------------------------------------------------------------------
# Two numbers for each feature vector, [N, 2]: rho^2 and tau.

def _distances(features: Features, frame: SimpleNamespace) -> torch.Tensor:
    weights = torch.stack([torch.ones_like(frame.width), frame.width.square()], dim=1)
    distances = torch.empty([len(features), 2], dtype=torch.float64, device=frame.device)    # Pieces would pin the heap's holes.
    for rows, block in blocks(features, frame.device):
        distances[rows] = (block - frame.mean).square_() @ weights
    return distances

def _location_and_spread(side_p: torch.Tensor, side_q: torch.Tensor, frame: SimpleNamespace,
                         debias: bool) -> tuple[float, float]:
    """|mean p - mean q|^2 and tr cov p - tr cov q; the sum is E rho^2 of p less that of q, with and without debias."""
    location, num_p, num_q = (frame.mean_p - frame.mean).square().sum(), len(side_p), len(side_q)
    trace_p, trace_q = frame.trace_p, frame.var.sum()
    if debias:
        return (location - trace_p / num_p - trace_q / num_q).item(), (trace_p - trace_q).item()
    return location.item(), (trace_p * (1 - 1 / num_p) - trace_q * (1 - 1 / num_q)).item()

#----------------------------------------------------------------------------
# Sums of g over radii and features, and of its derivatives with respect to rho^2, tau, sum(w^2) and sum(w^4).

def _kernel_sums(side: torch.Tensor, radii: torch.Tensor, order: float, frame: SimpleNamespace) -> SimpleNamespace:
    """side [N, 2], radii [J] -> total [N] and curve [J] (sum over radii, mean over features); slopes of the total [2, N];
    slopes of the mean total with respect to sum(w^2) and sum(w^4)."""
    half, sign = order / 2, 1 if order > 0 else -1
    bend = half * (half - 1) / 2
    r2 = radii.square()
    w2, w4 = frame.width.square().sum(), frame.width.pow(4).sum()
    floor = -w2 * r2.min() / 6      # Debiasing may make rho^2 negative if p has collapsed on mu; this keeps A positive.
    total, slopes, curve = side.new_zeros([len(side)]), side.new_zeros([2, len(side)]), 0
    slope_w2 = slope_w4 = 0
    for rows, block in blocks(side, side.device, BLOCK * 2 // len(radii)):
        rho2, tau = block.T.unsqueeze(2)                                    # [N, 1]
        A = rho2.maximum(floor) + r2 * (w2 / 3)                             # [N, J]
        inverse = A.reciprocal()
        V = r2.square() * (w4 * (4 / 45)) + r2 * (tau * (4 / 3))
        power = A.pow_(half).mul_(sign)
        ratio = V.mul_(inverse).mul_(inverse)
        g = power * (1 + bend * ratio)
        total[rows], curve = g.sum(dim=1), curve + g.sum(dim=0)
        power *= inverse
        slope_V = (power * inverse).mul_(bend)
        slope_A = ratio.mul_(bend * (half - 2)).add_(half).mul_(power)
        slopes[0, rows], slopes[1, rows] = slope_A.sum(dim=1), slope_V @ (r2 * (4 / 3))
        slope_w2 = slope_w2 + slope_A.sum(dim=0) @ r2 / 3
        slope_w4 = slope_w4 + slope_V.sum(dim=0) @ r2.square() * (4 / 45)
    return SimpleNamespace(total=total, curve=curve / len(side), slopes=slopes,
                           slope_w2=slope_w2 / len(side), slope_w4=slope_w4 / len(side))

#----------------------------------------------------------------------------
# Influence functions. One more image at y changes the mean of q by (y - mu) / N and a standard deviation by
# ((y - mu)_d^2 - var_d) / (2 std_d) / N, and these change the cumulative SID by its gradients.

def _influence_of_frame(p: Features, q: Features, sums_p: SimpleNamespace, sums_q: SimpleNamespace, sigma: str,
                        frame: SimpleNamespace) -> torch.Tensor:
    """What each image of q does to the cumulative SID through mu and w, times N: float64 [N_q]."""
    first_p, second_p = _weighted_moments(p, sums_p.slopes, frame)
    first_q, second_q = _weighted_moments(q, sums_q.slopes, frame)
    width = frame.width
    by_rho2, by_tau = first_p - first_q
    by_mean = -2 * (by_rho2 + width.square() * by_tau)
    by_width = (2 * width * (sums_p.slope_w2 - sums_q.slope_w2 + second_p - second_q) +
                4 * width ** 3 * (sums_p.slope_w4 - sums_q.slope_w4))
    by_std = by_width if sigma == 'vector' else by_width.mean().expand_as(by_width)
    by_var = torch.where(frame.std > 0, by_std / (2 * frame.std), 0)        # A dimension without variance has no slope.
    influence = torch.empty([len(q)], dtype=torch.float64, device=frame.device)
    for rows, block in blocks(q, frame.device):
        centred = block - frame.mean
        influence[rows] = centred @ by_mean + centred.square_() @ by_var - frame.var @ by_var
    return influence

def _weighted_moments(features: Features, slopes: torch.Tensor,
                      frame: SimpleNamespace) -> tuple[torch.Tensor, torch.Tensor]:
    """Means of slopes * (c - mu), [2, n], and of the second slope * (c - mu)^2, [n], over the features c."""
    first, second = torch.zeros_like(frame.mean).expand(2, -1), torch.zeros_like(frame.mean)
    for rows, block in blocks(features, frame.device):
        centred = block - frame.mean
        first, second = first + slopes[:, rows] @ centred, second + slopes[1, rows] @ centred.square()
    return first / len(features), second / len(features)

#----------------------------------------------------------------------------
