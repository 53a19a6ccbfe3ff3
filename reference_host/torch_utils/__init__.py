"""Helpers around torch: persistence, statistics, and the image ops."""
