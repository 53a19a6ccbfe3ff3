"""Image sources: what the generator is fed in place of Gaussian noise."""
