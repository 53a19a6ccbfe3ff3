"""Losses and optimizers that run inside a host's training loop, with the interfaces of its own."""
