"""The projected discriminator: shapes, parts of a batch, the actions of hosts on it, and the loss that trains it."""

import copy
import pickle
import subprocess
import sys
import types

import pytest
import torch
import torch.nn.functional as F

import spider_plugin
from spider_plugin.portable.discriminator.diffaug import color, translation_and_cutout
from spider_plugin.portable.discriminator.projected import ProjectedDiscriminator
from spider_plugin.resources import resource_dir
from spider_plugin.training.hinge import ProjectedHingeLoss, gaussian_blur

SMALL = dict(feature_resolution=128)

def images(n=4, res=32, channels=3, seed=0):
    return torch.rand([n, channels, res, res], generator=torch.Generator().manual_seed(seed)) * 2 - 1

@pytest.fixture(scope='module')
def network():
    torch.manual_seed(0)
    return ProjectedDiscriminator(0, 32, 3, heads='separable', augment=False, **SMALL)

@pytest.mark.parametrize('heads, count', [('standard', 10_331_328), ('separable', 696_512)])
def test_parameters(heads, count):
    D = ProjectedDiscriminator(0, 256, 3, heads=heads)
    assert sum(p.numel() for p in D.parameters()) == count and D.feature_resolution == 256
    assert not any(name.startswith('feature_network') for name, _ in D.named_parameters())
    assert D.requires_grad_(True).feature_network.scratch.layer0_ccm.weight.requires_grad is False

def test_logits(network):
    assert network(images(), None).shape == (4, 4)          # 1x1 for each head if the feature network sees 128 pixels
    for res, side, logits in ((64, 224, 64), (256, 256, 100), (300, 288, 4 * 36)):
        D = ProjectedDiscriminator(0, res, 1, heads='separable').eval()
        with torch.no_grad():
            assert D.feature_resolution == side and D(images(1, res, 1), None).shape == (1, logits)

def test_class_embeddings_have_the_number_of_classes():
    D = ProjectedDiscriminator(5, 32, 3, heads='separable', augment=False, **SMALL).eval()
    x, label = images(1), torch.eye(5)
    assert D.discriminator.mini_discs['0'].embed.weight.shape == (5, 128)
    with torch.no_grad():
        assert not torch.equal(D(x, label[:1]), D(x, label[1:2]))

@pytest.mark.parametrize('kwargs, words', [(dict(img_channels=4), 'not 4 channels'), (dict(heads='big'), 'not big'),
                                           (dict(feature_resolution=96), 'at least 128')])
def test_sizes_that_do_not_fit_are_refused(kwargs, words):
    with pytest.raises(ValueError, match=words):
        ProjectedDiscriminator(**{**dict(c_dim=0, img_resolution=32, img_channels=3), **kwargs})

def test_projections_depend_on_the_seed_only():
    torch.manual_seed(1)
    one = ProjectedDiscriminator(0, 64, 3).state_dict()
    torch.manual_seed(2)
    two, other = (ProjectedDiscriminator(0, 64, 3, seed=seed).state_dict() for seed in (0, 1))
    key = 'feature_network.scratch.layer2_csm.out_conv.weight'
    assert torch.equal(one[key], two[key]) and not torch.equal(one[key], other[key])

def test_the_public_order_of_operations(network):
    """The maps equal those of the order in the paper and its code: convolve, add, enlarge, convolve."""
    net, x = network.feature_network, images(2, 128)
    maps, y, expected = net.features.features(x), None, []
    for i in (3, 2, 1, 0):
        mix, fuse = getattr(net.scratch, f'layer{i}_ccm'), getattr(net.scratch, f'layer{i}_csm').out_conv
        z = F.conv2d(maps[i], mix.weight, mix.bias)
        z = F.interpolate(z if y is None else y + z, scale_factor=2, mode='bilinear', align_corners=True)
        y = F.conv2d(z, fuse.weight, fuse.bias)
        expected.insert(0, y)
    assert all((a - b).abs().max() < 1e-5 * b.abs().max() for a, b in zip(net(x), expected))

def test_parts_equal_separate_passes(network):
    one, two = copy.deepcopy(network).train(), copy.deepcopy(network).train()
    x = images(6)
    together = one(x, None, parts=2)
    apart = torch.cat([two(x[:3], None), two(x[3:], None)])
    assert (together - apart).abs().max() < 1e-5
    assert all((a - b).abs().max() < 1e-4 for a, b in zip(one.buffers(), two.buffers()))

@pytest.mark.parametrize('heads, layout', [('standard', torch.contiguous_format), ('separable', torch.channels_last)])
def test_heads_get_the_layout_that_is_fast_on_a_cpu(heads, layout):
    D = ProjectedDiscriminator(0, 32, 3, heads=heads, augment=False, **SMALL).eval()
    seen = []
    for head in D.discriminator.mini_discs.values():
        head.main[0].register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        maps = D.feature_network(D._prepared(images()))
        logits = [D.discriminator([y.contiguous(memory_format=given) for y in maps], None)
                  for given in (torch.contiguous_format, torch.channels_last)]
    assert len(seen) == 8 and all(x.is_contiguous(memory_format=layout) for x in seen)
    torch.testing.assert_close(*logits)

def test_no_graph_where_none_is_needed(network):
    """The phase of D differentiates only the heads, that of G only the images."""
    D = copy.deepcopy(network).requires_grad_(True)
    seen = []
    D.discriminator.register_forward_pre_hook(lambda module, args: seen.append(any(y.requires_grad for y in args[0])))
    D(images(), None).sum().backward()
    assert seen == [False] and all(p.grad is not None for p in D.parameters())
    D.zero_grad(set_to_none=True)
    x = images().requires_grad_()
    D.requires_grad_(False)(x, None).sum().backward()
    assert x.grad.abs().sum() > 0 and all(p.grad is None for p in D.parameters())

@pytest.mark.parametrize('dtype, bound', [(torch.float16, 0.1), (torch.bfloat16, 0.5)])
def test_maps_in_half_precision(network, dtype, bound):
    net, x = network.feature_network, images(2, 128)
    with torch.no_grad():
        rounded = net._project(net.features.features(x, dtype), dtype)
        assert all(m.dtype == dtype and (m.float() - y).norm() < bound * y.norm() for m, y in zip(rounded, net(x)))

#----------------------------------------------------------------------------

def test_diffaug_has_the_published_ranges():
    x = images(512, 8)
    y = color(x)
    gain = (y - y.mean(dim=[1, 2, 3], keepdim=True)).flatten(1).norm(dim=1)
    assert 0.5 < y.mean(dim=[1, 2, 3]).std() / (1 / 12) ** 0.5 < 1.5 and gain.max() / gain.min() > 3
    ones = translation_and_cutout(torch.ones([512, 1, 40, 40]))
    zeros = (ones == 0).sum(dim=[1, 2, 3])
    assert set(ones.unique().tolist()) == {0.0, 1.0} and zeros.min() >= 4 * 4 and zeros.max() <= 64 + 2 * 5 * 40
    position = torch.arange(1600.0).reshape(1, 1, 40, 40) + 1
    moved = translation_and_cutout(position, hole=0)
    row, column = (moved[0, 0, 20, 20] - 1) // 40 - 20, (moved[0, 0, 20, 20] - 1) % 40 - 20
    assert abs(row) <= 5 and abs(column) <= 5

def test_blur():
    spot = torch.zeros([1, 2, 41, 41])
    spot[:, :, 20, 20] = 1
    blurred = gaussian_blur(spot, 4.0)
    assert abs(float(blurred.sum()) - 2) < 1e-5 and abs(float(blurred[0, 0, 20, 24] / blurred[0, 0, 20, 20]) - 0.5) < 1e-5
    assert gaussian_blur(spot, 0) is spot

def test_heads_on_the_coarser_maps_alone(network):
    torch.manual_seed(0)
    D = ProjectedDiscriminator(0, 32, 3, heads='separable', augment=False, maps=3, **SMALL)
    assert list(D.discriminator.mini_discs) == ['1', '2', '3']
    missing, unexpected = D.load_state_dict(network.state_dict(), strict=False)
    assert not missing and all('.mini_discs.0.' in name for name in unexpected)
    with torch.no_grad():
        assert torch.allclose(D.eval()(images(), None), copy.deepcopy(network).eval()(images(), None)[:, 1:], atol=1e-5)
    for wrong in (0, 5):
        with pytest.raises(ValueError, match=f'not {wrong}'):
            ProjectedDiscriminator(0, 32, 3, maps=wrong, **SMALL)

#----------------------------------------------------------------------------
# The loss, with generators of every host's form.

class Mapping(torch.nn.Module):
    def forward(self, z, c):
        return z

class EmaMapping(Mapping):
    def forward(self, z, c, update_emas=False):
        self.updated = update_emas
        return z

class Synthesis(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn([8, 3 * 32 * 32]))

    def forward(self, ws, **layer_kwargs):
        assert not layer_kwargs
        return torch.tanh(ws @ self.weight).reshape(-1, 3, 32, 32)

class LabelSynthesis(Synthesis):
    def forward(self, ws, c, **unused):
        assert c is not None
        return super().forward(ws)

@pytest.fixture
def stats(monkeypatch):
    reported = {}
    module = types.ModuleType('torch_utils.training_stats')
    module.report = lambda name, value: reported.__setitem__(name, torch.as_tensor(value).detach())
    package = types.ModuleType('torch_utils')
    package.training_stats = module
    monkeypatch.setitem(sys.modules, 'torch_utils', package)
    monkeypatch.setitem(sys.modules, 'torch_utils.training_stats', module)
    return reported

@pytest.mark.parametrize('mapping, synthesis, separate', [(EmaMapping, Synthesis, False), (Mapping, Synthesis, True),
                                                          (EmaMapping, LabelSynthesis, False)])
def test_loss(network, stats, mapping, synthesis, separate):
    torch.manual_seed(0)
    D, G = copy.deepcopy(network).train().requires_grad_(False), torch.nn.Module()
    G.mapping, G.synthesis = mapping(), synthesis()
    G.requires_grad_(False)
    nets = dict(G_mapping=G.mapping, G_synthesis=G.synthesis) if separate else dict(G=G)
    loss = ProjectedHingeLoss('cpu', D=D, **nets)
    batch = dict(real_img=images(3), real_c=torch.zeros([3, 0]), gen_z=torch.randn([3, 8]), gen_c=torch.zeros([3, 0]), gain=2)
    extra = dict(sync=True) if separate else dict(cur_nimg=0)

    G.requires_grad_(True)
    before, twin = copy.deepcopy(D), copy.deepcopy(G)
    loss.accumulate_gradients(phase='Gboth', **batch, **extra)
    expected = -before(twin.synthesis(batch['gen_z'], **dict(c=1) if synthesis is LabelSynthesis else {}), None).mean() * 2
    expected.backward()
    assert torch.allclose(G.synthesis.weight.grad, twin.synthesis.weight.grad, rtol=1e-4, atol=1e-7)
    assert all(p.grad is None for p in D.parameters())

    G.requires_grad_(False)
    D.requires_grad_(True)
    G.synthesis.weight.grad, twin = None, copy.deepcopy(D)
    loss.accumulate_gradients(phase='Dmain', **batch, **extra)
    with torch.no_grad():
        fake = G.synthesis(batch['gen_z'], **dict(c=1) if synthesis is LabelSynthesis else {})
    (2 * (F.relu(1 + twin(fake, None)).mean() + F.relu(1 - twin(batch['real_img'], None)).mean())).backward()
    for (name, p), q in zip(D.named_parameters(), twin.parameters()):
        assert torch.allclose(p.grad, q.grad, rtol=1e-3, atol=1e-4 * float(q.grad.abs().max()) + 1e-6), name
    assert G.synthesis.weight.grad is None and {'Loss/G/loss', 'Loss/D/loss', 'Loss/signs/real', 'Loss/scores/fake'} <= set(stats)
    if mapping is EmaMapping:
        assert G.mapping.updated

    D.zero_grad(set_to_none=True)
    for phase in ('Greg', 'Dreg'):
        loss.accumulate_gradients(phase=phase, **batch, **extra)
    assert all(p.grad is None for p in D.parameters())

class KeyedMapping(torch.nn.Module):
    def forward(self, z, c):
        return torch.stack([z, z.sign()], dim=1)    # a style, then the key of a source image

class KeyedSynthesis(torch.nn.Module):
    num_ws = 1

    def __init__(self):
        super().__init__()
        weight = torch.randn([2, 8, 3 * 32 * 32]) * torch.tensor([0.02, 0.2])[:, None, None]
        self.weight, self.calls = torch.nn.Parameter(weight), []

    def forward(self, ws):
        self.calls.append(ws.detach())
        return torch.tanh(torch.einsum('nrw,rwp->np', ws, self.weight)).reshape(-1, 3, 32, 32)

def test_two_latents_at_one_source_differ(network, stats):
    torch.manual_seed(0)
    D, G = copy.deepcopy(network).requires_grad_(False), torch.nn.Module()
    G.mapping, G.synthesis = KeyedMapping(), KeyedSynthesis()
    loss, before = ProjectedHingeLoss('cpu', G=G, D=D, variety=0.5), copy.deepcopy(D)
    z, c = torch.randn([3, 8]), torch.zeros([3, 0])
    loss.accumulate_gradients('Gmain', images(3), c, z, c, gain=1, cur_nimg=0)
    ws, = G.synthesis.calls                     # one pass
    first, second = ws.chunk(2)
    assert len(ws) == 6 and torch.equal(first[:, 0], z) and torch.equal(first[:, 1], second[:, 1])
    assert not torch.equal(first[:, 0], second[:, 0])

    given, G.synthesis.weight.grad = G.synthesis.weight.grad, None
    x, y = G.synthesis(ws).chunk(2)
    between = torch.stack([(x[i] - x[i - 1]).norm() for i in range(3)]).mean().detach()
    ratio = torch.stack([(x[i] - y[i]).norm() for i in range(3)]) / between
    assert torch.allclose(stats['Loss/G/variety'], ratio, rtol=1e-4) and ratio.max() < 0.5
    (4 * F.relu(0.5 - ratio).mean() - before(x, c).mean()).backward()
    assert torch.allclose(given, G.synthesis.weight.grad, rtol=1e-3, atol=1e-6)

    optimizer = torch.optim.Adam(G.parameters(), lr=3e-3)       # against a D that sees no difference
    loss.run_D = lambda img, *args, **kwargs: 0 * img.mean(dim=[2, 3])
    for _ in range(60):
        optimizer.zero_grad()
        batch = dict(real_img=images(8), real_c=torch.zeros([8, 0]), gen_z=torch.randn([8, 8]), gen_c=torch.zeros([8, 0]))
        loss.accumulate_gradients('Gmain', **batch, gain=1, cur_nimg=0)
        optimizer.step()
    assert 0.4 < float(stats['Loss/G/variety'].mean()) < 0.7

def test_blur_fades(network):
    G = torch.nn.Module()
    G.mapping, G.synthesis = Mapping(), Synthesis()
    loss = ProjectedHingeLoss('cpu', G=G, D=network, blur_init_sigma=2, blur_fade_kimg=10)
    assert [loss.blur_sigma(nimg) for nimg in (0, 5000, 10000, 20000)] == [2, 1, 0, 0]
    assert ProjectedHingeLoss('cpu', G=G, D=network).blur_sigma(0) == 0

#----------------------------------------------------------------------------

OPEN = '''
import pickle, sys, torch
sys.path.insert(0, sys.argv[1])
class Forbidden:
    def find_spec(self, name, path=None, target=None):
        assert name.split('.')[0] not in ('spider_plugin', 'torch_utils_ext', 'timm'), name
sys.meta_path.insert(0, Forbidden())
torch.set_num_threads(1)
with open(sys.argv[2], 'rb') as f:
    data = pickle.load(f)
torch.save(data['D'].eval()(data['x'], None), sys.argv[3])
'''

def test_a_snapshot_opens_without_the_plugin(host, tmp_path):
    from spider_plugin.bundles import projected as bundle
    D = bundle.ProjectedDiscriminator(0, 32, 3, heads='separable', augment=False, **SMALL)
    D(images(), None).sum().backward()      # a pass in training, then the actions of hosts at a snapshot
    D, x = copy.deepcopy(D).eval().requires_grad_(False), images()
    (tmp_path / 'D.pkl').write_bytes(pickle.dumps({'D': D, 'x': x}))
    assert (tmp_path / 'D.pkl').stat().st_size < 8 << 20
    (tmp_path / 'open.py').write_text(OPEN)
    subprocess.run([sys.executable, 'open.py', str(resource_dir('reference_host')), 'D.pkl', 'out.pt'], cwd=tmp_path, check=True)
    assert torch.equal(torch.load(tmp_path / 'out.pt'), D(x, None))

def test_public_name(tmp_path):
    D = spider_plugin.ProjectedDiscriminator(0, 64, 3, backbone='random', heads='separable')
    assert isinstance(D, ProjectedDiscriminator) and D.feature_network.features.name == 'random'
    torch.save(D.state_dict(), tmp_path / 'D.pt')
    D.load_state_dict(torch.load(tmp_path / 'D.pt'))
    with pytest.raises(AttributeError):
        spider_plugin.Nonsense  # noqa: B018
