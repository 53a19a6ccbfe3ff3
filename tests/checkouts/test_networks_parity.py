"""The reference host's networks against NVlabs/stylegan3's: numbers, signatures, and pickles both ways."""

import pytest
import torch

G2 = dict(class_name='training.networks_stylegan2.Generator', channel_base=128, channel_max=16)
G3_T = dict(class_name='training.networks_stylegan3.Generator', channel_base=128, channel_max=16, num_layers=6)
G3_R = dict(G3_T, channel_base=256, channel_max=32, conv_kernel=1, use_radial_filters=True)

CONFIGS = {
    # name: (c_dim, img_channels, resolution, G options, D options)
    'skip-resnet-rgb':      (0, 3, 16, dict(G2), dict()),
    'resnet-skip-labels':   (3, 1, 16, dict(G2, architecture='resnet', mapping_kwargs=dict(num_layers=2)),
                             dict(architecture='skip', epilogue_kwargs=dict(mbstd_num_channels=2, mbstd_group_size=2))),
    'orig-orig-32':         (0, 1, 32, dict(G2, architecture='orig', conv_clamp=None, mapping_kwargs=dict(num_layers=2)),
                             dict(architecture='orig', conv_clamp=None, block_kwargs=dict(freeze_layers=3))),
    'stylegan3-t-16':       (3, 3, 16, dict(G3_T), dict()),
    'stylegan3-t-32':       (0, 1, 32, dict(G3_T, mapping_kwargs=dict(num_layers=3), conv_clamp=7, filter_size=4), dict()),
    'stylegan3-r-16':       (0, 1, 16, dict(G3_R, num_critical=1, margin_size=7, conv_clamp=None), dict()),
    'stylegan3-r-32':       (3, 3, 32, dict(G3_R, output_scale=0.5), dict()),
}

def kwargs_of(name):
    c_dim, channels, res, G_options, D_options = CONFIGS[name]
    common = dict(c_dim=c_dim, img_resolution=res, img_channels=channels)
    return dict(G_kwargs=dict(z_dim=24, w_dim=20, **common, **G_options),
                D_kwargs=dict(class_name='training.networks_stylegan2.Discriminator', channel_base=128, channel_max=16,
                              **common, **D_options))

def variants_of(name):
    """Return the arguments of the calls of G.synthesis, in order."""
    options = [dict()] if name.startswith('stylegan3') else [dict(fused_modconv=False), dict(fused_modconv=True)]
    return [dict(option, noise_mode='const') for option in options]

def inputs_of(name, n=4):
    c_dim, channels, res, _, _ = CONFIGS[name]
    rng = torch.Generator().manual_seed(1)
    shapes = [n, 24], [n, c_dim], [n, channels, res, res], [n, channels, res, res], [n, 1]
    return [torch.randn(shape, generator=rng, dtype=torch.float64) for shape in shapes]

def error(a, b):
    """Return max |a - b| / max |b|; if b is zero, a must be zero."""
    assert a.shape == b.shape
    if b.numel() == 0:
        return 0.0
    a, b = a.double(), b.double()
    return float((a - b).abs().max() / b.abs().max()) if b.any() else float(a.any())

OUTPUTS = ('G.ws', 'G.img', 'G.truncated', 'G.updated', 'D.logits', '_avg', '_ema')

def errors(results, truth):
    """{'outputs', 'G', 'D' (first derivatives), 'path_length', 'r1' (second ones): largest error of any tensor}.

    Scalars (noise strengths) count as one tensor. Some of them are sums over all pixels that cancel, so that only rounding
    errors remain in either host."""
    assert results.keys() == truth.keys()
    worst = {}
    for kind, names in kinds(truth).items():
        scalars = [name for name in names if truth[name].ndim == 0]
        pairs = [(results[name], truth[name]) for name in names if name not in scalars]
        if scalars:
            pairs.append(tuple(torch.stack([found[name] for name in scalars]) for found in (results, truth)))
        worst[kind] = max(error(*pair) for pair in pairs)
    return worst

def kinds(names):
    found = {}
    for name in names:
        found.setdefault('outputs' if name.endswith(OUTPUTS) else name.split('.')[0], []).append(name)
    return found

LIMITS = dict(outputs=1e-8, G=1e-8, D=1e-8, path_length=1e-6, r1=1e-6)

#----------------------------------------------------------------------------

@pytest.mark.parametrize('config', CONFIGS)
def test_numbers_agree(run_in, stylegan3, reference_host, config):
    job = dict(kwargs_of(config), inputs=inputs_of(config), variants=variants_of(config))
    theirs, weights = run_in(stylegan3, 'evaluate', **job, lift_casts=True)
    ours, _ = run_in(reference_host, 'evaluate', **job, weights=weights)
    for i in range(len(job['variants'])):
        truth = ours[torch.float64, i]
        assert all(tensor.dtype == torch.float64 for tensor in [*truth.values(), *theirs[torch.float64, i].values()])
        exact = errors(theirs[torch.float64, i], truth)
        assert all(exact[kind] <= LIMITS[kind] for kind in LIMITS), exact

        mine, reference = errors(ours[torch.float32, i], truth), errors(theirs[torch.float32, i], truth)
        assert all(mine[kind] <= 2 * reference[kind] for kind in LIMITS), (mine, reference)

@pytest.mark.parametrize('module', ['networks_stylegan2', 'networks_stylegan3'])
def test_signatures_agree(run_in, stylegan3, reference_host, module):
    ours, theirs = (run_in(host, 'signatures', module=f'training.{module}') for host in [reference_host, stylegan3])
    assert 'Generator.__init__' in theirs and 'modulated_conv2d' in theirs
    assert {name: ours.get(name) for name in theirs} == theirs

@pytest.mark.parametrize('config', ['skip-resnet-rgb', 'resnet-skip-labels', 'stylegan3-t-16', 'stylegan3-r-32'])
@pytest.mark.parametrize('writer', ['ours', 'theirs'])
def test_pickles_open_in_the_other_host(run_in, stylegan3, reference_host, tmp_path, config, writer):
    write, read = (reference_host, stylegan3) if writer == 'ours' else (stylegan3, reference_host)
    path = str(tmp_path / 'network.pkl')
    written = run_in(write, 'save', path=path, seed=0, **kwargs_of(config))
    opened = run_in(read, 'generate', path=path)
    assert opened['kwargs'] == {'path': 'none'} and opened['init_kwargs'] == written['init_kwargs']
    assert error(opened['img'], written['img']) < 1e-5
    assert error(opened['logits'], written['logits']) < 1e-5
