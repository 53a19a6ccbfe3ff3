"""Tools of hosts on snapshots of Spider generators, without a checkout: the modules of a host are made up."""

import importlib
import io
import sys
import types

import click
import pytest
import torch
from click.testing import CliRunner

from spider_plugin.errors import SpiderError
from spider_plugin.hosts import tools

@pytest.fixture(autouse=True)
def no_tool(monkeypatch):
    """Before and after each test, no tool is running; the reference host's modules count as not imported."""
    monkeypatch.setattr(tools, '_running', [])
    for name in (tools.SCRIPTS, 'training.training_loop'):
        monkeypatch.delitem(sys.modules, name, raising=False)

@pytest.fixture
def residual(make_generator, prepared, stirred):
    """A StyleGAN2 whose images depend on styles and on a source image."""
    return stirred(make_generator(prepared('bank'))).requires_grad_(False)

@pytest.fixture
def dcgan(host, prepared, stirred):
    """A DCGAN, whose images depend on the source image alone."""
    spider = dict(mapping='residual', source=prepared('bank', seed=1), embed=64)
    cls = importlib.import_module('spider_plugin.bundles.dcgan').DCGANGenerator
    return stirred(cls(z_dim=64, c_dim=0, img_resolution=16, img_channels=3, spider=spider).eval()).requires_grad_(False)

def z_of(count):
    return torch.randn([count, 64], generator=torch.Generator().manual_seed(0))

#----------------------------------------------------------------------------
# Loading.

def loader(G):
    """A host's legacy.py whose snapshot holds G."""
    def load_network_pkl(f, force_fp16=False):
        return dict(G=G, D=torch.nn.Linear(1, 1), G_ema=G)
    module = types.SimpleNamespace(load_network_pkl=load_network_pkl)
    tools.extend_loader(module)
    return module

def test_a_tool_gets_networks_that_can_be_interpolated(residual):
    z = z_of(2)
    first, other = residual(z, None, noise_mode='const').split(1)
    tools.note({'network_pkl': None, 'seeds': None})
    G = loader(residual).load_network_pkl(io.BytesIO())['G_ema']
    ws = G.mapping(z, None)
    frames = [G.synthesis(ws[:1].lerp(ws[1:], t), noise_mode='const') for t in (0.0, 0.5, 1.0)]
    assert torch.allclose(frames[0], first, atol=1e-5) and torch.allclose(frames[2], other, atol=1e-5)
    mean = G.synthesis(ws[:1, : G.synthesis.num_ws].lerp(ws[1:, : G.synthesis.num_ws], 0.5), noise_mode='const')
    assert (frames[1] - mean).abs().mean() > 0.1 * (first - other).abs().mean()

def test_what_is_no_tool_gets_the_network_as_it_is(residual, monkeypatch):
    loader(residual).load_network_pkl(io.BytesIO())         # train.py, calc_metrics.py
    assert not residual.mapping._forward_hooks
    tools.note({'network_pkl': None})
    monkeypatch.setitem(sys.modules, tools.SCRIPTS, types.ModuleType(tools.SCRIPTS))
    loader(residual).load_network_pkl(io.BytesIO())         # the reference host, which asks by itself
    assert not residual.mapping._forward_hooks

def test_a_loader_is_extended_once(residual):
    module = loader(residual)
    once = module.load_network_pkl
    tools.extend_loader(module)
    assert module.load_network_pkl is once
    tools.extend_loader(types.SimpleNamespace())            # a host without one

@pytest.mark.parametrize('kind', ['residual', 'dcgan'])
def test_a_projector_is_refused_when_it_loads_the_network(kind, request):
    tools.note({'network_pkl': None, 'target_fname': None})
    with pytest.raises(SpiderError, match='looks for w alone.*`spider project`, which looks for both'):
        loader(request.getfixturevalue(kind)).load_network_pkl(io.BytesIO())

def test_a_projector_of_a_stock_network_goes_on(host):
    G = host.Generator(z_dim=8, c_dim=0, w_dim=8, img_resolution=16, img_channels=3, channel_base=64, channel_max=8)
    tools.note({'network_pkl': None, 'target_fname': None})
    assert loader(G).load_network_pkl(io.BytesIO())['G_ema'] is G and not G.mapping._forward_hooks

@pytest.mark.parametrize('kind, wanted, words', [('residual', '0-3', None),
                                                 ('residual', '2-9', r'--styles: 9 is out of range; .* 0 to 5'),
                                                 ('dcgan', '0-6', 'one style for all layers.*`spider video`')])
def test_styles_that_do_not_exist_are_refused(kind, wanted, words, request):
    module = loader(request.getfixturevalue(kind))
    def numbers(text):
        first, last = text.split('-')
        return list(range(int(first), int(last) + 1))
    @click.command()
    @click.option('--styles', 'col_styles', type=numbers)
    def mix(col_styles):
        tools.note({'network_pkl': None, 'col_styles': None})
        module.load_network_pkl(io.BytesIO())
    result = CliRunner().invoke(mix, [f'--styles={wanted}'], standalone_mode=False)
    if words is None:
        assert result.exception is None
    else:
        with pytest.raises((SpiderError, click.ClickException), match=words):   # hosts/edge.py makes it click's
            raise result.exception

#----------------------------------------------------------------------------
# Path lengths.

def measure(G, **arguments):
    """A host's compute_ppl: the mean change of the images over a step in W, from ends that are drawn from z."""
    def compute_ppl(opts, num_samples, epsilon, space):
        z = z_of(2 * num_samples)
        w, other = opts.G.mapping(z, None).chunk(2)
        images = opts.G.synthesis(torch.cat([w, w.lerp(other, epsilon)]), noise_mode='const').chunk(2)
        return float((images[0] - images[1]).square().sum() / num_samples / epsilon ** 2)
    module = types.SimpleNamespace(compute_ppl=compute_ppl)
    tools.extend_path_length(module)
    with torch.no_grad():
        return module.compute_ppl(types.SimpleNamespace(G=G), **dict(num_samples=4, epsilon=1e-3, space='w') | arguments)

def test_paths_are_measured_at_one_source_image(residual):
    """The length does not depend on how small the step is; where the source image jumps, or is gone, it would."""
    long, short = (measure(residual, epsilon=epsilon) for epsilon in (1e-2, 1e-3))
    assert long > 1e-3 and short == pytest.approx(long, rel=0.2)
    assert not residual.mapping._forward_hooks
    z, rows = z_of(8), residual.synthesis.num_ws
    sources = residual.source.sample(z[:4])
    with torch.no_grad():
        w, other = residual.mapping(z, None)[:, :rows].chunk(2)
        a, b = (residual.synthesis(ws, noise_mode='const', source_image=sources) for ws in (w, w.lerp(other, 1e-2)))
    assert long == pytest.approx(float((a - b).square().sum() / 4 / 1e-4), rel=0.01)

def test_paths_that_do_not_exist_are_refused(residual, dcgan):
    with pytest.raises(SpiderError, match='no path in Z; ppl2_wend'):
        measure(residual, space='z')
    with pytest.raises(SpiderError, match='depend on the source image alone.*`spider video`'):
        measure(dcgan)

def test_a_stock_network_is_measured_in_any_space(host):
    G = host.Generator(z_dim=64, c_dim=0, w_dim=8, img_resolution=16, img_channels=3, channel_base=64, channel_max=8).eval()
    assert measure(G, space='z') == measure(G) > 0

def test_no_score_ends_a_run(dcgan, monkeypatch):
    monkeypatch.setitem(sys.modules, 'training.training_loop', types.ModuleType('training.training_loop'))
    with pytest.warns(UserWarning, match='depend on the source image alone'):
        assert measure(dcgan) != measure(dcgan)     # NaN

def test_the_reference_host_gets_what_it_asks_for(dcgan):
    def ppl2_wend(opts):
        pass
    def fid50k(opts):
        pass
    tools.check_metrics_of(types.SimpleNamespace(_metric_dict=dict(ppl2_wend=ppl2_wend, fid50k=fid50k)))
    assert not hasattr(fid50k, 'check_generator')
    with pytest.raises(SpiderError, match='leave the metric out'):
        ppl2_wend.check_generator(dcgan)
    utils, other = types.SimpleNamespace(rows_near=None, interpolable=None), types.SimpleNamespace()
    tools.give_functions(utils)
    tools.give_functions(other)
    assert utils.rows_near.__module__ == 'spider_plugin.generate.projection' and not vars(other)
    assert utils.interpolable.__module__ == 'spider_plugin.generate.interpolable'
