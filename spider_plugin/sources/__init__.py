"""Image sources: images that a generator is fed in place of Gaussian noise, from their name to a prepared directory."""
