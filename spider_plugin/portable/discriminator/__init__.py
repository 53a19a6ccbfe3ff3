"""Portable: the projected discriminator, its feature networks and its augmentation."""
