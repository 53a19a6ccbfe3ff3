"""The build cache and the choice between kernels and references. A failure is printed once and does not block others."""

import os
import re
import shutil
import subprocess
import sys
import textwrap
import time

import pytest
import torch

from torch_utils_ext import backend, build
from torch_utils_ext.ops.depthwise import depthwise, depthwise_ref

SOURCE = '#include "../abi.h"\nextern "C" int tux_abi_version(void) { return TUX_ABI_VERSION; }\n'

@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """Return a source tree of one small `emulated` target; the cache is empty."""
    tree = tmp_path / 'csrc'
    (tree / 'emulation').mkdir(parents=True)
    shutil.copy(build.SOURCES / 'abi.h', tree / 'abi.h')
    (tree / 'emulation' / 'one.cpp').write_text(SOURCE)
    monkeypatch.setattr(build, 'SOURCES', tree)
    monkeypatch.setattr(build, '_failures', {})
    monkeypatch.setenv('SPIDER_CACHE_DIR', str(tmp_path / 'cache'))
    return tree

#----------------------------------------------------------------------------

def test_a_library_is_built_once_and_found_again(tiny, monkeypatch):
    path = build.library('emulated')
    assert path.is_file() and [p.name for p in path.parent.iterdir() if p.suffix == '.o'] == []
    monkeypatch.setattr(build, '_build', None)
    assert build.library('emulated') == path

def test_the_key_covers_sources_includes_flags_and_compiler(tiny, monkeypatch):
    keys = [build.key_of('emulated')]
    (tiny / 'emulation' / 'one.cpp').write_text(SOURCE + '// more\n')
    keys.append(build.key_of('emulated'))
    (tiny / 'emulation' / 'extra.h').write_text('// new\n')
    keys.append(build.key_of('emulated'))
    (tiny / 'abi.h').write_text((tiny / 'abi.h').read_text() + '// more\n')
    keys.append(build.key_of('emulated'))
    monkeypatch.setattr(build, '_CXX_FLAGS', [*build._CXX_FLAGS, '-DX'])
    keys.append(build.key_of('emulated'))
    monkeypatch.setattr(build, '_compiler_identity', lambda program, native: 'another version')
    keys.append(build.key_of('emulated'))
    assert len(set(keys)) == len(keys)

def test_files_of_a_dead_builder_do_not_block_others(tiny):
    root = build.cache_root() / 'kernels'
    root.mkdir(parents=True)
    key = build.key_of('emulated')
    (root / f'{key}.lock').write_text('')
    (root / key).mkdir()                            # a directory of that name without its library
    old, young = root / '.old.building', root / '.young.building'
    old.mkdir()
    young.mkdir()
    os.utime(old, (0, 0))
    assert build.library('emulated').is_file()
    assert not old.exists() and young.exists()

def test_windows_runs_on_references(tiny, monkeypatch):
    monkeypatch.setattr(build, 'POSIX', False)
    with pytest.raises(build.BuildError, match='on Linux and macOS only'):
        build.library('emulated')

CONCURRENT = '''
import os, sys
from pathlib import Path
from torch_utils_ext import build
build.SOURCES = Path(sys.argv[1])
real = build._build
def counted(*args):
    with open(sys.argv[2], 'a') as file:
        file.write('built\\n')
    real(*args)
build._build = counted
try:
    print(build.library('emulated'))
except build.BuildError as error:
    print('BuildError', str(error).splitlines()[0])
'''

def _concurrently(tree, tmp_path, count=3):
    (tmp_path / 'job.py').write_text(CONCURRENT)
    env = {**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path)}
    command = [sys.executable, tmp_path / 'job.py', tree, tmp_path / 'log']
    jobs = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) for _ in range(count)]
    return [job.communicate(timeout=120)[0].strip() for job in jobs], (tmp_path / 'log').read_text().count('built')

def test_one_builds_while_others_wait(tiny, tmp_path):
    outputs, builds = _concurrently(tiny, tmp_path)
    assert builds == 1 and len(set(outputs)) == 1 and outputs[0].endswith('emulated.so')

def test_waiting_has_a_bound(tiny, monkeypatch):
    fcntl = pytest.importorskip('fcntl')
    root = (build.cache_root() / 'kernels')
    root.mkdir(parents=True)
    monkeypatch.setattr(build, 'WAIT_SECONDS', 0.3)
    with open(root / f'{build.key_of("emulated")}.lock', 'w') as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        started = time.time()
        with pytest.raises(build.BuildError, match='another process has been building'):
            build.library('emulated')
        assert time.time() - started >= 0.3

def test_a_broken_source_is_diagnosed_and_not_tried_twice(tiny, monkeypatch):
    (tiny / 'emulation' / 'one.cpp').write_text('int f() { return nonsense_name; }\n')
    with pytest.raises(build.BuildError, match='nonsense_name') as caught:
        build.library('emulated')
    assert len(str(caught.value).splitlines()) <= 21
    assert not list((build.cache_root() / 'kernels').glob('.*.building'))
    monkeypatch.setattr(build, '_build', None)
    with pytest.raises(build.BuildError, match='nonsense_name'):
        build.library('emulated')

def test_missing_tools_are_named(tiny, monkeypatch):
    monkeypatch.setenv('CXX', 'no-such-compiler')
    with pytest.raises(build.BuildError, match='no-such-compiler.*set CXX'):
        build.library('emulated')
    with pytest.raises(build.BuildError, match='no CUDA device|nvcc'):
        build.library('cuda')

#----------------------------------------------------------------------------
# Without kernels: one loud block and references, or an error.

@pytest.fixture
def fresh_backend(monkeypatch):
    for name in ('_kernel_calls', '_reference_calls', '_reasons'):
        monkeypatch.setattr(backend, name, type(getattr(backend, name))())
    monkeypatch.setattr(backend, '_loaded', {})

def _fail(target, arch=None):
    raise build.BuildError('g++ failed on cpu; its last lines:\nerror: this and that')

def test_auto_prints_the_reason_once_and_computes(fresh_backend, monkeypatch, capfd):
    monkeypatch.setenv('TORCH_UTILS_EXT', 'auto')
    monkeypatch.setattr(backend, 'library', _fail)
    x, k = torch.randn(1, 2, 4, 4), torch.randn(1, 2, 3, 3)
    if hasattr(torch.ops.torch_utils_ext, '_open'):
        monkeypatch.setattr(torch.ops.torch_utils_ext, '_open', lambda kind, path: None)
    for _ in range(3):
        assert torch.equal(depthwise(x, k), depthwise_ref(x, k))
    said = capfd.readouterr().err
    assert said.count('no kernels for cpu') == 1 and 'this and that' in said and 'TORCH_UTILS_EXT=require' in said
    status = backend.status()
    assert status['reference_calls'] == {'depthwise': 3} and status['kernel_calls'] == {}
    assert 'this and that' in status['libraries']['cpu']

def test_require_raises(fresh_backend, monkeypatch):
    monkeypatch.setenv('TORCH_UTILS_EXT', 'require')
    monkeypatch.setattr(backend, 'library', _fail)
    if hasattr(torch.ops.torch_utils_ext, '_open'):
        monkeypatch.setattr(torch.ops.torch_utils_ext, '_open', lambda kind, path: None)
    with pytest.raises(RuntimeError, match='(?s)depthwise.*this and that'):
        depthwise(torch.randn(1, 2, 4, 4), torch.randn(1, 2, 3, 3))

def test_unsupported_calls_are_counted_and_named(fresh_backend, monkeypatch, capfd):
    monkeypatch.setenv('TORCH_UTILS_EXT', 'auto')
    x, k = torch.randn(0, 2, 4, 4), torch.randn(1, 2, 3, 3)
    assert depthwise(x, k).shape == x.shape and depthwise(x, k).shape == x.shape
    assert capfd.readouterr().err.count('depthwise runs on its plain torch reference') == 1
    assert list(backend.status()['reasons'].values()) == [2]
    y, = torch.func.vmap(lambda x: (depthwise(x[None], k)[0],))(torch.randn(3, 2, 4, 4))
    assert y.shape == (3, 2, 4, 4) and 'functorch' in capfd.readouterr().err

def test_modes(monkeypatch):
    monkeypatch.setenv('TORCH_UTILS_EXT', 'perhaps')
    with pytest.raises(ValueError, match='auto, require or off'):
        backend.mode()
    with pytest.raises(ValueError, match='auto, require or off'):
        depthwise(torch.randn(1, 2, 4, 4), torch.randn(1, 2, 3, 3))

def test_importing_builds_nothing(tmp_path):
    code = 'import torch_utils_ext, torch_utils_ext.ops.epilogue; print(torch_utils_ext.status()["libraries"])'
    env = {**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path), 'SPIDER_CACHE_DIR': str(tmp_path), 'TORCH_UTILS_EXT': 'auto'}
    out = subprocess.run([sys.executable, '-c', code], env=env, capture_output=True, text=True, check=True).stdout
    assert out.strip() == '{}' and not list(tmp_path.iterdir())

def test_a_snapshots_copy_of_the_ops_needs_no_package(tmp_path):
    """The portable modules work alone, as in a bundle, if torch_utils_ext cannot be imported."""
    code = textwrap.dedent('''
        import sys
        sys.modules['torch_utils_ext'] = None
        source = ''.join(line for name in sys.argv[1:] for line in open(name) if not line.startswith('from torch_utils_ext'))
        scope = {}
        exec(source, scope)
        import torch
        x, k = torch.randn(1, 2, 4, 4), torch.randn(1, 2, 3, 3)
        assert torch.equal(scope['depthwise'](x, k), scope['depthwise_ref'](x, k))
        import os
        os.environ['TORCH_UTILS_EXT'] = 'require'
        try:
            scope['depthwise'](x, k)
        except RuntimeError as error:
            print(error)
    ''')
    files = [build.SOURCES.parent / name for name in ('dispatch.py', 'ops/depthwise.py')]
    env = {**os.environ, 'TORCH_UTILS_EXT': 'auto'}
    out = subprocess.run([sys.executable, '-c', code, *files], env=env, capture_output=True, text=True, check=True).stdout
    assert 'cannot be imported' in out

#----------------------------------------------------------------------------
# A library that opens, and whose kernels do not run: a driver that is too old, code for another device.

STUB = '''
extern "C" {
int tux_abi_version(void) { return %(version)s; }
const char* tux_error_string(int) { return "the driver is too old for this runtime"; }
%(functions)s
}
'''

def _stub(tmp_path, code):
    """Return a library with every function of abi.h, each of which returns `code` and does nothing."""
    abi = (build.SOURCES / 'abi.h').read_text()
    names = re.findall(r'^int(?:64_t)? (tux_\w+)\(', abi, re.M)
    functions = '\n'.join(f'long {name}() {{ return {0 if name.endswith("workspace") else code}; }}' for name in names
                          if name != 'tux_abi_version')
    version = re.search(r'TUX_ABI_VERSION (\d+)', abi).group(1)
    (tmp_path / 'stub.cpp').write_text(STUB % dict(version=version, functions=functions))
    subprocess.run(['g++', '-shared', '-fPIC', '-w', tmp_path / 'stub.cpp', '-o', tmp_path / 'stub.so'], check=True)
    return tmp_path / 'stub.so'

@pytest.mark.parametrize('code, why', [(35, 'the driver is too old for this runtime'), (0, 'result was wrong')])
def test_kernels_that_do_not_run_give_way_to_references(open_kernels, kernel_cache, fresh_backend, tmp_path, monkeypatch, capfd,
                                                        code, why):
    open_kernels('cpu')
    monkeypatch.setenv('TORCH_UTILS_EXT', 'auto')
    monkeypatch.setenv('SPIDER_CACHE_DIR', str(kernel_cache))
    x, k = torch.randn(1, 2, 4, 4), torch.randn(1, 2, 3, 3)
    try:
        assert why in backend.load('cpu', _stub(tmp_path, code))
        assert torch.equal(depthwise(x, k), depthwise_ref(x, k)) and torch.equal(depthwise(x, k), depthwise_ref(x, k))
        said = capfd.readouterr().err
        assert said.count('no kernels for cpu') == 1 and why in said
        monkeypatch.setenv('TORCH_UTILS_EXT', 'require')
        with pytest.raises(RuntimeError, match=f'(?s)no kernel serves depthwise.*{why}'):
            depthwise(x, k)
    finally:
        torch.ops.torch_utils_ext._open('cpu', str(build.library('cpu')))     # for the tests after this one
