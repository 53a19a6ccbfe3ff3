"""Distances between two sets of features: signed Inception distance (SID), Frechet distance and kernel distance."""
