"""`spider train --data=photos` as a user starts it."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from spider_plugin.resources import resource_dir

ROOT = Path(__file__).resolve().parents[2]

@pytest.fixture(scope='module')
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp('trip') / 'photos'
    folder.mkdir()
    rng = np.random.RandomState(0)
    for i in range(24):
        size = [(60, 40), (40, 60), (50, 50)][i % 3]
        coarse = rng.randint(0, 256, (4, 4, 3)).astype(np.uint8)
        PIL.Image.fromarray(coarse).resize(size).save(folder / f'{i}.jpg')
    return folder

def train(cwd, *args):
    env = dict(os.environ, PYTHONPATH=str(ROOT), OMP_NUM_THREADS='1')
    return subprocess.run([sys.executable, '-m', 'spider_plugin.cli', 'train', *map(str, args)], cwd=cwd, env=env, text=True,
                          capture_output=True)

@pytest.fixture(scope='module')
def run(photos, tmp_path_factory):
    """(folder, output) of a run that gives its length and a batch; weights of a feature network are not installed in CI."""
    cwd = tmp_path_factory.mktemp('artist')
    done = train(cwd, f'--data={photos}', '--kimg=0.008', '--batch=8')
    assert done.returncode == 0, done.stdout + done.stderr
    return cwd, done.stdout

def test_one_command_trains_and_shows(run):
    cwd, said = run
    folder = next((cwd / 'training-runs').glob('00000-*'))
    assert (folder / 'report.html').is_file() and (folder / 'fakes_init.png').is_file() and '-photos-32x32-' in folder.name
    assert list((cwd / 'training-runs' / 'data').glob('*/photos-32x32.zip'))
    assert '24 JPEG; ' in said and '8 landscape, 8 portrait, 8 square' in said
    assert re.search(r'One iteration of 8 images takes .* s here \(\w+', said)

def test_the_table_is_in_the_run_and_what_is_given_wins(run):
    cwd, said = run
    folder = next((cwd / 'training-runs').glob('00000-*'))
    options = json.loads((folder / 'training_options.json').read_text())
    chosen = options['spider_run']['automatic']
    assert chosen['--resolution'] == options['training_set_kwargs']['resolution'] == 32
    assert '--kimg' not in chosen and '--batch' not in chosen and options['batch_size'] == 8 and options['total_kimg'] == 0.008
    for option in chosen:
        assert f'\n  {option} ' in said and f'\n  {option} ' in (folder / 'log.txt').read_text()
    assert options['snap_minutes'] == chosen['--snap-minutes'] == 10

@pytest.mark.slow
def test_latest_continues_it(run):
    done = train(run[0], '--resume=latest', '-n')
    assert done.returncode == 0 and 'Continuing the run in training-runs/00000-' in done.stdout.replace(os.sep, '/'), done.stderr

BAD = {
    '': '--data: a new run needs it',
    '--data=PHOTOS --batch=many': "'--batch': 'many' is not a whole number",         # before any work
    '--data=PHOTOS --resolution=100': '--resolution=100 is not a power of two; give 64 or 128',
    '--data=PHOTOS --cfg=dcgan --transform=pad': '--transform needs --resolution beside --cfg',
    '--resume=latest --resolution=64': '--resolution has no effect with --resume',
    '--data=nowhere': '--data: nowhere does not exist',
    '--data=PHOTOS --cfg=dcgan --batch=8 --gamma=1': 'images must be square',
}
MAIN = """
import json, os, runpy, sys
os.environ['SPIDER_RUN_PROGRAM'] = 'spider train'
tree, *lines = sys.argv[1:]
sys.path.insert(0, tree)
import spider_plugin.hosts.hook
main = runpy.run_path(os.path.join(tree, 'train.py'))['main']
for line in lines:
    try:
        main.main(args=line.split(), standalone_mode=False)
    except Exception as error:
        print('REFUSED', json.dumps([line, type(error).__name__, str(getattr(error, 'exit_code', '')), error.format_message()]))
"""

def test_a_bad_command_is_a_sentence(photos, tmp_path):
    """All in one process, by the command itself."""
    commands = {line.replace('PHOTOS', str(photos)): words for line, words in BAD.items()}
    env = dict(os.environ, PYTHONPATH=str(ROOT), OMP_NUM_THREADS='1')
    args = [sys.executable, '-c', MAIN, resource_dir('reference_host'), *commands]
    done = subprocess.run(args, cwd=tmp_path, env=env, text=True,
                          capture_output=True)
    refused = {line: (code, words) for line, _, code, words in
               (json.loads(text.removeprefix('REFUSED ')) for text in done.stdout.splitlines() if text.startswith('REFUSED '))}
    assert set(refused) == set(commands), done.stdout + done.stderr
    for line, words in commands.items():
        assert refused[line][0] == '2' and words in refused[line][1]
    assert not list(tmp_path.iterdir())

@pytest.mark.slow
def test_with_cfg_nothing_is_chosen_and_squares_are_cut_where_a_side_is_given(photos, tmp_path):
    done = train(tmp_path, f'--data={photos}', '--cfg=dcgan', '--batch=8', '--gamma=1', '-n', '--resolution=32',
                 '--transform=pad')
    assert done.returncode == 0 and 'photos-32x32-pad.zip, 24 images' in done.stdout and 'Chosen' not in done.stdout, done.stderr
