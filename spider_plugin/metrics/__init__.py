"""Measures of two sets of features: the signed Inception distance, and what finds a friendly neighbour by it."""
