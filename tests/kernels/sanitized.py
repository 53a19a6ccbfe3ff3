"""Runs cases of the ops in a separate process, for sanitizers.

    PYTHONPATH=. python tests/kernels/sanitized.py LIBRARY OP|all [DEVICE]

On the cpu LIBRARY is built with sanitizers whose runtime is preloaded, and all cases run; on cuda a few small ones run, under
compute-sanitizer."""

import sys

import cases
import torch

from benchmarks.common.kernels import abi

torch.set_num_threads(1)
path, op, device = [*sys.argv[1:], 'cpu'][:3]
library = abi.Library(path)
shapes, dtypes = cases.SHAPES, list(cases.TOLERANCE)
if device == 'cuda':
    shapes, dtypes = [(2, 3, 4, 4), (1, 1, 5, 17), (2, 2, 33, 40)], [torch.float32, torch.float16]
count = 0
for name in cases.OPS if op == 'all' else [op]:
    for dtype in dtypes:
        for shape in shapes:
            for shared in [False, True]:
                cases.outputs(name, library, dtype, shape, shared, device)
                count += 1
print(count, 'cases done')
