"""Networks, data, losses and the training loop."""
