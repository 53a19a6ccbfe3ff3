"""Snapshots: reads host pickles without executing them, tells the family of a network, rebuilds, exports and resumes it."""
