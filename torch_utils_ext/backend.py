"""Which calls the kernels serve, and the account of it: `status()`."""

import collections
import os
import sys

#----------------------------------------------------------------------------

_kernel_calls = collections.Counter()       # op -> calls
_reference_calls = collections.Counter()
_reasons = {}                               # (op, reason) -> calls; each was said once on stderr

def mode():
    """TORCH_UTILS_EXT: 'auto', 'require' or 'off'."""
    value = os.environ.get('TORCH_UTILS_EXT', 'auto')
    if value not in ('auto', 'require', 'off'):
        raise ValueError(f'TORCH_UTILS_EXT={value}: expected auto, require or off')
    return value

def status():
    """dict: mode, kernel_calls and reference_calls {op: calls}, reasons {why a kernel was not used: calls}."""
    return dict(mode=mode(), kernel_calls=dict(_kernel_calls), reference_calls=dict(_reference_calls),
                reasons={f'{name}: {reason}': calls for (name, reason), calls in _reasons.items()})

#----------------------------------------------------------------------------

def run(name, reference, args):
    """The op by a kernel where one serves the call, else by `reference(*args)`, counted."""
    if mode() == 'off':
        return reference(*args)
    return _run_reference(name, reference, args, 'no kernels in this build')

def _run_reference(name, reference, args, reason):
    if mode() == 'require':
        raise RuntimeError(f'TORCH_UTILS_EXT=require, but no kernel serves {name}: {reason}')
    if (name, reason) not in _reasons:
        _reasons[name, reason] = 0
        print(f'torch_utils_ext: {name} runs on its reference: {reason}', file=sys.stderr)
    _reasons[name, reason] += 1
    _reference_calls[name] += 1
    return reference(*args)

#----------------------------------------------------------------------------
