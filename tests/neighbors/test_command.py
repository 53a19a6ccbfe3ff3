"""`spider neighbors` as a user starts it: files, errors, hosts, several ranks, interrupted runs."""

import concurrent.futures
import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from torch.distributed import TCPStore

from spider_plugin import cli
from spider_plugin.errors import SpiderError
from spider_plugin.neighbors import report as neighbor_report
from spider_plugin.neighbors import shards
from spider_plugin.neighbors.compare import find_neighbors
from spider_plugin.neighbors.detector import HostDetector
from spider_plugin.resources import resource_dir

ROOT = Path(__file__).resolve().parents[2]
SETS = ['target', 'a', 'b', 'c']

class Pooling(torch.nn.Module):
    def forward(self, images: torch.Tensor, return_features: bool = False) -> torch.Tensor:
        features = torch.nn.functional.adaptive_avg_pool2d(images.float(), [2, 2]).flatten(1) / 64
        return features if return_features else features[:, :1]

@pytest.fixture
def sets(tmp_path, monkeypatch, make_zip):
    """A folder with zips of 100 images and a detector.pt as working directory, and a separate cache."""
    monkeypatch.setenv('SPIDER_CACHE_DIR', str(tmp_path / 'cache'))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, 'path', [*sys.path]) # The host is first on the path.
    monkeypatch.delenv('SPIDER_DETECTOR', raising=False)
    for seed, name in enumerate(SETS):
        make_zip(f'{name}.zip', n=100, res=16, seed=seed)
    torch.jit.script(Pooling()).save('detector.pt')
    return tmp_path

ARGS = ['neighbors', '--target=target.zip', 'a.zip', 'b.zip', 'c.zip']

def spider(*args):
    return CliRunner().invoke(cli.main, [*map(str, args)])

#----------------------------------------------------------------------------

def test_table_json_and_page(sets):
    result = spider(*ARGS, '--detector=detector.pt', '--outdir=out', '--json=more.json')
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    heading = next(i for i, line in enumerate(lines) if line.startswith('rank'))
    assert re.split('  +', lines[heading]) == ['rank', 'source', 'images', 'FID (detector)', 'KID (detector)',
                                               'SID (detector)', 'back', 'location', 'spread']
    assert sorted(line.split()[1] for line in lines[heading + 1 : heading + 4]) == ['a', 'b', 'c']
    numbers = json.loads(Path('out/neighbors.json').read_text())
    assert Path('more.json').read_text() == Path('out/neighbors.json').read_text()
    ranks = [int(re.match(r'\d+', line)[0]) for line in lines[heading + 1 : heading + 4]]
    assert ranks == [e['rank'] for e in numbers['sources']]
    assert numbers['by'] == 'fid' and numbers['detector']['name'] == 'detector.pt' and numbers['command'] in result.stdout
    assert numbers['command'].startswith('spider train ') and '--data=target.zip' in numbers['command']
    page = Path('out/neighbors.html').read_text()
    assert page.count('<polyline') == 6 and page.count('data:image/png;base64,') == 4
    assert not re.search(r'(src|href)="(?!data:)', page) and 'NaN' not in page and 'nan,' not in page

def test_the_detector_of_the_environment(sets, monkeypatch):
    monkeypatch.setenv('SPIDER_DETECTOR', 'detector.pt')
    assert spider(*ARGS).exit_code == 0

@pytest.mark.parametrize('option, words', [
    ('--detector=nowhere.pt',   'nowhere.pt does not exist'),
    ('--detector=target.zip',   'target.zip'),
    ('--host=cache',            '--host=cache has no metrics/metric_utils.py'),
    ('--max-images=10',         "'10' is not a whole number from 100"),
    ('--outdir=a.zip',          'Cannot write a.zip'),
    ('--json=.',                'is a folder'),
])
def test_errors_are_one_sentence(sets, option, words):
    options = [option] if option.startswith('--detector') else ['--detector=detector.pt', option]
    result = spider(*ARGS, *options)
    assert result.exit_code == 2 and words in result.output, result.output
    assert not (sets / 'cache' / 'features').exists()

def test_the_demo_detector_takes_any_size(sets):
    """Offline, with images that are not 32 x 32."""
    result = spider(*ARGS, '--detector=demo', 'strokes')
    assert result.exit_code == 0, result.output
    assert 'strokes' in result.stdout and 'Scores of the demo detector' in result.stdout

def test_a_source_that_fails_is_left_out(sets):
    (sets / 'cut.zip').write_bytes((sets / 'a.zip').read_bytes()[:2000])
    result = spider(*ARGS, 'nowhere.zip', 'cut.zip', 'covariance:gone.zip', '--detector=detector.pt', '--outdir=out')
    assert result.exit_code == 0, result.output
    left_out = [line for line in result.stdout.splitlines() if 'was left out' in line]
    assert [line.split()[1] for line in left_out] == ['nowhere.zip', 'cut.zip', 'covariance:gone.zip']
    assert '--spider-source' not in ''.join(left_out)
    numbers = json.loads(Path('out/neighbors.json').read_text())
    assert len(numbers['sources']) == 3 and [failed['source'] for failed in numbers['failed']] == [
        'nowhere.zip', 'cut.zip', 'covariance:gone.zip']
    alone = spider('neighbors', '--target=target.zip', 'nowhere.zip', 'cut.zip', '--detector=detector.pt')
    assert alone.exit_code == 2 and 'nowhere.zip does not exist' in alone.output

def test_drawn_sources_draw_as_many_images_as_the_target_needs(sets):
    result = spider('neighbors', '--target=target.zip', 'strokes', '--detector=detector.pt', '--outdir=out')
    assert result.exit_code == 0, result.output
    assert json.loads(Path('out/neighbors.json').read_text())['sources'][0]['images'] == 1000     # not 16384 for 100
    [note] = [line for line in result.stdout.splitlines() if line.startswith('Note: ')]
    assert note.startswith('Note: 1000 images were drawn of strokes: 4 for each of the 100 of the target, but at least 1000')
    assert not [line for line in spider(*ARGS, '--detector=detector.pt').stdout.splitlines() if line.startswith('Note: ')]

def test_no_score_of_another_network_stands_alone(sets):
    """Inception's scores alone have the bare names, in every line and sentence, and in the page."""
    result = spider(*ARGS, '--detector=demo', 'strokes', '--html=page.html')
    page = re.sub('<[^>]+>', ' ', Path('page.html').read_text().partition('<main>')[2])
    for text in (result.stdout, page.partition('How to read')[0]):
        assert text.count('FID (demo)') >= 2 and not re.search(r'[FK]ID(?! \(demo\))', text), text
        assert 'SID (demo)' in text

@pytest.fixture
def checkout(sets):
    """A host without a detector lookup, whose loader takes any file; modules of other hosts are removed from this process."""
    is_metrics = lambda name: name.split('.')[0] == 'metrics'
    kept = {name: sys.modules.pop(name) for name in list(sys.modules) if is_metrics(name)}
    (sets / 'checkout' / 'metrics').mkdir(parents=True)
    (sets / 'checkout' / 'metrics' / '__init__.py').write_text('')
    (sets / 'checkout' / 'metrics' / 'metric_utils.py').write_text(
        'import torch\ndef get_feature_detector(url, device):\n    return torch.nn.Sequential(torch.nn.Flatten())\n')
    yield sets / 'checkout'
    for name in list(filter(is_metrics, sys.modules)):
        del sys.modules[name]
    sys.modules.update(kept)

def test_another_host_is_used_by_its_functions(checkout):
    result = spider(*ARGS, f'--host={checkout}', '--detector=detector.pt') # TorchScript, for any host.
    assert result.exit_code == 0 and f'spider run {checkout / "train.py"} ' in result.stdout, result.output
    result = spider(*ARGS, f'--host={checkout}')
    assert result.exit_code == 2 and 'name its network by --detector' in result.output
    Path('other.net').write_text('of the host')
    detector = HostDetector('other.net', host=checkout)
    assert detector(torch.zeros([2, 1, 4, 4])).shape == (2, 48)
    assert spider(*ARGS, f'--host={checkout}', '--detector=other.net').exit_code == 0

def test_a_detector_is_named_as_code(sets, capsys):
    """Once, with its digest and as plain text, before it is loaded; not the one of the demo."""
    name = 'evil\x1b[2J.pt'
    Path('detector.pt').rename(name)
    detector = HostDetector(name)
    detector(torch.zeros([2, 3, 4, 4])), detector(torch.zeros([2, 3, 4, 4]))
    said = capsys.readouterr().err
    assert said.count('a detector is code, which runs with your rights') == 1 and detector.identity[:12] in said
    assert 'evil\\x1b[2J.pt' in said and '\x1b' not in said
    HostDetector('demo')(torch.zeros([2, 3, 32, 32]))
    assert not capsys.readouterr().err
    assert 'is code that will run' in ' '.join(spider('neighbors', '--help').output.split())

def test_a_process_with_another_host_is_refused(checkout):
    HostDetector('detector.pt', host=checkout)._module('metrics.metric_utils')
    with pytest.raises(SpiderError, match='has already imported another'):
        HostDetector('detector.pt')._module('metrics.metric_utils')

#----------------------------------------------------------------------------
# Ranks.

def start(rank, size, port, *args, **env):
    env = dict(os.environ, PYTHONPATH=str(ROOT), RANK=str(rank), WORLD_SIZE=str(size), MASTER_ADDR='127.0.0.1',
               MASTER_PORT=str(port), **env)
    command = [sys.executable, '-m', 'spider_plugin.cli', *ARGS, '--detector=detector.pt', *args]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]

def test_two_ranks_equal_one_bit_for_bit(sets):
    """Each rank has a separate cache, as on machines that share no disk."""
    assert spider(*ARGS, '--detector=detector.pt', '--outdir=one').exit_code == 0
    port = free_port()
    ranks = [start(rank, 2, port, '--outdir=two', SPIDER_CACHE_DIR=str(sets / f'cache{rank}')) for rank in range(2)]
    output = [process.communicate(timeout=120) for process in ranks]
    assert [process.returncode for process in ranks] == [0, 0], output
    assert output[1][0] == '' and 'a (1 of 2): looking' in output[1][1] and 'b (2 of 2): looking' in output[0][1]
    for name in ('neighbors.json', 'neighbors.html'):
        assert Path('one', name).read_bytes() == Path('two', name).read_bytes()

def test_a_failing_rank_ends_the_others_before_the_work(sets):
    store = TCPStore('127.0.0.1', 0, is_master=True, wait_for_workers=False)
    def run(rank):
        kinds, address = (SpiderError, shards.RankDied), ('127.0.0.1', store.port)
        with pytest.raises(kinds) as caught, shards.Crew(rank, 2, address, False) as crew:
            detector = HostDetector(['detector.pt', 'gone.pt'][rank])
            find_neighbors('target.zip', ['a.zip', 'b.zip', 'c.zip'], detector, crew=crew, quiet=True)
        return caught.value
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        errors = list(pool.map(run, range(2)))
    assert [error.exit_code for error in errors] == [1, 2]
    assert errors[0].message.startswith('rank 1 failed: --detector: gone.pt does not exist')
    assert not (sets / 'cache' / 'features').exists()

def test_a_source_that_fails_in_one_rank_is_left_out_by_all(sets):
    (sets / 'c.zip').write_bytes(b'nothing') # Set 3: of rank 1.
    store = TCPStore('127.0.0.1', 0, is_master=True, wait_for_workers=False)
    def run(rank):
        with shards.Crew(rank, 2, ('127.0.0.1', store.port), False) as crew:
            return find_neighbors('target.zip', ['a.zip', 'b.zip', 'c.zip'], HostDetector('detector.pt'), crew=crew, quiet=True)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        summary, nothing = pool.map(run, range(2))
    assert nothing is None and len(summary['sources']) == 2
    assert summary['failed'][0]['source'] == 'c.zip' and 'not a zip or a folder of images' in summary['failed'][0]['why']

def test_a_dead_rank_is_noticed(monkeypatch):
    monkeypatch.setattr(shards, 'PATIENCE', 1)
    store = TCPStore('127.0.0.1', 0, is_master=True, wait_for_workers=False)
    with pytest.raises(shards.RankDied, match='rank 1 has given no sign of life'):
        with shards.Crew(0, 2, ('127.0.0.1', store.port), hosts_store=False) as crew:
            crew.wait('never', 1)

def test_ranks_need_an_address(monkeypatch):
    monkeypatch.setenv('WORLD_SIZE', '2')
    monkeypatch.setenv('RANK', '0')
    monkeypatch.delenv('MASTER_ADDR', raising=False)
    monkeypatch.delenv('MASTER_PORT', raising=False)
    with pytest.raises(SpiderError, match='MASTER_ADDR and MASTER_PORT'):
        shards.crew()

KILLED = '''
import os, signal, sys
import torch
from spider_plugin.neighbors.detector import HostDetector
from spider_plugin.neighbors.compare import find_neighbors

class Watched:
    def __init__(self):
        self.network, self.passes = HostDetector('detector.pt'), 0
        self.identity, self.name = self.network.identity, self.network.name
    def __call__(self, images):
        if len(images) > 1:
            self.passes += 1
            if self.passes > int(sys.argv[1]):
                os.kill(os.getpid(), signal.SIGKILL)
            print(len(images), flush=True)
        return self.network(images)

find_neighbors('target.zip', ['a.zip', 'b.zip', 'c.zip'], Watched(), quiet=True)
'''

@pytest.mark.slow
def test_a_killed_run_keeps_its_finished_features(sets):
    Path('killed.py').write_text(KILLED)
    def run(passes):
        return subprocess.run([sys.executable, 'killed.py', str(passes)], env=dict(os.environ, PYTHONPATH=str(ROOT)),
                              capture_output=True, text=True)
    killed = run(5) # Two batches a set: in the middle of the third.
    assert killed.returncode == -signal.SIGKILL and killed.stdout.split() == ['64', '36', '64', '36', '64'], killed.stderr
    again = run(99)
    assert again.returncode == 0 and again.stdout.split() == ['64', '36', '64', '36'], again.stderr

@pytest.mark.slow
def test_torchrun(sets):
    assert spider(*ARGS, '--detector=detector.pt', '--outdir=one').exit_code == 0
    result = subprocess.run(
        [sys.executable, '-m', 'torch.distributed.run', '--nproc-per-node=3', '-m', 'spider_plugin.cli', *ARGS,
         '--detector=detector.pt', '--outdir=three'], capture_output=True, text=True, timeout=300,
        env=dict(os.environ, PYTHONPATH=str(ROOT), SPIDER_CACHE_DIR=str(sets / 'other')))
    assert result.returncode == 0, result.stderr
    assert Path('one/neighbors.json').read_bytes() == Path('three/neighbors.json').read_bytes()

#----------------------------------------------------------------------------
# What is shown.

def test_numbers_show_two_digits_of_their_interval():
    words = lambda value, ci95: neighbor_report._plain(dict(value=value, ci95=ci95))
    assert words(12.3456, 0.789) == '12.35 ± 0.79' and words(1234.5, 56.7) == '1234 ± 57'
    assert words(0.00123456, 0.0000321) == '0.001235 ± 0.000032' and words(-3, 0.5) == '-3.00 ± 0.50'

def test_names_are_escaped(sets, make_zip):
    make_zip('<b>.zip', n=60)
    spider('neighbors', '--target=target.zip', '<b>.zip', '--detector=detector.pt', '--html=page.html')
    page = Path('page.html').read_text()
    assert '&lt;b&gt;' in page and '<b>.zip' not in page and '>1 <b><' not in page

def test_the_embedded_host_is_the_default():
    detector = HostDetector('demo')
    assert Path(detector.path).is_relative_to(resource_dir('reference_host'))
    assert detector(torch.zeros([2, 1, 32, 32], dtype=torch.uint8)).shape == (2, 64)

#----------------------------------------------------------------------------
