"""Portable layers that several networks use."""
