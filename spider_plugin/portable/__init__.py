"""Everything that travels inside snapshots: imports torch, numpy, the standard library, torch_utils_ext.ops and itself alone."""
