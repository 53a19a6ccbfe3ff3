"""Graphs draw the images that torch draws, from the source images of the snapshot."""

import json
import pickle

import numpy as np
import pytest
import torch

from spider_plugin import registry
from spider_plugin.errors import SpiderError
from spider_plugin.snapshots import export_graph
from spider_plugin.snapshots.export import export
from spider_plugin.snapshots.rebuild import load_generator
from spider_plugin.sources.prepare import prepare_source
from torch_utils_ext.ops import bit_hash

@pytest.fixture(scope='module')
def source():
    return prepare_source('shapes', size=16, bank=30).path

@pytest.fixture(scope='module')
def snapshots(source, make_snapshot, tmp_path_factory, host):
    """{family: path of a snapshot of a residual generator}."""
    from spider_plugin.bundles.fastgan import FastGANGenerator
    spider = dict(mapping='residual', source=source, embed=1)
    torch.manual_seed(0)
    G = FastGANGenerator(z_dim=16, img_resolution=16, ngf=4, spider=spider).eval()
    with torch.no_grad():
        G.synthesis.output_gain.fill_(0.3)      # as after training
    path = tmp_path_factory.mktemp('fastgan') / 'network-snapshot-000001.pkl'
    path.write_bytes(pickle.dumps(dict(G=G, D=G, G_ema=G, augment_pipe=None, training_set_kwargs={})))
    return dict(stylegan2=make_snapshot(spider=spider), dcgan=make_snapshot(spider=spider, dcgan=True), fastgan=str(path),
                classes=make_snapshot(spider=spider, dcgan=True, c_dim=3))

def inputs(G, count):
    z = torch.randn([count, G.z_dim], generator=torch.Generator().manual_seed(9))
    z[0, :4] = torch.tensor([0.0, -0.0, 1e-42, 2.0])    # a zero of either sign, a denormal number, a power of two
    return (z, torch.eye(G.c_dim)[torch.arange(count) % G.c_dim]) if G.c_dim else (z,)

@torch.no_grad()
@pytest.mark.parametrize('family, kind', [
    ('classes', '.onnx'),
    *(pytest.param(family, '.onnx', marks=pytest.mark.slow) for family in ('stylegan2', 'dcgan', 'fastgan')),
    *((family, '.ts') for family in ('stylegan2', 'dcgan', 'fastgan', 'classes'))])
def test_a_graph_equals_torch(family, kind, snapshots, tmp_path):
    if kind == '.onnx':
        pytest.importorskip('onnxscript', reason='the extra `onnx` is not installed')
        pytest.importorskip('onnxruntime', reason='the extra `onnx` is not installed')
    file, card = export(snapshots[family], tmp_path / f'g{kind}')
    graph = json.loads(card.read_text())['graph']
    assert graph['batch'] == 'any' and graph['difference'] <= 1e-4 and len(graph['inputs']) == (2 if family == 'classes' else 1)
    G, draw = load_generator(snapshots[family]), export_graph._READERS[kind](file)
    for count in (1, 7):
        given = inputs(G, count)
        wanted = G(given[0], given[1] if len(given) > 1 else torch.zeros([count, 0]), noise_mode='const')
        assert (draw(*given) - wanted).abs().max() < 1e-4
    assert (wanted[0] - wanted[1]).abs().max() > 0.1

@pytest.fixture
def write_network(build_network, stirred, source, tmp_path):
    """write_network(G_kwargs of every_network, c_dim=) -> path of a snapshot, with weights as after training."""
    def write(kwargs, c_dim=0):
        if kwargs.get('spider'):
            kwargs = kwargs | dict(spider=dict(kwargs['spider'], source=source, embed=1))
        G = stirred(build_network(kwargs, c_dim=c_dim)).eval()
        for name, buffer in G.named_buffers():
            if name.endswith('progress'):
                buffer.fill_(1e3)
        path = tmp_path / 'network-snapshot-000001.pkl'
        path.write_bytes(pickle.dumps(dict(G=G, D=G, G_ema=G, augment_pipe=None, training_set_kwargs={})))
        return str(path)
    return write

def check_graph(path, kind, tmp_path):
    """Export a snapshot and compare with torch on latents that the export has not seen; return what its card says."""
    file, card = export(path, tmp_path / f'g{kind}')
    graph, G, draw = json.loads(card.read_text())['graph'], load_generator(path), export_graph._READERS[kind](file)
    for count in (1, 3) if graph['batch'] == 'any' else (1,):
        z, *c = inputs(G, count)
        wanted = G(z, c[0] if c else torch.zeros([count, 0]), noise_mode='const')
        assert (draw(z, *c) - wanted).abs().max() < 1e-4 and wanted.std() > 0.01
    return graph

LAYERS = ('--dsc', '--fast-modconv')

@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize('cfg', ['stylegan2', 'stylegan3-t', 'stylegan3-r', *sorted(registry.generators)])
def test_classes_and_other_layers_are_traced(cfg, every_network, write_network, tmp_path):
    """Each generator with a source, classes, and its separable or fast layers where it has some; else with classes alone."""
    fed = [entry for entry in every_network[cfg] if not entry['refused'] and entry['G_kwargs'].get('spider')]
    found = [entry for entry in fed if any(option in LAYERS for option in entry['options'])] or fed[:1]
    for entry in found:
        graph = check_graph(write_network(entry['G_kwargs'], c_dim=2), '.ts', tmp_path)
        assert graph['inputs'] == ['z', 'c'] and graph['difference'] <= 1e-4

@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize('cfg, c_dim', [('stylegan2', 0), ('stylegan2', 2), ('dcgan', 2), ('fastgan_lite', 0)])
def test_classes_and_separable_layers_in_onnx(cfg, c_dim, every_network, write_network, tmp_path):
    pytest.importorskip('onnxscript', reason='the extra `onnx` is not installed')
    pytest.importorskip('onnxruntime', reason='the extra `onnx` is not installed')
    fed = [entry for entry in every_network[cfg] if not entry['refused'] and entry['G_kwargs'].get('spider')]
    found = [entry for entry in fed if '--dsc' in entry['options']] if c_dim == 0 else fed[:1]
    graph = check_graph(write_network(found[0]['G_kwargs'], c_dim=c_dim), '.onnx', tmp_path)
    assert len(graph['inputs']) == 1 + (c_dim > 0) and graph['difference'] <= 1e-4

@torch.no_grad()
def test_the_bits_of_floats_by_arithmetic():
    rng = np.random.RandomState(0)
    x = torch.from_numpy(rng.randint(0, 1 << 32, 200_000, dtype=np.uint64).astype(np.uint32).view(np.float32))
    x = torch.cat([x, 2.0 ** torch.arange(-149, 128), torch.tensor([0.0, float('inf'), -float('inf'), float('nan')])]) + 0.0
    x = torch.where(torch.isnan(x), torch.full_like(x, float('nan')), x)
    assert torch.equal(bit_hash._bits_by_arithmetic(x), x.view(torch.int32).to(torch.int64))

def test_refusals(snapshots, make_snapshot, tmp_path, monkeypatch):
    (tmp_path / 'photo.pkl').write_bytes(b'\x89PNG\r\n\x1a\n' + bytes(64))
    with pytest.raises(SpiderError, match='photo.pkl'):
        export(tmp_path / 'photo.pkl', tmp_path / 'g.onnx')
    monkeypatch.setattr(export_graph, '_difference', lambda *args: 0.5)
    with pytest.raises(SpiderError, match=r'DCGANGenerator cannot be exported to TorchScript \(its images differ .* by 0.5\)'):
        export(snapshots['dcgan'], tmp_path / 'g.ts')
    monkeypatch.setattr(export_graph.importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(SpiderError, match=r'spider-plugin\[onnx\]'):
        export(snapshots['dcgan'], tmp_path / 'g.onnx')
    assert [path.name for path in tmp_path.iterdir()] == ['photo.pkl']
