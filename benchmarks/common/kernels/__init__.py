"""The kernels of torch_utils_ext without torch: how their libraries are built, and the C ABI by ctypes."""
