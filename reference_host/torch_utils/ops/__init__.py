"""Image ops in plain torch for any device and dtype, differentiable twice."""
