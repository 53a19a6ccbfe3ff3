"""Code that runs inside a host's training loop: losses, optimizers, recomputation, the cost of a source."""
