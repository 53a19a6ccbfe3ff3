"""Tensor operations of the spider plugin. Importing this package builds nothing."""
