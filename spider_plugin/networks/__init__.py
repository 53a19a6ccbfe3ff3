"""Portable networks: they travel inside snapshots and import only torch, numpy and the standard library."""
