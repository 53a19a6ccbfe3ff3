"""Portable: image sources, their keys, and how a source image enters a generator."""
