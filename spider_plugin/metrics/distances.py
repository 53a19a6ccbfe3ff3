"""Frechet and kernel distance of two sets of features, each with a 95% interval: what stands beside SID.

Both intervals come from influence functions psi. A value of psi is the change of the distance by one more feature vector, times
the number of vectors. The distance is then approximately normal with variance var(psi_p) / N_p + var(psi_q) / N_q (the delta
method). This takes one pass over the features; a bootstrap would take hundreds, and would include the bias of FID twice."""

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from spider_plugin.errors import SpiderError

Features = np.ndarray[Any, Any] | torch.Tensor  # [N, n] of any real dtype.

PIECE = 2000    # KID: most feature vectors of a side in one kernel matrix.
RATIO = 32      # KID: a larger set is cut to at most this many times the size of the smaller one.
BLOCK = 4096    # Rows of a float64 temporary.

@dataclasses.dataclass(frozen=True)
class Distance:
    """An estimate, in squared units of the features, and the half-width of its 95% interval."""

    value: float
    ci95:  float

    def __repr__(self) -> str:
        return f'Distance(value={self.value:.6g}, ci95={self.ci95:.2g})'

def _half_width(psi_p: torch.Tensor, psi_q: torch.Tensor) -> float:
    return 1.96 * (psi_p.var() / len(psi_p) + psi_q.var() / len(psi_q)).sqrt().item()

#----------------------------------------------------------------------------
# Frechet distance.

class Moments:
    """Mean and covariance of features, and the root of the covariance, each computed once: float64.

    features:   [N, n], N >= 2, an array or tensor of any real dtype.
    device:     where they are computed.
    `fid` takes it in place of features, for many distances to the same set. Raises SpiderError for another shape."""

    def __init__(self, features: Features, device: torch.device | str = 'cpu') -> None:
        self.features, self.device = _checked(features, 'features'), torch.device(device)

    def __repr__(self) -> str:
        return f'Moments({len(self.features)} vectors of {self.features.shape[1]} dimensions on {self.device})'

    def centred(self) -> Iterator[torch.Tensor]:
        """Yield float64 [<= BLOCK, n], the features without their mean."""
        for block in self.features.split(BLOCK):
            yield block.to(self.device, torch.float64) - self.mean

    @functools.cached_property
    def mean(self) -> torch.Tensor:
        """[n]"""
        total = torch.zeros(self.features.shape[1], dtype=torch.float64, device=self.device)
        for block in self.features.split(BLOCK):
            total += block.to(self.device, torch.float64).sum(dim=0)
        return total / len(self.features)

    @functools.cached_property
    def cov(self) -> torch.Tensor:
        """[n, n], over N - 1."""
        total = self.mean.new_zeros([len(self.mean)] * 2)
        for block in self.centred():
            total += block.T @ block
        return total / (len(self.features) - 1)

    @functools.cached_property
    def roots(self) -> list[torch.Tensor]:
        """Symmetric root of the covariance and the pseudo-inverse of that root, [n, n] each."""
        values, vectors = torch.linalg.eigh(self.cov)
        return [(vectors * power) @ vectors.T for power in (values.clamp(min=0).sqrt(), _inverse_power(values, 0.5))]

def _inverse_power(values: torch.Tensor, power: float) -> torch.Tensor:
    """values ** -power where they are more than rounding, else 0."""
    floor = values.max().clamp(min=0) * len(values) * torch.finfo(values.dtype).eps
    return torch.where(values > floor, values, torch.inf) ** -power

def _checked(features: Features, name: str) -> torch.Tensor:
    """The features as a tensor [N, n]. Raises SpiderError where they are no set of vectors."""
    values = torch.as_tensor(features).detach()
    if values.ndim != 2 or len(values) < 2 or values.is_complex():
        raise SpiderError(f'{name} must hold real features of the shape [images, dimensions] of at least two images, not '
                          f'{values.dtype} {list(values.shape)}.')
    return values

def _check_pair(p: torch.Tensor, q: torch.Tensor) -> None:
    """Raises SpiderError where two sets of features cannot be compared."""
    if p.shape[1] != q.shape[1]:
        raise SpiderError(f'p has {p.shape[1]} feature dimensions and q has {q.shape[1]}; take both from one detector.')
    for name, values in (('p', p), ('q', q)):
        if not all(block.isfinite().all() for block in values.split(BLOCK)):
            raise SpiderError(f'{name} holds features that are NaN or infinite; look for broken images, or an overflow in the '
                              'detector or generator that they came from.')

@torch.no_grad()
def fid(p: Features | Moments, q: Features | Moments, device: torch.device | str = 'cpu') -> Distance:
    """Return the Frechet distance of two sets of features, as published (Heusel et al. 2017): a Distance, computed in float64.

    p, q:   features [N_p, n] and [N_q, n], N >= 2, arrays or tensors of any real dtype; or `Moments` of them. The order of the
            two makes no difference.
    device: where the moments of arrays and tensors are computed.
    Raises SpiderError for features that are not finite or not comparable.

        FID = |d|^2 + tr S_p + tr S_q - 2 tr M^(1/2),    d = mu_p - mu_q,    M = S_q^(1/2) S_p S_q^(1/2)

    This is the squared Wasserstein distance of two Gaussians, whose derivative with respect to S_p is I - T_pq, where
    T_pq = S_q^(1/2) M^(-1/2) S_q^(1/2) is the linear map that takes one Gaussian to the other; T_qp is its inverse. So

        psi_p(x) =  2 d.x + |x|^2 - x'T_pq x,    psi_q(y) = -2 d.y + |y|^2 - y'T_qp y    (x, y without their means)

    The interval is that of the estimate about its mean. It does not say that FID is biased upwards, by about its derivative
    of second order over N, which matters where N is not many times n; KID has no bias."""
    p, q = [side if isinstance(side, Moments) else Moments(_checked(side, name), device) for name, side in (('p', p), ('q', q))]
    _check_pair(p.features, q.features)
    root, inverse = q.roots
    values, vectors = torch.linalg.eigh(root @ p.cov @ root)
    shift = p.mean - q.mean
    value = shift.square().sum() + p.cov.trace() + q.cov.trace() - 2 * values.clamp(min=0).sqrt().sum()
    to_q = (root @ vectors) * _inverse_power(values, 0.25)              # T_pq = to_q to_q'
    to_p = (inverse @ vectors) * values.clamp(min=0) ** 0.25            # T_qp = to_p to_p'
    psi = lambda side, map, shift: torch.cat([
        2 * x @ shift + x.square().sum(dim=1) - (x @ map).square().sum(dim=1) for x in side.centred()])
    return Distance(value.item(), _half_width(psi(p, to_q, shift), psi(q, to_p, -shift)))

#----------------------------------------------------------------------------
# Kernel distance.

@torch.no_grad()
def kid(p: Features, q: Features, device: torch.device | str = 'cpu', seed: int = 0) -> Distance:
    """Return the squared maximum mean discrepancy with the kernel k(x, y) = (x.y / n + 1)^3, unbiased (Binkowski et al. 2018): a
    Distance, computed in float64.

        KID = mean_{i != j} k(x_i, x_j) + mean_{i != j} k(y_i, y_j) - 2 mean_{i, j} k(x_i, y_j)

    p, q:   features [N_p, n] and [N_q, n], N >= 2, arrays or tensors of any real dtype. Both are shuffled and cut into equally
            many pieces of at most 2000; the estimate is the mean of the U-statistics of p's piece i and q's piece i. So its
            cost grows with N, not with N^2. Where the sets differ, its precision is still that of all vectors. (Only the
            larger of two very unequal sets is cut to 32 times the size of the smaller one, which has the say.)
    device: where the kernel is computed.
    seed:   of the shuffling.
    Raises SpiderError for features that are not finite or not comparable.

    The interval is from the projections of the U-statistic onto one vector (Hoeffding), estimated from the same kernel
    values: psi_p(x) = 2 mean_x' k(x, x') - 2 mean_y k(x, y), and likewise for q. For equal distributions, where the
    projections vanish, their estimates do not, and the interval is too wide rather than too narrow."""
    p, q = _checked(p, 'p'), _checked(q, 'q')
    _check_pair(p, q)
    p, q = [_shuffled(x, RATIO * min(len(p), len(q)), seed + side) for side, x in enumerate([p, q])]
    pieces = -(-max(len(p), len(q)) // PIECE)
    values, psi_p, psi_q = [], [], []
    for x, y in zip(p.tensor_split(pieces), q.tensor_split(pieces)):
        x, y = x.to(device, torch.float64), y.to(device, torch.float64)
        across = _kernel(x, y)
        within_x, within_y = _mean_to_others(x), _mean_to_others(y)
        values.append(within_x.mean() + within_y.mean() - 2 * across.mean())
        psi_p.append(2 * (within_x - across.mean(dim=1)))
        psi_q.append(2 * (within_y - across.mean(dim=0)))
    return Distance(torch.stack(values).mean().item(), _half_width(torch.cat(psi_p), torch.cat(psi_q)))

def _shuffled(features: Features, most: int, seed: int) -> torch.Tensor:
    features = torch.as_tensor(features)
    return features[torch.randperm(len(features), generator=torch.Generator().manual_seed(seed))[:most]]

def _kernel(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return (x @ y.T / x.shape[1] + 1) ** 3

def _mean_to_others(x: torch.Tensor) -> torch.Tensor:
    """Mean of k(x_i, x_j) over j != i: [N]."""
    return (_kernel(x, x).sum(dim=1) - (x.square().sum(dim=1) / x.shape[1] + 1) ** 3) / (len(x) - 1)

#----------------------------------------------------------------------------
