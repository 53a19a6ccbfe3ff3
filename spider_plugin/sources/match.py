"""Moves a source to the mean and covariance of the target, by the optimal transport between the Gaussians fitted to both sets.

    T(x) = m_t + A (x - m_s),    A = C_s^(-1/2) (C_s^(1/2) C_t C_s^(1/2))^(1/2) C_s^(-1/2)

Of all maps that give the source the target's mean m_t and covariance C_t, this one moves Gaussian images least (Knott and Smith
1984). It acts on images averaged down to a side of `strength` pixels, at most 16; finer detail keeps its place and gets the
target's standard deviation in each channel."""

import torch
import torch.nn.functional as F

STRENGTHS = (1, 2, 4, 8, 16)    # pixels; at 16 a covariance of at most 3 * 16^2 = 768 dimensions
STRONGEST = STRENGTHS[-1]
_FLOOR    = 0.01    # standard deviation added to every direction of the source, as a fraction of the mean one; it bounds A
_MAX_GAIN = 4.0     # largest gain of the detail

#----------------------------------------------------------------------------

class GaussianTransport:
    """Maps uint8 [N, C, R, R] to uint8 [N, C, R, R], rounded and clipped to the range of pixels.

    source, target: uint8 [M, C, R, R], samples of the two sets; R is a power of two.
    strength:       side to which images are averaged before they are moved, one of STRENGTHS."""

    def __init__(self, source, target, strength=STRONGEST):
        self.strength = strength
        (x, x_detail), (y, y_detail) = [_split(torch.from_numpy(images), strength) for images in (source, target)]
        x, y = x.flatten(1), y.flatten(1)
        self.mean, self.target_mean = x.mean(dim=0), y.mean(dim=0)
        self.matrix = _transport(_covariance(x - self.mean), _covariance(y - self.target_mean))
        deviation = lambda detail: detail.square().mean(dim=[0, 2, 3], keepdim=True).sqrt()
        self.gain = (deviation(y_detail) / deviation(x_detail).clamp(min=1e-6)).clamp(max=_MAX_GAIN)

    def __call__(self, images):
        coarse, detail = _split(torch.from_numpy(images), self.strength)
        moved = self.target_mean + (coarse.flatten(1) - self.mean) @ self.matrix
        moved = _enlarged(moved.reshape(coarse.shape), images.shape[-1]) + self.gain * detail
        return moved.round().clamp(0, 255).to(torch.uint8).numpy()

#----------------------------------------------------------------------------

def _split(images, strength):
    """Split uint8 [N, C, R, R] into float64 averages [N, C, r, r] with r <= strength, and the detail [N, C, R, R]."""
    x, resolution = images.to(torch.float64), images.shape[-1]
    coarse = F.avg_pool2d(x, max(resolution // strength, 1))
    return coarse, x - _enlarged(coarse, resolution)

def _enlarged(coarse, resolution):
    return coarse if coarse.shape[-1] == resolution else F.interpolate(coarse, size=resolution, mode='bilinear')

def _covariance(x):
    return x.T @ x / len(x)

def _root(covariance):
    values, vectors = torch.linalg.eigh(covariance)
    return vectors * values.clamp(min=0).sqrt() @ vectors.T

def _transport(source, target):
    """Return the symmetric matrix A for the two covariances; all are float64 [D, D]."""
    source = source + torch.eye(len(source), dtype=source.dtype) * (_FLOOR ** 2 * source.diagonal().mean() + 1e-6)
    root = _root(source)
    inverse = torch.linalg.inv(root)
    return inverse @ _root(root @ target @ root) @ inverse

#----------------------------------------------------------------------------
