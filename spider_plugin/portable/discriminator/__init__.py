"""The projected discriminator, its feature networks and its augmentation. All modules here are portable."""
