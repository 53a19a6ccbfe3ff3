"""python sanitized.py LIBRARY OP: the cases of one op on a library built with sanitizers, whose runtime is preloaded."""

import sys

import abi
import cases
import torch

torch.set_num_threads(1)
library = abi.Library(sys.argv[1])
count = 0
for dtype in cases.TOLERANCE:
    for shape in cases.SHAPES:
        for shared in [False, True]:
            cases.outputs(sys.argv[2], library, dtype, shape, shared)
            count += 1
print(count, 'cases done')
