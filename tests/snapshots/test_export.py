"""`spider export` writes the tensors of a network in a pickle without executing anything."""

import hashlib
import json
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch
from click.testing import CliRunner

from spider_plugin.cli import main
from spider_plugin.errors import SpiderError
from spider_plugin.snapshots.export import export
from spider_plugin.sources.prepare import prepare_source

def unpickled(path, key='G_ema'):
    with open(path, 'rb') as file:
        return pickle.load(file)[key]

def assert_equal(tensors, expected):
    assert sorted(tensors) == sorted(expected)
    assert all(torch.equal(tensors[name], value) and tensors[name].dtype == value.dtype for name, value in expected.items())

#----------------------------------------------------------------------------

def test_tensors_and_card(make_snapshot, tmp_path):
    path = make_snapshot(c_dim=3)
    assert export(path, tmp_path / 'new' / 'g.pt') == [tmp_path / 'new' / 'g.pt', tmp_path / 'new' / 'g.json']
    assert_equal(torch.load(tmp_path / 'new' / 'g.pt', weights_only=True), unpickled(path).state_dict())
    card = json.loads((tmp_path / 'new' / 'g.json').read_text())
    network = card['network']
    assert (network['class_name'], network['family']) == ('Generator', 'stylegan2')
    assert [network[key] for key in ('z_dim', 'w_dim', 'c_dim', 'resolution', 'channels')] == [16, 16, 3, 16, 3]
    assert network['init_kwargs']['mapping_kwargs'] == {'num_layers': 2}
    assert card['input'] == dict(file=Path(path).name, sha256=hashlib.sha256(Path(path).read_bytes()).hexdigest())
    assert card['source'] is None and card['licence'].startswith('unknown') and card['versions']['torch'] == torch.__version__
    assert card['numbers'] == sum(t.numel() for t in unpickled(path).state_dict().values())

@pytest.mark.parametrize('dcgan', [False, True])
def test_source_that_a_snapshot_carries(make_snapshot, make_zip, tmp_path, dcgan):
    data = make_zip(tmp_path / 'neighbour.zip', n=40, labels=4,
                    extra={'LICENSE': b'public domain'})
    source = prepare_source(data, size=16)
    path = make_snapshot(spider=dict(mapping='residual', source=source.path, embed=1, noise=0.25), dcgan=dcgan, c_dim=4)
    written = export(path, tmp_path / 'g.pt')
    assert written[2:] == [tmp_path / 'g-source.npz']
    G = unpickled(path)
    assert_equal(torch.load(written[0], weights_only=True), G.state_dict())
    with np.load(written[2], allow_pickle=False) as bank:
        assert np.array_equal(bank['images'], G.source.images.numpy()) and np.array_equal(bank['labels'], G.source.labels.numpy())
    card = json.loads(written[1].read_text())
    assert card['source'] == dict(source.identity, match='none', mapping='residual', noise=0.25, images=40,
                                   file='g-source.npz')
    assert source.path not in written[1].read_text() and card['network']['family'] == ('dcgan' if dcgan else 'stylegan2')

def test_source_that_a_snapshot_leaves_out(make_snapshot, tmp_path):
    source = prepare_source('strokes', size=16, bank=20)
    path = make_snapshot(spider=dict(mapping='encoder', source=source.path, embed=0))
    assert len(export(path, tmp_path / 'g.pt')) == 2
    card = json.loads((tmp_path / 'g.json').read_text())
    assert card['source']['images'] == 0 and card['source']['name'] == 'strokes' and 'file' not in card['source']

def test_safetensors(make_snapshot, tmp_path):
    path = make_snapshot()
    export(path, tmp_path / 'g.safetensors')
    assert_equal(safetensors.torch.load_file(tmp_path / 'g.safetensors'), unpickled(path).state_dict())
    with safetensors.safe_open(tmp_path / 'g.safetensors', 'pt') as file:
        assert json.loads(file.metadata()['card']) == json.loads((tmp_path / 'g.json').read_text())

@pytest.mark.parametrize('spider', [False, True])
def test_trust_gives_the_same(make_snapshot, tmp_path, spider):
    source = prepare_source('shapes', size=16, bank=20)
    path = make_snapshot(spider=dict(mapping='whitened', source=source.path) if spider else None)
    for name, trust in (('a', False), ('b', True)):
        export(path, tmp_path / name / 'g.pt', trust=trust)
    for file in (tmp_path / 'a').iterdir():
        if file.suffix == '.json':
            assert json.loads(file.read_text()) == json.loads((tmp_path / 'b' / file.name).read_text())
    assert {f.name for f in (tmp_path / 'a').iterdir()} == {f.name for f in (tmp_path / 'b').iterdir()}
    a, b = (torch.load(tmp_path / name / 'g.pt', weights_only=True) for name in 'ab')
    assert_equal(a, b)

#----------------------------------------------------------------------------

def test_command_runs_nothing_of_the_file(make_snapshot, tmp_path):
    path = Path(make_snapshot())
    broken = tmp_path / 'broken.pkl'
    broken.write_bytes(path.read_bytes().replace(b'import torch\n', b'import tosch\n')) # source that cannot be executed
    with pytest.raises(ModuleNotFoundError):
        unpickled(broken)
    result = CliRunner().invoke(main, ['export', str(broken), '--out', str(tmp_path / 'g.pt')])
    assert result.exit_code == 0 and result.output.split() == [str(tmp_path / 'g.pt'), str(tmp_path / 'g.json')]
    assert_equal(torch.load(tmp_path / 'g.pt', weights_only=True), unpickled(path).state_dict())
    result = CliRunner().invoke(main, ['export', str(broken), '--out', str(tmp_path / 'h.pt'), '--trust-pickle'])
    assert result.exit_code == 2 and 'needs the package tosch' in result.output and not (tmp_path / 'h.pt').exists()

def test_refused(make_snapshot, tmp_path, monkeypatch):
    path = make_snapshot()
    for arguments, message in ((('g.bin',), 'neither in .pt or .safetensors .* nor in .onnx or .ts'),
                               (('g.pt', 'G_best'), 'one of: G, D, G_ema')):
        with pytest.raises(SpiderError, match=message):
            export(path, tmp_path / arguments[0], *arguments[1:])
    monkeypatch.setitem(sys.modules, 'safetensors.torch', None)
    with pytest.raises(SpiderError, match=r"pip install 'spider-plugin\[safetensors\]'"):
        export(path, tmp_path / 'g.safetensors')
    with pytest.raises(SpiderError, match='nowhere.pkl'):
        export(tmp_path / 'nowhere.pkl', tmp_path / 'g.pt')
    assert not list(tmp_path.iterdir())

def test_a_full_disk_leaves_nothing(make_snapshot, tmp_path, monkeypatch):
    def full(*args):
        raise OSError(28, 'No space left on device')
    path = make_snapshot()
    monkeypatch.setattr(torch, 'save', full)
    with pytest.raises(SpiderError, match='g.pt .No space left on device.; free the disk'):
        export(path, tmp_path / 'g.pt')
    assert not list(tmp_path.iterdir())
