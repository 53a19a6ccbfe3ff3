"""Snapshots: read without executing anything, told by family, built again, exported, resumed."""
