"""Frechet and kernel distance (FID and KID) of two sets of features, each with a 95% interval.

Both intervals come from influence functions psi. A value of psi is the change of the distance by one more feature vector, times
the number of vectors. The distance is then approximately normal with variance var(psi_p) / N_p + var(psi_q) / N_q (the delta
method). This takes one pass over the features; a bootstrap would take hundreds, and would include the bias of FID twice."""

import dataclasses
import functools

import torch

PIECE = 2000    # KID: most feature vectors of a side in one kernel matrix.
RATIO = 32      # KID: a larger set is cut to at most this many times the size of the smaller one.
BLOCK = 4096    # Rows of a float64 temporary.

@dataclasses.dataclass(frozen=True)
class Distance:
    """An estimate and the half-width of its 95% interval."""

    value: float
    ci95:  float

def _half_width(psi_p, psi_q):
    return 1.96 * (psi_p.var() / len(psi_p) + psi_q.var() / len(psi_q)).sqrt().item()

#----------------------------------------------------------------------------
# Frechet distance.

class Moments:
    """Mean and covariance of features [N, n] and the root of the covariance, in float64, each computed once.

    One object serves many distances to the same set."""

    def __init__(self, features, device='cpu'):
        self.features, self.device = torch.as_tensor(features), torch.device(device)

    def centred(self):
        """Yield the features minus their mean, float64 [<= BLOCK, n]."""
        for block in self.features.split(BLOCK):
            yield block.to(self.device, torch.float64) - self.mean

    @functools.cached_property
    def mean(self):
        """The mean, [n]."""
        return sum(block.to(self.device, torch.float64).sum(dim=0) for block in self.features.split(BLOCK)) / len(self.features)

    @functools.cached_property
    def cov(self):
        """The covariance [n, n], normalised by N - 1."""
        return sum(block.T @ block for block in self.centred()) / (len(self.features) - 1)

    @functools.cached_property
    def roots(self):
        """The symmetric root of the covariance and the pseudo-inverse of that root, [n, n] each."""
        values, vectors = torch.linalg.eigh(self.cov)
        return [(vectors * power) @ vectors.T for power in (values.clamp(min=0).sqrt(), _inverse_power(values, 0.5))]

def _inverse_power(values, power):
    """Return values ** -power where the values exceed rounding errors, else 0."""
    floor = values.max().clamp(min=0) * len(values) * torch.finfo(values.dtype).eps
    return torch.where(values > floor, values, torch.inf) ** -power

@torch.no_grad()
def fid(p, q):
    """Return the Frechet distance of two `Moments` as a Distance (Heusel et al. 2017).

        FID = |d|^2 + tr S_p + tr S_q - 2 tr M^(1/2),    d = mu_p - mu_q,    M = S_q^(1/2) S_p S_q^(1/2)

    This is the squared Wasserstein distance of two Gaussians, whose derivative with respect to S_p is I - T_pq, where
    T_pq = S_q^(1/2) M^(-1/2) S_q^(1/2) is the linear map that takes one Gaussian to the other; T_qp is its inverse. So

        psi_p(x) =  2 d.x + |x|^2 - x'T_pq x,    psi_q(y) = -2 d.y + |y|^2 - y'T_qp y    (x, y without their means)

    The interval is that of the estimate about its mean. It does not include the upward bias of FID, about its second
    derivative over N, which matters unless N is many times n. KID has no bias."""
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
def kid(p, q, device='cpu', seed=0):
    """Return the unbiased squared maximum mean discrepancy with the kernel k(x, y) = (x.y / n + 1)^3, as a Distance.

        KID = mean_{i != j} k(x_i, x_j) + mean_{i != j} k(y_i, y_j) - 2 mean_{i, j} k(x_i, y_j)

    p, q:   features [N_p, n] and [N_q, n]. Both are shuffled and cut into the same number of pieces of at most 2000 vectors;
            the estimate is the mean of the U-statistics of p's piece i and q's piece i. So the cost grows with N, not with
            N^2, and where the sets differ the precision is that of all vectors. (If the sizes are very different, the larger
            set is cut to 32 times the smaller one, which limits the precision.)

    The interval is from the projections of the U-statistic onto one vector (Hoeffding), estimated from the same kernel values
    as psi_p(x) = 2 mean_x' k(x, x') - 2 mean_y k(x, y), and likewise for q. For equal distributions the projections vanish,
    but their estimates do not; then the interval is too wide rather than too narrow."""
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

def _shuffled(features, most, seed):
    features = torch.as_tensor(features)
    return features[torch.randperm(len(features), generator=torch.Generator().manual_seed(seed))[:most]]

def _kernel(x, y):
    return (x @ y.T / x.shape[1] + 1) ** 3

def _mean_to_others(x):
    """Return the mean of k(x_i, x_j) over j != i, [N]."""
    return (_kernel(x, x).sum(dim=1) - (x.square().sum(dim=1) / x.shape[1] + 1) ** 3) / (len(x) - 1)

#----------------------------------------------------------------------------
