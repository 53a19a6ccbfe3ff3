"""Parts that benchmarks and tests share: data, reference implementations, builds of kernels, pages."""
