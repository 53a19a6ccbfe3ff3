"""What --disc=projected makes of a host's config, and what it refuses."""

import json
import pickle
from types import SimpleNamespace

import click
import pytest

from spider_plugin.errors import SpiderError
from spider_plugin.hosts.capabilities import Host, Target
from spider_plugin.options.discriminator import apply_disc
from spider_plugin.options.table import OPTIONS

def config(**kwargs):
    return dict(
        G_kwargs       = dict(class_name='training.networks_stylegan2.Generator'),
        D_kwargs       = dict(class_name='training.networks_stylegan2.Discriminator', channel_base=4096),
        G_opt_kwargs   = dict(class_name='torch.optim.Adam', betas=[0, 0.99], lr=0.0025),
        D_opt_kwargs   = dict(class_name='torch.optim.Adam', betas=[0, 0.99], lr=0.005),
        loss_kwargs    = dict(class_name='training.loss.StyleGAN2Loss', r1_gamma=1.0, pl_weight=2),
        augment_kwargs = dict(class_name='training.augment.AugmentPipe'),
        ada_target     = 0.6,
        G_reg_interval = 4) | kwargs

def edit(c=None, given=(), channels=3, cfg=None, family='stylegan2', **options):
    c = config() if c is None else c
    values = {option.key: option.default for option in OPTIONS} | dict(disc='projected', disc_backbone='random') | options
    host = SimpleNamespace(generator_family=lambda: family, target=Target('x.zip', 64, channels, 0), local_file=lambda path: path,
                           generator_has=lambda *what: what == ('architecture', 'skip') and 'stylegan2' in str(c['G_kwargs']))
    return c, '\n'.join(apply_disc(c, values | {'cfg': cfg}, {*options, *given}, host))

def test_networks_rates_and_loss():
    c, lines = edit()
    assert c['D_kwargs'] == dict(class_name='spider_plugin.bundles.projected.ProjectedDiscriminator', backbone='random',
                                 weights=None, heads='separable', embed=True, precision='float16')
    assert c['loss_kwargs'] == dict(class_name='spider_plugin.training.hinge.ProjectedHingeLoss', blur_init_sigma=2.0,
                                    blur_fade_kimg=300)
    assert c['D_opt_kwargs'] == dict(class_name='torch.optim.Adam', betas=[0.0, 0.99], lr=2e-3)
    assert c['G_opt_kwargs']['lr'] == 0.0025 and c['G_reg_interval'] is None and c['D_reg_interval'] is None
    assert 'augment_kwargs' not in c and 'ada_target' not in c
    assert json.loads(json.dumps(c)) == c
    assert 'separable heads on random (random weights)' in lines and 'R1 (--gamma)' in lines and '2 pixels' in lines

@pytest.mark.parametrize('how', [dict(cfg='fastgan'), dict(cfg='fastgan_lite'), dict(family='fastgan')])
def test_fastgan_gets_standard_heads_and_no_blur(how):
    c, lines = edit(**how)
    assert c['D_kwargs']['heads'] == 'standard' and c['D_opt_kwargs']['lr'] == 2e-4 and c['D_opt_kwargs']['fused']
    assert c['loss_kwargs']['blur_init_sigma'] == 0 and 'D blur:              none' in lines

def test_what_the_user_says_wins():
    c, _ = edit(given=['dlr', 'aug', 'fp32'], disc_heads='standard', disc_blur=(5.0, None), disc_embed=False,
                disc_size=128)
    assert c['D_kwargs']['heads'] == 'standard' and not c['D_kwargs']['embed'] and c['D_kwargs']['precision'] == 'float32'
    assert c['D_opt_kwargs']['lr'] == 0.005 and c['loss_kwargs']['blur_init_sigma'] == 5 and c['ada_target'] == 0.6
    assert c['loss_kwargs']['blur_fade_kimg'] == 300 and c['D_kwargs']['feature_resolution'] == 128

def test_heads_on_fewer_maps():
    c, lines = edit(disc_maps=3)
    assert c['D_kwargs']['maps'] == 3 and 'separable heads on 3 of 4 maps of random' in lines
    assert 'maps' not in edit(disc_maps=4)[0]['D_kwargs'] and 'maps' not in edit()[0]['D_kwargs']

def test_the_blur_has_a_length():
    c, lines = edit(disc_blur=(1.5, 20.0))
    assert (c['loss_kwargs']['blur_init_sigma'], c['loss_kwargs']['blur_fade_kimg']) == (1.5, 20)
    assert '1.5 pixels, gone after 20 kimg' in lines
    for none in ((0.0, 20.0), (2.0, 0.0)):
        c, lines = edit(disc_blur=none)
        assert (c['loss_kwargs']['blur_init_sigma'], c['loss_kwargs']['blur_fade_kimg']) == (0, 0)
        assert 'D blur:              none' in lines
    option, = (option for option in OPTIONS if option.name == '--disc-blur')
    assert option.type.convert('2', None, None) == (2.0, None) and option.type.convert('.5:40', None, None) == (0.5, 40.0)
    assert option.type.convert(2, None, None) == (2.0, None)    # of a preset
    for wrong in ('-1', '2:', 'two', '2:3:4'):
        with pytest.raises(click.BadParameter, match='is not a blur'):
            option.type.convert(wrong, None, None)

def test_a_stylegan2_without_skip_connections():
    c, lines = edit(disc_skips=False)
    assert c['G_kwargs']['architecture'] == 'orig' and 'colours in its last block only' in lines
    nested = dict(class_name='training.networks_stylegan2.Generator', synthesis_kwargs=dict(channel_max=64))
    c, _ = edit(config(G_kwargs=nested), disc_skips=False)
    assert c['G_kwargs']['synthesis_kwargs'] == dict(channel_max=64, architecture='orig') and 'architecture' not in c['G_kwargs']
    c, _ = edit(disc_skips=True)
    assert 'architecture' not in c['G_kwargs']

def test_noaug_is_none_at_all():
    c, lines = edit({key: value for key, value in config().items() if key not in ('augment_kwargs', 'ada_target')}, given=['aug'])
    assert c['D_kwargs']['augment'] is False and 'D augmentation:      none' in lines

@pytest.mark.parametrize('cfg, found', [('stylegan2', True), ('stylegan3', False)])
def test_a_host_says_whether_its_generator_has_them(cfg, found, host_path):
    kwargs = dict(class_name=f'training.networks_{cfg}.Generator', z_dim=8, w_dim=8, channel_base=64, channel_max=8)
    host = Host(dict(G_kwargs=kwargs))
    host.target = Target('x.zip', 16, 3, 0)
    assert host.generator_has('architecture', 'skip') == found
    if found:
        kwargs['architecture'] = 'orig'
        assert not host.generator_has('architecture', 'skip')

@pytest.mark.parametrize('kwargs, words', [
    (dict(given=['pl_weight']), '--pl-weight has no effect with --disc=projected'),
    (dict(given=['freezed']), '--freezed has no effect'),
    (dict(channels=4), '4 channels'),
    (dict(disc='none-such'), '--disc=none-such is not a known discriminator; choose from projected'),
    (dict(disc_size=100), '--disc-size=100: .* give 128'),
    (dict(disc_size=250), 'give 256'),
    (dict(disc_skips=False, c=config(G_kwargs=dict(class_name='training.networks_stylegan3.Generator'))),
     '--disc-skips=false has no effect on training.networks_stylegan3.Generator'),
    (dict(disc=None), '--disc-backbone has no effect without --disc=projected'),
])
def test_refusals(kwargs, words):
    with pytest.raises(SpiderError, match=words) as caught:
        edit(**{'disc_backbone': 'random', **kwargs})
    assert '\n' not in caught.value.message

def test_nothing_happens_without_it():
    c = config()
    assert apply_disc(c, {option.key: option.default for option in OPTIONS}, set(), None) == [] and c == config()

def test_a_resumed_run_keeps_its_feature_network(tmp_path, host_path):
    from spider_plugin.bundles import projected as bundle
    D = bundle.ProjectedDiscriminator(0, 32, 3, heads='separable', feature_resolution=128)
    (tmp_path / 'snapshot.pkl').write_bytes(pickle.dumps(dict(D=D)))
    _, lines = edit(config(resume_pkl=f'{tmp_path}/snapshot.pkl'))
    assert 'D blur:              none' in lines
    D.feature_network.features.sha256 = 'f' * 64
    (tmp_path / 'other.pkl').write_bytes(pickle.dumps(dict(D=D)))
    with pytest.raises(SpiderError, match='feature network random .sha256 ffffffffffff., not random'):
        edit(config(resume_pkl=f'{tmp_path}/other.pkl'))
    edit(config(resume_pkl=f'{tmp_path}/other.pkl'), spider_force=True)

def test_a_resumed_run_keeps_its_skip_connections(tmp_path, host_path):
    from training.networks_stylegan2 import Generator
    for architecture in ('orig', 'skip'):
        G = Generator(z_dim=8, w_dim=8, c_dim=0, img_resolution=16, img_channels=3, channel_base=64, channel_max=8,
                      architecture=architecture)
        (tmp_path / f'{architecture}.pkl').write_bytes(pickle.dumps(dict(G_ema=G)))
    edit(config(resume_pkl=f'{tmp_path}/orig.pkl'), disc_skips=False)
    edit(config(resume_pkl=f'{tmp_path}/skip.pkl'))
    with pytest.raises(SpiderError, match='without skip connections .* give --disc-skips=false'):
        edit(config(resume_pkl=f'{tmp_path}/orig.pkl'))
    with pytest.raises(SpiderError, match='with skip connections .* give --disc-skips=true'):
        edit(config(resume_pkl=f'{tmp_path}/skip.pkl'), disc_skips=False)
    edit(config(resume_pkl=f'{tmp_path}/skip.pkl'), disc_skips=False, spider_force=True)

@pytest.fixture
def host_path():
    from spider_plugin.snapshots.families import add_host_to_path
    add_host_to_path()
