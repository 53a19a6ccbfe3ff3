"""Spider plugin: train GANs on small image sets from a friendly neighbour's images (arXiv 2305.07613)."""

__version__ = '0.1.0'
