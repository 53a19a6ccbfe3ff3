"""Distances between two sets of features [N, n], arrays or tensors: the signed Inception distance, Frechet and kernel distances.

    metrics.fid(p, q), metrics.kid(p, q)    functions; each returns a Distance
    metrics.sid.sid(p, q)                   the function `sid` of the module `metrics.sid`; returns a SIDResult

The name `metrics.sid` is that of the module, which others import. A function of the same name would change places with it,
depending on what was imported first; `from spider_plugin.metrics.sid import sid` gives the function alone."""

from spider_plugin.metrics import sid
from spider_plugin.metrics.distances import Distance, Moments, fid, kid
from spider_plugin.metrics.sid import SIDResult

__all__ = ['Distance', 'Moments', 'SIDResult', 'fid', 'kid', 'sid']
