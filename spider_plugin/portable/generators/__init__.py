"""Portable: the plugin generators and their discriminators."""
