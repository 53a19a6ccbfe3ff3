"""Code that runs inside a host's training loop: losses, optimizers, recomputation, measurement of a source's cost."""
