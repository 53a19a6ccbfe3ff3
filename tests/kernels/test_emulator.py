"""The emulation of CUDA: it catches mistakes in small wrong kernels and in altered copies of the kernels."""

import ctypes
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cases
import pytest
import torch

from benchmarks.common.kernels import abi, builds

HERE = Path(__file__).parent

# Names of `Mistake` in broken.cpp, in its order.
MISTAKES = re.search(r'enum Mistake \{(.*?)\}', (HERE / 'broken.cpp').read_text(), re.S).group(1).replace(',', ' ').split()

@pytest.fixture(scope='module', params=[(), ('-DSPIDER_EMULATION_UCONTEXT',)], ids=['by hand', 'ucontext'])
def broken(request):
    """(reverse, warp_sum), functions of the name of a mistake that return the output, or raise the emulation's error."""
    core = [builds.CSRC / 'emulation' / name for name in ['fiber.cpp', 'machine.cpp']]

    def make(scratch):
        builds.run([*builds.CXX, '-Werror', '-O1', *request.param, '-shared', '-I', builds.CSRC, *core, HERE / 'broken.cpp',
                    '-o', scratch / 'broken.so'])
    path = builds.cached([*request.param, *builds.sources(), HERE / 'broken.cpp', builds.version('g++')], make) / 'broken.so'
    handle = ctypes.CDLL(str(path))
    handle.spider_emulation_message.restype = ctypes.c_char_p

    def function(name):
        def run(mistake='none', schedule=0):
            x = torch.arange(64.0)
            y = torch.full([64], -2.0)
            handle.spider_emulation_schedule(schedule)
            code = getattr(handle, name)(ctypes.c_void_p(x.data_ptr()), ctypes.c_void_p(y.data_ptr()), MISTAKES.index(mistake))
            if code:
                raise abi.KernelError(handle.spider_emulation_message().decode())
            return y
        return run
    return function('broken_reverse'), function('broken_warp_sum'), handle

#----------------------------------------------------------------------------

def test_right_kernels_run(broken):
    reverse, warp_sum, _ = broken
    for schedule in range(5):
        assert torch.equal(reverse(schedule=schedule), torch.arange(64.0).flip(0))
        sums = torch.arange(64.0).reshape(2, 32).sum(1, keepdim=True)
        assert torch.equal(warp_sum(schedule=schedule).reshape(2, 32), sums.expand(2, 32))

@pytest.mark.parametrize('mistake, words', [
    ('no_barrier', r'thread \(0, 0, 0\): reads tile\[63\], which this block has not written'),
    ('uninitialised', r'thread \(58, 0, 0\): reads tile\[5\], which this block has not written'),
    ('uninitialised_dynamic', r'thread \(58, 0, 0\): reads space\[5\], which this block has not written'),
    ('outside_shared', r'thread \(63, 0, 0\): index 64 of shared array tile, which has 64 elements'),
    ('outside_dynamic', r'thread \(0, 0, 0\): index -1 of shared array space'),
    ('divergent_barrier', r'deadlock: thread \(0, 0, 0\) waits at __syncthreads\(\) at .*broken.cpp:\d+ for threads that never '
                          r'come: thread \(32, 0, 0\) waits at __syncthreads\(\)'),
    ('early_exit', r'deadlock: .* for threads that never come: thread \(40, 0, 0\) has ended'),
    ('misaligned', r'vector access to 0x\w+, which is no multiple of 8'),
    ('too_many_threads', r'block of 1025 x 1 x 1 threads'),
])
def test_mistakes_of_a_block_are_caught(broken, mistake, words):
    reverse, _, _ = broken
    with pytest.raises(abi.KernelError, match=words):
        reverse(mistake)
    assert torch.equal(reverse(), torch.arange(64.0).flip(0))      # the machine works after a fault

def test_a_missing_barrier_is_caught_in_every_schedule(broken):
    for schedule in range(8):
        with pytest.raises(abi.KernelError, match='has not written|race'):
            broken[0]('no_barrier', schedule)

@pytest.mark.parametrize('mistake, words', [
    ('no_warp_barrier', r'race: reads tile\[\d+\], which thread \d+ wrote with no barrier since'),
    ('lane_not_in_mask', r'mask 0000ffff, which does not name the calling lane'),
    ('wrong_mask', r'takes the value of lane 1, which does not take part'),
    ('different_collectives', r'lanes of one mask are at different collectives: thread \(0, 0, 0\) .* thread \(1, 0, 0\)'),
    ('absent_source', r'takes the value of lane 1[67], which does not take part'),
])
def test_mistakes_of_a_warp_are_caught(broken, mistake, words):
    for schedule in range(4):
        with pytest.raises(abi.KernelError, match=words if schedule == 0 else None):
            broken[1](mistake, schedule)

def test_conversions_are_torchs(broken):
    handle = broken[2]
    pointer = lambda t: ctypes.c_void_p(t.data_ptr())
    from_half, from_bfloat16 = torch.empty(65536), torch.empty(65536)
    handle.broken_widen(pointer(from_half), pointer(from_bfloat16))
    bits = torch.arange(65536, dtype=torch.int32).to(torch.int16)
    for got, dtype in [(from_half, torch.float16), (from_bfloat16, torch.bfloat16)]:
        assert torch.equal(got.nan_to_num(nan=-12345.0), bits.view(dtype).float().nan_to_num(nan=-12345.0))
    halves = from_half[from_half.isfinite()].sort().values
    ties = (halves[1:].double() + halves[:-1].double()).div(2).float()      # exact in float32
    x = torch.cat([torch.randn(100000), torch.randn(100000) * 1e-6, torch.randn(10000) * 1e5, halves, ties,
                   ties.nextafter(torch.tensor(9e9)), ties.nextafter(torch.tensor(-9e9)),
                   torch.tensor([torch.inf, -torch.inf, 65519.996, 65520.0, 3.4e38, 1e-45, -0.0])])
    half, bfloat16 = torch.empty(len(x), dtype=torch.int16), torch.empty(len(x), dtype=torch.int16)
    handle.broken_convert(pointer(x), pointer(half), pointer(bfloat16), ctypes.c_long(len(x)))
    assert torch.equal(half, x.half().view(torch.int16)) and torch.equal(bfloat16, x.bfloat16().view(torch.int16))

#----------------------------------------------------------------------------
# Mistakes that are put into copies of the kernels: (file, text, replacement, op whose tests must fail).

MUTANTS = {
    'sum without a barrier': ('kernels/reduce.h', '__syncthreads();', '', 'depthwise'),
    'noise without a barrier': ('kernels/channels.h', '__syncthreads();', '', 'epilogue'),
    'one warp is left out': ('kernels/reduce.h', 'warp < first + group / 32', 'warp + 1 < first + group / 32', 'depthwise'),
    'part of shared memory is not written': ('kernels/reduce.h', 'if (thread % 32 == 0)', 'if (thread % 64 == 0)', 'depthwise'),
    'shared memory too small': ('kernels/channels.h', 'part, kThreads * K * V', 'part, kThreads * K * V / 2', 'affine_glu'),
    'row below is not bounded': ('kernels/depthwise.h', 'row >= H)', 'row > H)', 'depthwise'),
}

@pytest.mark.slow
@pytest.mark.parametrize('name', MUTANTS)
def test_mistakes_in_altered_kernels_are_caught(name, tmp_path):
    file, text, instead, op = MUTANTS[name]
    csrc = tmp_path / 'csrc'
    shutil.copytree(builds.CSRC, csrc)
    body = (csrc / file).read_text()
    assert body.count(text) == 1
    (csrc / file).write_text(body.replace(text, instead))
    library = abi.Library(builds.emulated(csrc=csrc, flags=('-O1',)))
    with pytest.raises((abi.KernelError, AssertionError)):
        cases.outputs(op, library, torch.float32, (2, 9, 33, 40))
        cases.outputs(op, library, torch.float32, (2, 9, 64, 64))

#----------------------------------------------------------------------------
# AddressSanitizer and UndefinedBehaviorSanitizer, in separate processes.

def sanitized_process(*args):
    runtime = subprocess.run(['g++', '-print-file-name=libasan.so'], check=True, capture_output=True, text=True).stdout.strip()
    if '/' not in runtime:
        pytest.skip('g++ has no libasan.so')
    environ = dict(LD_PRELOAD=runtime, ASAN_OPTIONS='detect_leaks=0', UBSAN_OPTIONS='print_stacktrace=1', OMP_NUM_THREADS='1',
                   PYTHONPATH=f'{HERE}:{HERE.parents[1]}', PYTHONMALLOC='malloc')
    return subprocess.run([sys.executable, str(HERE / 'sanitized.py'), *map(str, args)], env={**os.environ, **environ},
                          capture_output=True, text=True, timeout=500)

@pytest.mark.slow
@pytest.mark.parametrize('op', cases.OPS)
def test_sanitizers_find_nothing(op):
    done = sanitized_process(builds.emulated(flags=('-O1', *builds.SANITIZE)), op)
    assert done.returncode == 0 and 'runtime error' not in done.stderr, done.stdout + done.stderr[-5000:]
    assert 'cases done' in done.stdout

@pytest.mark.slow
def test_sanitizers_find_a_read_outside(tmp_path):
    """The altered kernel reads the neighbour below the last row, which does not exist."""
    csrc = tmp_path / 'csrc'
    shutil.copytree(builds.CSRC, csrc)
    file, text, instead, op = MUTANTS['row below is not bounded']
    (csrc / file).write_text((csrc / file).read_text().replace(text, instead))
    done = sanitized_process(builds.emulated(csrc=csrc, flags=('-O1', *builds.SANITIZE)), op)
    assert done.returncode != 0 and 'AddressSanitizer: heap-buffer-overflow' in done.stderr and 'load_row' in done.stderr

#----------------------------------------------------------------------------
