"""A snapshot of training that diverged is refused wherever one is read."""

import pickle
from pathlib import Path

import pytest
import torch

from spider_plugin.errors import SpiderError
from spider_plugin.hosts import plain_resume
from spider_plugin.snapshots.rebuild import add_host_to_path, load_generator, not_finite
from spider_plugin.snapshots.records import read_pickle
from spider_plugin.snapshots.resume_plan import check_resumable
from tests.snapshots.readers import READERS

@pytest.fixture(scope='module', params=[float('nan'), float('inf')])
def bad(request, make_snapshot, tmp_path_factory):
    """A snapshot with one bad number, in a weight of G_ema."""
    add_host_to_path()
    with open(make_snapshot(), 'rb') as file:
        data = pickle.load(file)
    with torch.no_grad():
        data['G_ema'].synthesis.b8.conv1.weight[1, 0, 0, 0] = request.param
    path = tmp_path_factory.mktemp('bad') / 'network-snapshot-000009.pkl'
    with open(path, 'wb') as file:
        pickle.dump(data, file)
    return str(path)

USES = READERS | {'resume': lambda path: check_resumable(path, read_pickle(path))}

@pytest.mark.parametrize('use', USES.values(), ids=USES)
def test_it_is_refused(bad, use):
    words = 'is of training that diverged: synthesis.b8.conv1.weight of its .* is not finite'
    with pytest.raises(SpiderError, match=words) as caught:
        use(bad)
    assert bad in caught.value.message and '\n' not in caught.value.message
    assert [path.name for path in Path(bad).parent.rglob('*') if path.is_file()] == [Path(bad).name]

def test_a_good_one_is_not(make_snapshot):
    path = make_snapshot()
    load_generator(path)
    plain_resume.read_resumed(dict(resume_pkl=path))

def test_what_the_host_reads_alone_is_left_to_it(tmp_path):
    (tmp_path / 'x.pkl').write_bytes(b'not a pickle')
    for path in (str(tmp_path / 'x.pkl'), 'https://example.com/x.pkl', None):
        plain_resume.read_resumed(dict(resume_pkl=path))

def test_integers_are_finite():
    assert not_finite(dict(a=torch.ones([2], dtype=torch.int64), b=torch.ones([2]))) is None
    assert not_finite(dict(a=torch.ones([2]), b=torch.tensor([0, -float('inf')]))) == 'b'

#----------------------------------------------------------------------------
