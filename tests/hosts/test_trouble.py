"""Memory, full disks and killed workers become one sentence, in commands of the plugin and in attached hosts."""

import errno
import subprocess
import sys

import click
import click.testing
import numpy as np
import pytest
import torch

from spider_plugin import cli
from spider_plugin.errors import out_of_memory
from spider_plugin.hosts import edge, trouble
from spider_plugin.portable.source.bank import SourceLost

WORKER = RuntimeError('DataLoader worker (pid 4242) is killed by signal: Killed. ')
CPU    = RuntimeError('[enforce fail at alloc_cpu.cpp:119] err == 0. DefaultCPUAllocator: can\'t allocate memory: you tried to '
                      'allocate 6400 bytes. Error code 12 (Cannot allocate memory)')
CUDA   = torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 1.00 GiB')

class ProcessRaisedException(Exception):
    """As that of torch.multiprocessing."""

def spawned(error):
    return ProcessRaisedException(f'\n\n-- Process 1 terminated with the following error:\nTraceback (most recent call last):\n'
                                  f'  File "x.py", line 1\n{type(error).__module__}.{type(error).__name__}: {error}\n')

def test_real_errors_are_known():
    for fail in (lambda: torch.empty([1 << 60]), lambda: np.zeros([1 << 50], np.float64)):
        with pytest.raises((RuntimeError, MemoryError)) as caught:
            fail()
        assert out_of_memory(caught.value)

@pytest.mark.parametrize('error', [CPU, CUDA, MemoryError(), OSError(errno.ENOMEM, 'Cannot allocate memory'),
                                   RuntimeError('CUDA error: CUBLAS_STATUS_ALLOC_FAILED')])
@pytest.mark.parametrize('options, word', [({'batch', 'batch_gpu'}, '--batch-gpu'), ({'batch'}, '--batch,'),
                                           ({'seeds'}, '--seeds'), ({'max_images'}, '--max-images'), ({}, 'free some memory')])
def test_memory(error, options, word):
    words = trouble.sentence(error, options)
    assert words.startswith('Memory ran out (') and word in words and '\n' not in words

@pytest.mark.parametrize('error, word', [
    (WORKER, '--workers'), (RuntimeError('DataLoader worker (pid(s) 4242) exited unexpectedly'), '--workers'),
    (OSError(errno.ENOSPC, 'No space left on device', '/runs/x.png'), '/runs/x.png'),
    (SourceLost('images.npy has been cut; start again'), 'images.npy has been cut')])
def test_other_events(error, word):
    assert word in trouble.sentence(error) and '\n' not in trouble.sentence(error)

@pytest.mark.parametrize('error', [CPU, CUDA, WORKER, SourceLost('images.npy has been cut; start again')])
def test_events_of_spawned_ranks(error):
    words = trouble.sentence(spawned(error), {'batch_gpu'})
    assert words and '\n' not in words

@pytest.mark.parametrize('error', [RuntimeError('mat1 and mat2 cannot be multiplied'), ValueError('out of memory'),
                                   KeyError('x'), FileNotFoundError(errno.ENOENT, 'No such file or directory', 'x'),
                                   spawned(ValueError('boom'))])
def test_bugs_keep_their_traceback(error):
    assert trouble.sentence(error, {'batch_gpu'}) is None

@pytest.mark.parametrize('name, words', [
    ('psutil_x', '`pip install psutil_x`'), ('no_such.part', 'imports no_such, which'), ('cv2', '`pip install opencv-python`'),
    ('training', None), ('training.other', None), ('helpers', None), ('torch.no_such', None), ('json.no_such', None), ('', None),
    (None, None)])
def test_a_missing_package_is_named_and_a_missing_module_is_not(name, words, tmp_path, monkeypatch):
    if name == 'cv2':       # which may be installed here
        monkeypatch.setattr(trouble.importlib.util, 'find_spec', lambda package: None)
    (tmp_path / 'training').mkdir()
    (tmp_path / 'helpers.py').touch()
    said = trouble.missing_package(ModuleNotFoundError('x', name=name), str(tmp_path / 'train.py'))
    assert (said is None) == (words is None) and (words is None or words in said and str(tmp_path) in said)

def test_a_command_shows_it():
    @click.command()
    @click.option('--batch-gpu', type=int)
    def train(batch_gpu):
        raise CPU
    edge.guard(train)
    done = click.testing.CliRunner().invoke(train, [])
    assert done.exit_code == 2 and done.output.startswith('Error: Memory ran out (DefaultCPUAllocator: ')
    assert '--batch-gpu' in done.output
    assert len(done.output.splitlines()) == 1

@pytest.mark.parametrize('args, function, word', [
    (['generate', '--network=x.pkl', '--outdir=x'], 'spider_plugin.generate.command.generate', '--seeds'),
    (['neighbors', 'x.zip', '--target=y.zip'], 'spider_plugin.neighbors.command.run_neighbors', '--max-images')])
def test_commands_of_the_plugin(args, function, word, monkeypatch):
    def fail(*args, **kwargs):
        raise CUDA
    monkeypatch.setattr(function, fail)
    done = click.testing.CliRunner().invoke(cli.main, args)
    assert done.exit_code == 2 and word in done.output and len(done.output.splitlines()) == 1, done.output

def test_a_source_that_is_too_large(make_zip, tmp_path, monkeypatch):
    from spider_plugin.errors import SpiderError
    from spider_plugin.sources import prepare
    def fail(*args):
        raise MemoryError
    monkeypatch.setattr(prepare, 'resize_area', fail)
    with pytest.raises(SpiderError, match='--spider-source=.* memory ran out .*--spider-bank'):
        prepare.prepare_source(make_zip(tmp_path / 'a.zip', n=4, seed=303))

def test_images_are_not_called_corrupt_where_memory_ran_out(make_zip, tmp_path, monkeypatch):
    from spider_plugin.sources import dataset
    images = dataset.ImageDataset(make_zip(tmp_path / 'a.zip', n=4))
    def fail(*args):
        raise MemoryError
    monkeypatch.setattr(dataset.decode, 'decode', fail)
    with pytest.raises(MemoryError):
        images.image(0)

#----------------------------------------------------------------------------
# A host that is attached, with a config and a launch as hosts have them.

HOST = '''
import spider_plugin.hosts.hook
import click
def launch_training(c, desc, outdir, dry_run):
    import torch
    torch.empty([1 << 60])
@click.command()
@click.option('--outdir')
@click.option('--data')
@click.option('--batch-gpu', type=int)
def main(**kwargs):
    launch_training(c=dict(G_kwargs={}), desc='', outdir='', dry_run=False)
main()
'''

def test_an_attached_host(tmp_path):
    (tmp_path / 'train.py').write_text(HOST)
    done = subprocess.run([sys.executable, str(tmp_path / 'train.py'), '--outdir=x', '--data=y'], capture_output=True, text=True)
    assert done.returncode == 2 and 'Traceback' not in done.stderr, done.stderr
    assert 'Error: Memory ran out' in done.stderr and '--batch-gpu' in done.stderr

#----------------------------------------------------------------------------
