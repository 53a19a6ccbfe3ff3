"""A snapshot ends in a checksum, and one whose bytes have changed is refused wherever the plugin's tools read one."""

import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from spider_plugin.errors import SpiderError
from spider_plugin.files import checksum
from spider_plugin.hosts import plain_resume, saving
from spider_plugin.resources import resource_dir
from spider_plugin.snapshots import host_door
from spider_plugin.snapshots.rebuild import add_host_to_path, load_generator, unpickle
from tests.snapshots.readers import READERS

def by_attached_host(data, path):
    with saving.open_whole(path, 'wb') as file:
        pickle.dump(data, file)

def by_reference_host(data, path):
    from training.snapshots import save_pickle
    save_pickle(data, path)

@pytest.fixture(scope='module', params=[by_attached_host, by_reference_host])
def good(request, make_snapshot, tmp_path_factory):
    add_host_to_path()
    contents = unpickle(make_snapshot())
    path = tmp_path_factory.mktemp('good') / 'network-snapshot-000009.pkl'
    request.param(contents, str(path))
    return path

@pytest.fixture
def bad(good, tmp_path):
    """The snapshot with 400 bytes of a tensor zeroed."""
    data = bytearray(good.read_bytes())
    weight = load_generator(str(good)).synthesis.b8.conv1.weight.numpy().tobytes()
    place = data.rindex(weight) + 1000
    data[place : place + 400] = bytes(400)
    path = tmp_path / 'changed.pkl'
    path.write_bytes(data)
    return str(path)

USES = READERS | {'networks': host_door.read_networks, 'training set': host_door.read_training_set}

@pytest.mark.parametrize('use', USES.values(), ids=USES)
def test_it_is_refused(bad, use):
    with pytest.raises(SpiderError, match='changed.pkl has changed since it was written') as caught:
        use(bad)
    assert caught.value.message.endswith('.')
    assert [path.name for path in Path(bad).parent.rglob('*') if path.is_file()] == [Path(bad).name]

SCRIPT = '''
import sys, torch
from training import snapshots
from training.runtime import SpiderError
try:
    G = snapshots.load_generator(sys.argv[1], torch.device('cpu'), trust=True)
    print('opened', G.img_resolution)
except SpiderError as error:
    print(error.message)
'''

def test_the_reference_host_alone_checks_too(good, bad):
    run = lambda path: subprocess.run([sys.executable, '-c', SCRIPT, path], cwd=resource_dir('reference_host'), check=True,
                                      capture_output=True, text=True, env=dict(PYTHONPATH='')).stdout
    assert run(str(good)) == 'opened 16\n'
    assert 'changed.pkl has changed since it was written' in run(bad)

def test_a_good_one_opens_everywhere_and_one_without_a_checksum_as_before(good, make_snapshot, tmp_path):
    assert checksum.check(good) and not checksum.check(make_snapshot())
    copy = tmp_path / 'copy.pkl'
    copy.write_bytes(good.read_bytes())
    z = torch.randn([2, 16])
    with open(good, 'rb') as file:
        stock = pickle.load(file)['G_ema'].eval()
    with torch.no_grad():
        assert torch.equal(load_generator(str(copy))(z, None, noise_mode='const'), stock(z, None, noise_mode='const'))
    assert not plain_resume.continues_source(plain_resume.read_resumed(dict(resume_pkl=str(good))))
    load_generator(make_snapshot())

def test_a_host_that_writes_over_its_beginning_gets_no_checksum(tmp_path):
    with saving.open_whole(tmp_path / 'x.pkl', 'wb') as file:
        file.write(b'length ')
        file.write(pickle.dumps([1, 2]))
        file.seek(0)
        file.write(b'7')
    assert (tmp_path / 'x.pkl').read_bytes() == b'7ength ' + pickle.dumps([1, 2])
