"""Benchmarks, grouped by the question that they answer. `python -m benchmarks.cost.sid` runs one, from the repository's root."""
