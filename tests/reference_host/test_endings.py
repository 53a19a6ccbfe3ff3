"""How the tools of the host end where the system refuses something: in one sentence, with nothing half written. Runs of train.py
are in test_faults.py."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from tool_utils import save_png, written_whole
from training import trouble
from training.runtime import SpiderError

HOST = Path(__file__).parents[2] / 'reference_host'
ENV  = {name: value for name, value in os.environ.items() if name != 'PYTHONPATH'} | dict(OMP_NUM_THREADS='1')

def tool(name, *args, **environment):
    return subprocess.Popen([sys.executable, str(HOST / f'{name}.py'), *map(str, args)], env=ENV | environment, text=True,
                            errors='replace', stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

@pytest.fixture(scope='module')
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp('photos')
    for i in range(60):
        PIL.Image.fromarray((np.random.RandomState(i).rand(32, 32, 3) * 255).astype(np.uint8)).save(folder / f'{i}.png')
    return folder

@pytest.fixture
def small_disk(tmp_path):
    path = tmp_path / 'disk'
    path.mkdir()
    if subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=24k', 'tmpfs', str(path)], capture_output=True).returncode:
        pytest.skip('mounting needs root')
    yield path
    subprocess.run(['umount', str(path)], check=True)

#----------------------------------------------------------------------------
# The disk.

@pytest.mark.parametrize('dest', ['x.zip', 'x', 'deep/er/x.zip'])
def test_a_dataset_on_a_full_disk(photos, small_disk, dest):
    process = tool('dataset_tool', f'--source={photos}', f'--dest={small_disk}/{dest}')
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 2 and 'Traceback' not in output, output
    assert output.splitlines()[-1].startswith(f'Error: --dest: {small_disk}/{dest} cannot be written (No space left on device)')
    assert not [name for _, _, names in os.walk(small_disk) for name in names] and not (small_disk / 'x').exists()

def test_a_picture_on_a_full_disk(small_disk):
    with pytest.raises(SpiderError, match='picture.png cannot be written .No space left'):
        save_png((np.random.RandomState(0).rand(256, 256, 3) * 255).astype(np.uint8), str(small_disk / 'picture.png'))
    assert os.listdir(small_disk) == []

@pytest.mark.parametrize('number', [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS])
@pytest.mark.parametrize('folder', [False, True])
def test_what_is_written_whole(tmp_path, number, folder):
    with pytest.raises(SpiderError, match='--dest: .*x cannot be written') as caught, \
            written_whole(str(tmp_path / 'x'), '--dest: ') as temp:
        if folder:
            os.makedirs(f'{temp}/some')
        else:
            Path(temp).write_bytes(b'half')
        raise OSError(number, os.strerror(number))
    assert '\n' not in caught.value.message and os.listdir(tmp_path) == []

@pytest.mark.parametrize('trains', [True, False])
@pytest.mark.parametrize('number, word', [
    (errno.ENOSPC, 'free some space'), (errno.EROFS, 'cannot be written'), (errno.EACCES, 'rights'), (errno.EIO, 'its disk'),
    (errno.ENAMETOOLONG, 'another place'), (errno.EMFILE, 'ulimit'), (errno.ENFILE, 'ulimit')])
def test_errors_of_the_system(number, word, trains):
    with pytest.raises(SpiderError, match=word) as caught, trouble.explained(trains):
        raise OSError(number, os.strerror(number), '/x/y')
    assert '\n' not in caught.value.message and ('/x/y' in caught.value.message or word == 'ulimit')

#----------------------------------------------------------------------------
# Shared memory, by the words of torch.

@pytest.mark.parametrize('error', [
    RuntimeError('unable to allocate shared memory(shm) for file </torch_137_195_0>: No space left on device (28)'),
    RuntimeError('Caught RuntimeError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n  File "x"\n'
                 'RuntimeError: unable to write to file </torch_9_1>: shared memory is full'),
    RuntimeError('DataLoader worker (pid 77) is killed by signal: Bus error. It is possible that dataloader\'s workers are out '
                 'of shared memory. Please try to raise your shared memory limit.')])
def test_little_shared_memory(error):
    with pytest.raises(SpiderError, match='--workers: .*shared memory.*--workers=0.*--shm-size') as caught, \
            trouble.explained(True):
        raise error
    assert '\n' not in caught.value.message

@pytest.mark.slow
def test_little_shared_memory_of_a_container(photos, tmp_path):
    train = [sys.executable, HOST / 'train.py', f'--outdir={tmp_path}/runs', f'--data={photos}', '--cfg=stylegan2', '--batch=16',
             '--gamma=1', '--cbase=64', '--cmax=8', '--map-depth=1', '--kimg=0.016', '--workers=1', '--threads=1']
    command = ['unshare', '-m', 'sh', '-c', 'mount -t tmpfs -o size=64k tmpfs /dev/shm || exit 77; exec "$@"', 'sh',
               *map(str, train)]
    try:
        done = subprocess.run(command, env=ENV, text=True, capture_output=True, timeout=300)
    except FileNotFoundError:
        pytest.skip('needs unshare')
    if done.returncode == 77 or 'unshare' in done.stderr:
        pytest.skip('mounting needs root')
    assert done.returncode == 2 and 'Error: --workers: ' in done.stderr and 'Traceback' not in done.stderr, done.stderr

#----------------------------------------------------------------------------
# Signals and letters.

@pytest.mark.parametrize('dest, signum', [('x.zip', signal.SIGTERM), *(pytest.param(
    name, signum, marks=pytest.mark.slow) for name, signum in (('x', signal.SIGHUP), ('x.zip', signal.SIGINT)))])
def test_a_stopped_dataset_tool_leaves_nothing(tmp_path, photos, dest, signum):
    process = tool('dataset_tool', f'--source={photos}', f'--dest={tmp_path}/out/{dest}', '--transform=stretch',
                   '--resolution=2048x2048')
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob('out/*.tmp')) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signum)
    output, _ = process.communicate(timeout=120)
    assert process.returncode in (128 + signum, 1) and os.listdir(tmp_path / 'out') == [], output

@pytest.mark.parametrize('encoding', ['ascii', *(pytest.param(other, marks=pytest.mark.slow) for other in ('cp1252', 'cp932'))])
def test_letters_that_the_output_lacks(photos, tmp_path, encoding):
    process = tool('train', f'--outdir={tmp_path}/実行 läufe é😀', f'--data={photos}', '--cfg=stylegan2', '--batch=4',
                   '--gamma=1', '-n', PYTHONIOENCODING=encoding)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0 and output.endswith('Dry run; exiting.\n'), output
