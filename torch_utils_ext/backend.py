"""Chooses kernels or references for calls, loads the kernels' libraries, and counts both; `status()` shows the counts.

TORCH_UTILS_EXT=auto     kernels where they can be built and serve the call, else references; each reason is printed once
                         (default)
                require  an error in place of a reference
                off      references only; nothing is built"""

import collections
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import _disable_current_modes

from torch_utils_ext.build import BuildError, has_nvcc, library, visible_cuda_archs
from torch_utils_ext.ops.exporting import exporting

#----------------------------------------------------------------------------

_kernel_calls: collections.Counter[str] = collections.Counter()       # op -> calls
_reference_calls: collections.Counter[str] = collections.Counter()
_reasons: collections.Counter[str] = collections.Counter()            # 'op: reason' -> calls; each was said once on stderr
_loaded: dict[str, bool | str] = {}     # device kind -> True, or why there are no kernels for it

def mode() -> str:
    """TORCH_UTILS_EXT: 'auto', 'require' or 'off'."""
    value = os.environ.get('TORCH_UTILS_EXT', 'auto')
    if value not in ('auto', 'require', 'off'):
        raise ValueError(f'TORCH_UTILS_EXT={value}: expected auto, require or off')
    return value

def status() -> dict[str, Any]:
    """Return which kernels serve the ops of this process, and how often.

    mode:           'auto', 'require' or 'off', as TORCH_UTILS_EXT says.
    libraries:      {device kind: 'loaded', or why not}.
    kernel_calls, reference_calls: {op: calls}.
    reasons:        {why a kernel was not used: calls}."""
    libraries = {kind: 'loaded' if state is True else state for kind, state in _loaded.items()}
    return dict(mode=mode(), libraries=libraries, kernel_calls=dict(_kernel_calls), reference_calls=dict(_reference_calls),
                reasons=dict(_reasons))

#----------------------------------------------------------------------------

def run(name: str, reference: Callable[..., Any], args: Sequence[Any]) -> Any:
    """The op by a kernel where one serves the call, else by `reference(*args)`; counted, but for those of a compiled graph."""
    if torch.compiler.is_compiling() and not exporting():
        return _run_in_graph(name, reference, args)
    setting = mode()
    if setting == 'off' or exporting():
        return reference(*args)
    reason = _obstacle(args) or _transform()
    if reason is None:
        kind = 'cpu' if args[0].is_cpu else 'cuda'
        state = _loaded[kind] if kind in _loaded else load(kind)
        if state is True:
            _kernel_calls[name] += 1
            return _kernel(name, args)
        reason = f'no kernels for {kind}'
    if setting == 'require':
        detail = _loaded.get(args[0].device.type)
        raise RuntimeError(f'TORCH_UTILS_EXT=require, but no kernel serves {name}: {reason}'
                           + (f': {detail}' if isinstance(detail, str) else ''))
    line = f'{name}: {reason}'
    if line not in _reasons and not reason.startswith('no kernels for'):    # load() has printed that reason
        _say(f'{name} runs on its plain torch reference: {reason}')
    _reasons[line] += 1
    _reference_calls[name] += 1
    return reference(*args)

def _kernel(name: str, args: Sequence[Any]) -> Any:
    op = getattr(torch.ops.torch_utils_ext, name)
    return _epilogue(op, *args) if name in ('epilogue', 'depthwise_up2_epilogue') else op(*args)

def _epilogue(op: Callable[..., Any], *args: Any) -> Any:
    *tensors, act, alpha, gain, clamp = args
    return op(*tensors, int(act == 'lrelu'), alpha, gain, -1.0 if clamp is None else float(clamp))

# The reason why no kernel takes these arguments, or None. It costs every call a few microseconds.

_DTYPES = frozenset([torch.float32, torch.float16, torch.bfloat16, torch.float64])

def _obstacle(args: Sequence[Any]) -> str | None:
    x = args[0]
    if x.dtype not in _DTYPES:
        return f'activations of type {x.dtype}'
    if not (x.is_cpu or x.is_cuda):
        return f'tensors on {x.device.type}'
    if x.is_cuda and x.dtype == torch.float64:
        return 'float64 on cuda'
    if x.ndim != 4 or x.numel() == 0:
        return f'activations of shape {list(x.shape)}'
    device = x.device
    for t in args[1:4]:         # the tensors of every op
        if isinstance(t, torch.Tensor) and t.device != device:
            return 'tensors on several devices'
    if len(args) == 8 and not (args[5] >= 0 and args[6] > 0 and (args[7] is None or args[7] > 0)):
        return f'epilogue with alpha={args[5]}, gain={args[6]}, clamp={args[7]}'
    return None

def _transform() -> str | None:
    if torch._C._functorch.peek_interpreter_stack() is not None or torch.autograd.forward_ad._current_level >= 0:
        return 'a functorch transform or forward-mode gradients'
    return None

# torch.compile follows the call into its graph, where an op is one node, whose shapes and gradients the library declares. A
# counter would be a guard there that fails at the next call, so none counts; what reads the process is asked once, when the
# graph is made.

def _run_in_graph(name: str, reference: Callable[..., Any], args: Sequence[Any]) -> Any:
    reason = _obstacle(args) or _transform() or _lack(args[0].device.type)
    if reason is None:
        return _kernel(name, args)
    if mode() == 'require':
        raise RuntimeError(f'TORCH_UTILS_EXT=require, but no kernel serves {name} in a compiled graph: {reason}')
    return reference(*args)

def _lack(kind: str) -> str | None:
    """Return why graphs have no kernels on a kind of device, or None."""
    if mode() == 'off':
        return 'TORCH_UTILS_EXT=off'
    return None if (_loaded[kind] if kind in _loaded else load(kind)) is True else f'no kernels for {kind}'

for _asked_once in (mode, _transform, _lack):
    torch.compiler.assume_constant_result(_asked_once)      # marks the function for the tracer

#----------------------------------------------------------------------------
# Libraries.

def load(kind: str, path: str | Path | None = None) -> bool | str:
    """Builds and opens the kernels for 'cpu' or 'cuda' and tries one; True, or the reason there are none, which is said once.

    CUDA kernels are compiled by nvcc, or by the NVRTC of torch's wheels where there is no nvcc.
    path:   library to open in place of the built one, by which tests run the emulated CUDA kernels on CPU tensors."""
    try:
        if not hasattr(torch.ops.torch_utils_ext, '_open'):
            torch.ops.load_library(str(library('bind')))
        torch.ops.torch_utils_ext._open(kind, str(path or _library(kind)))
        _probe(kind)
        _loaded[kind] = True
    except (BuildError, OSError, RuntimeError) as error:
        _loaded[kind] = str(error)
        if mode() != 'require':
            _say(f'no kernels for {kind}; layers run on their plain torch references, which are slower and take more memory.\n'
                 f'    why: {error}\n    TORCH_UTILS_EXT=require makes this an error, =off silences it'.replace('\n', '\n    '))
    return _loaded[kind]

def _library(kind: str) -> Path:
    if kind == 'cuda' and not has_nvcc():
        from torch_utils_ext import nvrtc
        return nvrtc.library(visible_cuda_archs())
    return library(kind)

def _probe(kind: str) -> None:
    """Run a kernel, because one that cannot start (a driver that is too old, code for other devices) says so only then.

    A CUDA graph that is being captured allows no such trial; its first call was before."""
    if kind == 'cuda' and torch.cuda.is_current_stream_capturing():
        return
    with _disable_current_modes(), torch.no_grad():
        x = torch.ones([1, 1, 4, 4], device=kind)
        y = torch.ops.torch_utils_ext.depthwise(x, torch.ones([1, 1, 3, 3], device=kind), False).tolist()
    if y[0][0] != [[4, 6, 6, 4], [6, 9, 9, 6], [6, 9, 9, 6], [4, 6, 6, 4]]:
        raise RuntimeError('a kernel was tried, and its result was wrong')

def _say(text: str) -> None:
    print(f'torch_utils_ext: {text}', file=sys.stderr, flush=True)

#----------------------------------------------------------------------------
