"""Image ops in plain torch: any device and dtype, differentiable twice."""
