"""Distances between two sets of features: the signed Inception distance, Frechet and kernel distances."""
