"""The edit that each option makes to a host's config, on plain dicts and a host that is made up."""

import copy
import json
import math
from types import SimpleNamespace

import click
import pytest
import torch

from spider_plugin import registry
from spider_plugin.errors import SpiderError
from spider_plugin.hosts.capabilities import Layers, Target
from spider_plugin.options import resume as resume_edit
from spider_plugin.options import table as config
from spider_plugin.options.dcgan import PRESET
from spider_plugin.options.dsc import check_resumed_dsc
from spider_plugin.options.generators import PluginGenerator
from spider_plugin.options.resume import Resumed
from spider_plugin.options.table import OPTIONS, all_options, apply_options
from spider_plugin.options.types import Option
from spider_plugin.portable.source.arguments import SpiderArguments
from spider_plugin.registry import mappings
from spider_plugin.snapshots.warm_start import fit_layers

#----------------------------------------------------------------------------

def host_config(**kwargs):
    c = dict(
        G_kwargs            = dict(class_name='training.networks_stylegan2.Generator', z_dim=512, w_dim=512,
                                   mapping_kwargs=dict(num_layers=8), channel_base=4096, channel_max=64),
        D_kwargs            = dict(class_name='training.networks_stylegan2.Discriminator', channel_base=4096,
                                   epilogue_kwargs=dict(mbstd_group_size=2)),
        G_opt_kwargs        = dict(class_name='torch.optim.Adam', betas=[0, 0.99], lr=0.002),
        D_opt_kwargs        = dict(class_name='torch.optim.Adam', betas=[0, 0.99], lr=0.005),
        loss_kwargs         = dict(class_name='training.loss.StyleGAN2Loss', r1_gamma=1.0, style_mixing_prob=0.9, pl_weight=2),
        training_set_kwargs = dict(path='target.zip', use_labels=False, resolution=16),
        G_reg_interval      = 4,
        metrics             = ['fid50k_full'],
    )
    return {**c, **kwargs}

LOSS_DEFAULTS = {'training.loss.StyleGAN2Loss': dict(style_mixing_prob=0, pl_weight=0)}

def host(resolution=16, channels=3, label_dim=0, constant_input=True, path='target.zip', z_dim=512, mapping=None):
    return SimpleNamespace(
        target     = Target(path, resolution, channels, label_dim),
        generator  = lambda: Layers(z_dim=z_dim, w_dim=512, num_ws=2 * int(math.log2(resolution)) - 2,
                                    constant_input=constant_input, mapping=mapping),
        local_file = lambda path: path,
    )

def edit(c=None, host=host(), given=(), cfg=None, **options):
    """(edited config, log lines); an option counts as given where it is named."""
    c = host_config() if c is None else c
    values = {option.key: option.default for option in all_options()} | options | {'cfg': cfg}
    host.loss_keyword = lambda name: (LOSS_DEFAULTS.get(c['loss_kwargs']['class_name'], {}) | c['loss_kwargs']).get(name)
    lines = apply_options(c, values, given=set(options) | set(given), host=host)
    return c, '\n'.join(lines)

def open_bank(spider):
    """The source that a config's `spider` names."""
    return SpiderArguments.read(spider).open()

@pytest.fixture(scope='module', autouse=True)
def target_in_this_directory(tmp_path_factory, make_zip):
    path = tmp_path_factory.mktemp('target')
    make_zip(path / 'target.zip', n=24, res=16, seed=6)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        yield

@pytest.fixture(scope='module')
def source(tmp_path_factory, make_zip):
    return make_zip(tmp_path_factory.mktemp('source') / 'flies.zip', n=40, res=32, seed=5)

#----------------------------------------------------------------------------

def test_nothing_given_changes_nothing():
    c, lines = edit()
    assert c == host_config() and lines == ''

def test_the_edit_is_what_the_option_says(source):
    c, lines = edit(spider_source=source, spider_noise=0.1, spider_embed=3)
    stock = host_config()
    spider = c['G_kwargs'].pop('spider')
    assert c['G_kwargs'].pop('class_name') == 'spider_plugin.bundles.spider_on_training__networks_stylegan2.SpiderGenerator'
    del stock['G_kwargs']['class_name']
    assert c['loss_kwargs'].pop('pl_weight') == pytest.approx(stock['loss_kwargs'].pop('pl_weight') * 7 / 6)
    assert c == stock # and nothing else
    prepared = spider.pop('source')
    assert spider == dict(mapping='residual', noise=0.1, embed=3, gain=1.0, learn_skip=True)
    bank = open_bank(dict(mapping='residual', source=prepared))
    assert (len(bank), bank.channels, bank.resolution) == (40, 3, 16) # the smaller of source and target
    assert json.loads(json.dumps(spider)) == spider
    for part in ('flies', '40 images', '16 x 16', 'unknown', 'residual', '40 of them, 0.0 MiB'):
        assert part in lines

@pytest.mark.parametrize(['kind', 'size'], [('residual', 16), ('paper-16x32', 32), ('paper-23x23', 32), ('encoder', 32),
                                            ('whitened', 32)])
def test_default_sizes(source, kind, size):
    c, _ = edit(spider_source=source, spider_mapping=kind)
    assert open_bank(c['G_kwargs']['spider']).resolution == size
    assert c['loss_kwargs']['pl_weight'] == pytest.approx(2 * 7 / 6 if kind == 'residual' else 2)

def test_every_mapping_is_registered():
    from spider_plugin.portable.source.mapping import MAPPING_INPUTS
    assert set(mappings) == {'residual', *MAPPING_INPUTS}

def test_size_bank_and_embed(source):
    c, lines = edit(spider_source=source, spider_size=8, spider_bank=10, spider_embed=0)
    bank = open_bank(c['G_kwargs']['spider'])
    assert (len(bank), bank.resolution) == (10, 8)
    assert 'none of them' in lines

@pytest.mark.parametrize('text, count', [('7', 7), ('100k', 100_000), ('2M', 2_000_000), ('online', 'online')])
def test_sizes_of_banks(text, count):
    assert next(option for option in OPTIONS if option.name == '--spider-bank').type.convert(text, None, None) == count

@pytest.mark.parametrize('mapping, match, moved', [('residual', None, True), ('residual', 'none', False),
                                                   ('encoder', None, False), ('encoder', 'covariance', True)])
def test_a_dataset_is_matched_with_the_target(source, mapping, match, moved):
    c, lines = edit(spider_source=source, spider_mapping=mapping, spider_match=match)
    plain, _ = edit(spider_source=source, spider_mapping=mapping, spider_match='none')
    assert ('moved to the mean and covariance of target' in lines) == moved
    bank, other = (open_bank(x['G_kwargs']['spider']) for x in (c, plain))
    assert torch.equal(bank.images, other.images) != moved

GROWING = host_config(ada_target=0.6, augment_kwargs={}, total_kimg=1000)

@pytest.mark.parametrize('options, learned', [
    (dict(),                                        True),
    (dict(cfg='dcgan', given=['cfg']),              True),
    (dict(spider_skip='fixed'),                     False),
    (dict(spider_mapping='encoder'),                False),
    (dict(cfg='pggan', given=['cfg'], c=GROWING),   False)])
def test_a_residual_learns_its_skip_unless_it_is_fixed(source, options, learned):
    c, _ = edit(spider_source=source, **copy.deepcopy(options))
    assert c['G_kwargs']['spider']['learn_skip'] == learned

@pytest.mark.parametrize('options, words', [(dict(cfg='pggan', given=['cfg'], c=GROWING), '--cfg=pggan'),
                                            (dict(spider_mapping='encoder'),   '--spider-mapping=encoder')])
def test_a_skip_is_learned_where_it_can_be(source, options, words):
    with pytest.raises(SpiderError, match=f'--spider-skip=learned cannot be used with {words}; leave it out'):
        edit(spider_source=source, spider_skip='learned', **copy.deepcopy(options))

def test_what_is_no_dataset_is_not_matched():
    assert 'moved' not in edit(spider_source='strokes', spider_bank=8)[1]
    with pytest.raises(SpiderError, match='--spider-match=covariance moves the images of a dataset, which strokes is not'):
        edit(spider_source='strokes', spider_match='covariance')

def test_procedural_sources_follow_the_target():
    c, _ = edit(host=host(channels=1), spider_source='noise', spider_bank=8)
    bank = open_bank(c['G_kwargs']['spider'])
    assert (bank.channels, bank.resolution) == (1, 16)

def test_the_target_as_its_own_source_is_allowed_and_named(source):
    assert 'Warning' in edit(host=host(path=source), spider_source=source)[1]
    assert 'Warning' not in edit(spider_source=source)[1]

def test_path_length_off_stays_off(source):
    c = host_config()
    c['loss_kwargs']['pl_weight'] = 0
    assert edit(c, spider_source=source)[0]['loss_kwargs']['pl_weight'] == 0
    c = host_config()
    del c['loss_kwargs']['pl_weight']
    assert 'pl_weight' not in edit(c, spider_source=source)[0]['loss_kwargs']

#----------------------------------------------------------------------------
# --cfg=dcgan

def test_dcgan_preset():
    c, _ = edit(cfg='dcgan', given=['cfg'])
    preset = PRESET
    assert c['G_kwargs'] == dict(class_name='spider_plugin.bundles.dcgan.DCGANGenerator', z_dim=preset['z_dim'])
    assert c['D_kwargs'] == dict(class_name='spider_plugin.bundles.dcgan.DCGANDiscriminator')
    assert (c['G_opt_kwargs']['lr'], c['D_opt_kwargs']['lr']) == (preset['glr'], preset['dlr'])
    assert c['G_opt_kwargs']['betas'] == c['D_opt_kwargs']['betas'] == preset['betas']
    assert (c['loss_kwargs']['style_mixing_prob'], c['loss_kwargs']['pl_weight'], c['G_reg_interval']) == (0, 0, None)
    assert c['loss_kwargs']['r1_gamma'] == 1.0

@pytest.mark.parametrize(['kind', 'z_dim'], [('paper-16x32', 512), ('paper-23x23', 512), ('encoder', PRESET['z_dim'])])
def test_dcgan_takes_vectors_of_the_source(source, kind, z_dim):
    c, _ = edit(cfg='dcgan', given=['cfg'], spider_source=source, spider_mapping=kind)
    assert (c['G_kwargs']['z_dim'], c['G_kwargs']['spider']['mapping']) == (z_dim, kind)

def test_dcgan_keeps_what_the_user_set(source):
    c, _ = edit(cfg='dcgan', given=['cfg', 'dlr', 'cbase', 'mbstd_group'], spider_source=source)
    assert c['D_opt_kwargs']['lr'] == 0.005 and c['G_opt_kwargs']['lr'] == PRESET['glr']
    assert c['G_kwargs']['channel_base'] == 4096 and 'channel_max' not in c['G_kwargs']
    assert c['D_kwargs']['mbstd_group_size'] == 2
    assert c['G_kwargs']['class_name'].endswith('DCGANGenerator')
    assert c['G_kwargs']['spider']['mapping'] == 'residual'

def test_dcgan_as_published(source):
    c, _ = edit(cfg='dcgan_paper', given=['cfg'], spider_source=source, spider_mapping='paper-23x23')
    assert c['G_kwargs']['class_name'] == 'spider_plugin.bundles.dcgan_paper.RadfordGenerator' and c['G_kwargs']['z_dim'] == 512
    assert c['G_opt_kwargs']['lr'] == c['D_opt_kwargs']['lr'] == 2e-4 and c['G_opt_kwargs']['betas'] == [0.5, 0.999]
    for options, words in ((dict(spider_source=source, spider_mapping='residual'),
                            'residual cannot be used with --cfg=dcgan_paper; use paper-16x32'),
                           (dict(given=['mbstd_group']), '--mbstd-group cannot be used with --cfg=dcgan_paper'),
                           (dict(host=host(resolution=256)), 'cannot draw .* not 256')):
        with pytest.raises(SpiderError, match=words):
            edit(**dict(dict(cfg='dcgan_paper', given=['cfg']), **options))

#----------------------------------------------------------------------------
# --cfg=pggan

def pggan(c=None, given=(), **options):
    c = host_config(ada_target=0.6, augment_kwargs={}, total_kimg=1000) | (c or {})
    return edit(c, cfg='pggan', given=['cfg', *given], **options)

def test_pggan_preset():
    c, lines = pggan(given=['cbase'])
    assert c['G_kwargs'] == dict(class_name='spider_plugin.bundles.pggan.PGGANGenerator', z_dim=512, channel_base=4096)
    assert c['D_kwargs'] == dict(class_name='spider_plugin.bundles.pggan.PGGANDiscriminator', channel_base=4096)
    assert c['G_opt_kwargs'] == c['D_opt_kwargs'] == dict(
        class_name='spider_plugin.training.progressive.StageAdam', betas=[0.0, 0.99], lr=1e-3,
        factors={'128': 1.5, '256': 2, '512': 3, '1024': 3})
    assert c['loss_kwargs'] == dict(class_name='spider_plugin.training.progressive.ProgressiveLoss', objective='wgan-gp',
                                    stage_kimg=800)
    assert c['D_reg_interval'] is None and c['G_reg_interval'] is None and 'augment_kwargs' not in c and 'ada_target' not in c
    assert '16^2 has faded in after 3200' in lines and 'Warning: --kimg=1000 ends before' in lines and '--pg-kimg=200' in lines
    assert 'Warning' not in pggan(pg_kimg=200)[1]
    assert json.loads(json.dumps(c)) == c

def test_pggan_with_the_hosts_regularisation_and_a_source(source):
    c, _ = pggan(pg_loss='nonsaturating', pg_kimg=10.0, spider_source=source, spider_mapping='paper-16x32')
    assert c['loss_kwargs']['r1_gamma'] == 1.0 and c['loss_kwargs']['stage_kimg'] == 10 and 'D_reg_interval' not in c
    assert c['ada_target'] == 0.6 and c['G_kwargs']['spider']['mapping'] == 'paper-16x32' and c['G_kwargs']['z_dim'] == 512

def test_pggan_keeps_augmentation_that_is_fixed():
    assert 'augment_kwargs' in pggan(dict(ada_target=None, augment_p=0.2), given=['aug'])[0]

def test_batches_of_stages():
    own, sizes = host(), dict(num_gpus=2, batch_gpu=8, batch_size=16)
    own.loop_takes = lambda name: name == 'batch_schedule'
    c, _ = pggan(sizes, host=own, pg_kimg=10.0, pg_batch=[(16, 8), (4, 32)])
    assert c['batch_schedule'] == [[0, 32], [30, 8]]
    for pairs, words in (([(12, 8)], '12.2 is no stage of --data; name some of 4, 8, 16'), ([(4, 3)], 'does not split'),
                         ([(4, 20)], 'does not split'), ([(4, 0)], 'does not split')):
        with pytest.raises(SpiderError, match=words):
            pggan(sizes, host=own, pg_batch=pairs)
    own.loop_takes = lambda name: False
    with pytest.raises(SpiderError, match='--pg-batch needs a training loop that can change its batch'):
        pggan(sizes, host=own, pg_batch=[(4, 32)])

def test_batches_of_a_resumed_run(monkeypatch, make_snapshot):
    monkeypatch.setattr(config, 'resume_from_what_fits', lambda c, options, host, resumed: [])
    own = host()
    own.loop_takes = lambda name: True
    sizes = dict(num_gpus=1, batch_gpu=8, batch_size=8, resume_pkl=make_snapshot(pggan=True))
    c, _ = pggan(sizes, host=own, pg_kimg=10.0, pg_batch=[(4, 32), (8, 16), (16, 8)])
    assert c['batch_schedule'] == [[0, 32], [0, 16], [0, 8]]        # it is fading in 16^2

@pytest.mark.parametrize(['kwargs', 'words'], [
    (dict(given=['aug']),                           '--aug=ada needs a discriminator whose sign'),
    (dict(given=['style_mixing']),                  '--style-mixing cannot be used with --cfg=pggan'),
    (dict(host=host(resolution=24)),                '--cfg=pggan cannot draw .* not 24'),
])
def test_pggan_one_sentence(kwargs, words):
    with pytest.raises(SpiderError, match=words):
        pggan(**kwargs)

def test_pggan_in_several_ranks_of_a_host_with_ddp():
    LOSS_DEFAULTS['training.loss.TwoNetworks'] = dict(style_mixing_prob=0, pl_weight=0, G_mapping=object)
    loss = dict(class_name='training.loss.TwoNetworks')
    pggan(dict(loss_kwargs=dict(loss), num_gpus=1), host=host())
    with pytest.raises(SpiderError, match='--gpus=1'):
        pggan(dict(loss_kwargs=dict(loss), num_gpus=2), host=host())

#----------------------------------------------------------------------------
# One sentence each.

@pytest.mark.parametrize(['options', 'words'], [
    (dict(spider_mapping='encoder'),                                    '--spider-mapping has no effect without'),
    (dict(trust_pickle=True),                                           '--trust-pickle has no effect without'),
    (dict(spider_source='missing.zip'),                                 'missing.zip does not exist'),
    (dict(spider_source='missing.pkl'),                                 'missing.pkl'),
    (dict(spider_source='SOURCE', spider_mapping='telepathy'),          '--spider-mapping=telepathy .*residual'),
    (dict(spider_source='SOURCE', spider_size=32),                      '--spider-size=32 is larger than the 16'),
    (dict(spider_source='SOURCE', spider_size=12),                      '--spider-size=12 is not a power of two'),
    (dict(spider_source='SOURCE', spider_size=4),                       'at least 8 pixels, not 4'),
    (dict(spider_source='SOURCE', spider_bank='online'),                '--spider-bank=online'),
    (dict(spider_source='SOURCE', host=host(channels=1)),               'flies.zip is colour, but grey'),
    (dict(spider_source='SOURCE', host=host(constant_input=False), spider_mapping='residual'), 'constant 4x4 input'),
    (dict(pg_kimg=5.0),                                                 '--pg-kimg has no effect without --cfg=pggan'),
    (dict(cfg='dcgan', given=['cfg'], pg_loss='wgan-gp'),               '--pg-loss has no effect without --cfg=pggan'),
    (dict(cfg='dcgan', host=host(resolution=8)),                        '--cfg=dcgan cannot draw .* not 8'),
    (dict(cfg='pggan', disc='projected', given=['disc']),               '--disc cannot be used with --cfg=pggan, whose disc'),
    (dict(cfg='dcgan', given=['map_depth']),                            '--map-depth cannot be used with --cfg=dcgan'),
])
def test_one_sentence(source, options, words):
    if options.get('spider_source') == 'SOURCE':
        options = {**options, 'spider_source': source}
    with pytest.raises(SpiderError, match=words) as caught:
        edit(**options)
    assert caught.value.exit_code == 2
    assert '\n' not in caught.value.message and caught.value.message.endswith('.')

def test_fastgan_gets_what_needs_no_styles(source):
    fastgan = host(constant_input=False, z_dim=256, mapping='DummyMapping')
    c, _ = edit(host=fastgan, spider_source=source, spider_mapping='encoder')
    assert c['G_kwargs']['class_name'].endswith('.mapped_on_training__networks_stylegan2__DummyMapping.SpiderGenerator')
    for kind, words in (('residual', 'use --spider-mapping=encoder'), ('paper-16x32', 'has 256; use --spider-mapping=encoder')):
        with pytest.raises(SpiderError, match=words):
            edit(host=fastgan, spider_source=source, spider_mapping=kind)

def test_path_length_of_the_loss_itself_is_compensated(source, monkeypatch):
    monkeypatch.setitem(LOSS_DEFAULTS['training.loss.StyleGAN2Loss'], 'pl_weight', 2)
    c = host_config()
    del c['loss_kwargs']['pl_weight']
    assert edit(c, spider_source=source)[0]['loss_kwargs']['pl_weight'] == pytest.approx(2 * 7 / 6)

@pytest.mark.parametrize('cfg', ['fastgan', 'fastgan_lite'])
def test_fastgan(cfg, source):
    c, _ = edit(cfg=cfg, given=['cfg'])
    assert c['G_kwargs'] == dict(class_name='spider_plugin.bundles.fastgan.FastGANGenerator', z_dim=256, ngf=128,
                                 lite=cfg == 'fastgan_lite')
    assert c['G_opt_kwargs']['lr'] == 2e-4 and c['D_opt_kwargs'] == host_config()['D_opt_kwargs'] # D is the host's own.
    assert c['loss_kwargs']['pl_weight'] == c['loss_kwargs']['style_mixing_prob'] == 0 and c['G_reg_interval'] is None
    c, _ = edit(cfg=cfg, given=['cfg', 'glr', 'cbase', 'cmax'], spider_source=source)
    assert (c['G_kwargs']['ngf'], c['G_kwargs']['channel_max'], c['G_opt_kwargs']['lr']) == (32, 64, 0.002)
    assert c['G_kwargs']['spider']['mapping'] == 'residual'

def test_fastgan_where_the_hosts_own_discriminator_is_projected():
    c = host_config(D_kwargs=dict(class_name='pg_modules.discriminator.ProjectedDiscriminator'),
                    loss_kwargs=dict(class_name='training.loss.ProjectedGANLoss'))
    c, _ = edit(c, cfg='fastgan', given=['cfg'])
    assert c['D_opt_kwargs']['lr'] == c['G_opt_kwargs']['lr'] == 2e-4
    assert c['loss_kwargs'] == dict(class_name='training.loss.ProjectedGANLoss')

@pytest.mark.parametrize(['arguments', 'words'], [
    (dict(given=['map_depth']),             '--map-depth cannot be used with --cfg=fastgan'),
    (dict(given=['style_mixing']),          '--style-mixing cannot be used with --cfg=fastgan'),
    (dict(host=host(resolution=8)),         '--cfg=fastgan cannot draw .* not 8'),
])
def test_fastgan_says_what_it_cannot_do(arguments, words):
    with pytest.raises(SpiderError, match=words):
        edit(cfg='fastgan', **arguments)

def test_dcgan_needs_the_loss_of_stylegan2():
    c = host_config(loss_kwargs=dict(class_name='training.loss.ProjectedGANLoss'))
    with pytest.raises(SpiderError, match='trains with training.loss.ProjectedGANLoss'):
        edit(c, cfg='dcgan')

def test_paper_needs_z_dim_512(source):
    with pytest.raises(SpiderError, match='z_dim 512.*64'):
        edit(host=host(z_dim=64), spider_source=source, spider_mapping='paper-16x32')

def test_corrupt_source(tmp_path):
    (tmp_path / 'bad.zip').write_bytes(b'PK\3\4 no zip at all')
    with pytest.raises(SpiderError, match='bad.zip'):
        edit(spider_source=str(tmp_path / 'bad.zip'))

def test_class_counts(tmp_path, make_zip):
    labelled = make_zip(tmp_path / 'labelled.zip', n=12, res=16, labels=3)
    edit(host=host(label_dim=0), spider_source=labelled)
    edit(host=host(label_dim=3), spider_source=labelled)
    with pytest.raises(SpiderError, match='The source has 3 classes, but --data has 5'):
        edit(host=host(label_dim=5), spider_source=labelled)

def test_classes_that_draw_from_others(tmp_path, make_zip):
    labelled = make_zip(tmp_path / 'labelled.zip', n=12, res=16, labels=[0, 1, 4] * 4)
    c, _ = edit(host=host(label_dim=4), spider_source=labelled, spider_classes=[(0, 4), (3, 1)])
    assert c['G_kwargs']['spider']['classes'] == [4, -1, -1, 1] and json.loads(json.dumps(c)) == c
    for pairs, own, words in (([(4, 0)], 4, '0 to 3'), ([(0, 2)], 4, 'no image of class 2; name one of its 3'),
                              ([(0, 0)], 0, 'pass --cond')):
        with pytest.raises(SpiderError, match=words):
            edit(host=host(label_dim=own), spider_source=labelled, spider_classes=pairs)
    plain = make_zip(tmp_path / 'plain.zip', n=12, res=16)
    with pytest.raises(SpiderError, match='--spider-source has none'):
        edit(host=host(label_dim=4), spider_source=plain, spider_classes=[(0, 0)])

def test_pairs_of_classes_are_read_from_the_command_line():
    convert = next(option.type for option in OPTIONS if option.key == 'spider_classes').convert
    assert convert('0:3, 1:5', None, None) == [(0, 3), (1, 5)]
    for text in ('', '0', '0:3,', '0:3;1:5', '0:3,0:4', 'a:1', '0:-1'):
        with pytest.raises(click.BadParameter):
            convert(text, None, None)

#----------------------------------------------------------------------------
# --resume, with snapshots that stand for themselves: what the restricted reader would say of them.

@pytest.fixture
def snapshot(monkeypatch):
    """Sets the `spider` argument and the source identity of the snapshot that --resume names, and what else it carries."""
    def say(spider, identity=None, **bank):
        resumed = Resumed('old.pkl', 'old.pkl', {}, SpiderArguments.read(spider), dict(bank, identity=identity))
        monkeypatch.setattr(config, 'read_resumed', lambda c, options, host: resumed)
        monkeypatch.setattr(config, 'resume_from_what_fits', lambda c, options, host, resumed: []) # There is no file.
    return say

def resume(source, **options):
    return edit(host_config(resume_pkl='old.pkl'), spider_source=source, **options)

def test_resume_of_a_stock_generator(source, snapshot):
    snapshot(None)
    c, lines = resume(source)
    assert c['G_kwargs']['spider']['gain'] == 0.0 and 'stock generator' in lines
    assert not c['G_kwargs']['spider']['learn_skip']
    assert resume(source, spider_skip='learned')[0]['G_kwargs']['spider']['learn_skip']
    c, lines = resume(source, spider_mapping='encoder')
    assert c['G_kwargs']['spider']['gain'] == 1.0 and 'stock generator' not in lines

@pytest.mark.parametrize('before', [True, False])
def test_a_resumed_skip_stays_what_it_was_unless_an_option_says_so(source, snapshot, before):
    c, _ = edit(spider_source=source)
    spider = copy.deepcopy(c['G_kwargs']['spider']) | {'learn_skip': before}
    snapshot(spider, open_bank(spider).identity)
    assert resume(source)[0]['G_kwargs']['spider']['learn_skip'] == before
    for option, learned in (('learned', True), ('fixed', False)):
        assert resume(source, spider_skip=option)[0]['G_kwargs']['spider']['learn_skip'] == learned

def test_resume_needs_the_same_source(source, snapshot):
    c, _ = edit(spider_source=source)
    spider = copy.deepcopy(c['G_kwargs']['spider']) | {'gain': 0.0}
    identity = open_bank(spider).identity
    snapshot(spider, identity)
    assert resume(source)[0]['G_kwargs']['spider']['gain'] == 0.0
    snapshot(spider, {**identity, 'sha256': 'f' * 64})
    with pytest.raises(SpiderError, match='old.pkl was trained with the source .*--spider-force'):
        resume(source)
    assert resume(source, spider_force=True)[0]['G_kwargs']['spider']['source'] == spider['source']
    snapshot(spider, identity)
    with pytest.raises(SpiderError, match='mapping residual, not encoder'):
        resume(source, spider_mapping='encoder', spider_size=16)

def carried(spider, **changed):
    """What a snapshot of a run with this `spider` argument carries of its bank."""
    return open_bank(spider | changed).__getstate__()

FOLLOWED = dict(spider_mapping='encoder', spider_noise=0.25, spider_embed=3)

def test_the_source_follows_its_snapshot(source, snapshot):
    before = edit(spider_source=source, **FOLLOWED)[0]['G_kwargs']['spider']
    snapshot(before, **carried(before))
    c, lines = resume(None)
    assert c['G_kwargs']['spider'] == before and c['G_kwargs']['class_name'].endswith('SpiderGenerator')
    assert 'Spider resume:       as in the snapshot, 40 images from the cache' in lines and 'Spider source:       flies' in lines
    assert resume(None, spider_noise=0.5)[0]['G_kwargs']['spider'] == before | {'noise': 0.5}
    assert resume(source)[0]['G_kwargs']['spider'] == before     # the same options need not be given again
    snapshot(before | dict(source=f'C:\\Users\\me\\{before["source"]}'), **carried(before))
    assert resume(None)[0]['G_kwargs']['spider'] == before       # earlier versions wrote the whole path
    with pytest.raises(SpiderError, match='mapping encoder, not residual; give that one, or pass --spider-force'):
        resume(None, spider_mapping='residual')
    with pytest.raises(SpiderError, match='--spider-size has no effect on the source of the snapshot in --resume'):
        resume(None, spider_size=8)

def test_a_generator_that_runs_for_every_batch_follows(snapshot, make_snapshot, tmp_path, monkeypatch):
    monkeypatch.setattr('spider_plugin.sources.prepare._DEFAULT_BANK', 24)
    parent = make_snapshot(dcgan=True)
    banked, online = (edit(spider_source=parent, spider_mapping='encoder', spider_bank=bank)[0]['G_kwargs']['spider']
                      for bank in (None, 'online'))
    assert banked['source'] != online['source']
    for before in (banked, online):
        snapshot(before, **carried(banked))
        c, lines = resume(None)
        assert c['G_kwargs']['spider'] == before
        assert ('the generator runs for every batch' in lines) == (before is online)
    monkeypatch.setenv('SPIDER_CACHE_DIR', str(tmp_path / 'other'))
    assert 'all 24 images that it was trained with; the generator that ran for every batch stays behind' in resume(None)[1]

def test_classes_and_skip_follow(snapshot, tmp_path, make_zip):
    own = host(label_dim=2)
    labelled = make_zip(tmp_path / 'labelled.zip', n=12, res=16, labels=3)
    before = edit(host=own, spider_source=labelled, spider_classes=[(0, 2)], spider_skip='fixed')[0]['G_kwargs']['spider']
    snapshot(before, **carried(before))
    assert resume(None, host=own)[0]['G_kwargs']['spider'] == before
    assert resume(labelled, host=own)[0]['G_kwargs']['spider'] == before
    with pytest.raises(SpiderError, match='source classes .2, -1., not .-1, 1.'):
        resume(labelled, host=own, spider_classes=[(1, 1)])

@pytest.mark.parametrize('changed, words', [
    (dict(embed=64),  'as in the snapshot, all 40 images that it was trained with'),
    (dict(embed=1),   'as in the snapshot, but only the 21 images that it carries go on, of 40; give --spider-source for all')])
def test_without_the_cache_the_images_of_the_snapshot_go_on(source, snapshot, tmp_path, monkeypatch, changed, words):
    large = host(resolution=128)
    before = edit(host=large, spider_source=source, spider_mapping='encoder', spider_size=128)[0]['G_kwargs']['spider']
    bank, images = carried(before, **changed), open_bank(before).images
    monkeypatch.setenv('SPIDER_CACHE_DIR', str(tmp_path / 'other'))
    snapshot(before, **bank)
    c, lines = resume(None, host=large)
    after = open_bank(c['G_kwargs']['spider'])
    assert words in lines and torch.equal(after.images, images[: len(bank['images'])]) and after.identity == bank['identity']
    assert resume(None, host=large)[0]['G_kwargs']['spider'] == c['G_kwargs']['spider']

def test_without_the_cache_and_images_the_source_is_asked_for(source, snapshot, tmp_path, monkeypatch):
    before = edit(spider_source=source)[0]['G_kwargs']['spider']
    snapshot(before, **carried(before, embed=0))
    assert resume(None)[0]['G_kwargs']['spider']['source'] == before['source']      # by its identity and mean
    monkeypatch.setenv('SPIDER_CACHE_DIR', str(tmp_path / 'other'))
    with pytest.raises(SpiderError, match='old.pkl carries no source images .*give --spider-source'):
        resume(None)

def test_a_snapshot_does_not_stand_in_for_a_dataset(source, snapshot):
    """Neither by the identity of one that is in the cache, nor by a path."""
    before = edit(spider_source=source)[0]['G_kwargs']['spider']
    honest = carried(before)
    snapshot(before, **honest | dict(images=255 - honest['images']))
    after = resume(None)[0]['G_kwargs']['spider']
    assert after['source'].startswith('carried/flies-') and torch.equal(open_bank(after).images, 255 - honest['images'])
    snapshot(before | dict(source=after['source']), **honest)
    assert resume(None)[0]['G_kwargs']['spider'] == before
    assert torch.equal(open_bank(edit(spider_source=source)[0]['G_kwargs']['spider']).images, honest['images'])

def test_every_generator_has_a_default_mapping(source):
    stylegan3, fastgan = host(constant_input=False), host(constant_input=False, z_dim=256, mapping='DummyMapping')
    for options, mapping in ((dict(), 'residual'), (dict(host=stylegan3), 'encoder'), (dict(host=fastgan), 'encoder'),
                             (dict(cfg='fastgan'), 'residual'), (dict(cfg='dcgan_paper'), 'paper-16x32')):
        given = ['cfg'] if 'cfg' in options else []
        assert edit(spider_source=source, given=given, **options)[0]['G_kwargs']['spider']['mapping'] == mapping

def test_a_followed_source_that_does_not_fit_is_refused_by_the_name_of_resume(source, snapshot):
    before = edit(spider_source=source)[0]['G_kwargs']['spider']
    snapshot(before, **carried(before))
    for options, words in ((dict(host=host(constant_input=False)), 'mapping residual of the snapshot in --resume needs a gener'),
                           (dict(host=host(channels=1)), 'old.pkl was trained with a source of 3 channels, but --data has 1')):
        with pytest.raises(SpiderError, match=words):
            resume(None, **options)

def test_resume_of_what_is_not_there(source):
    with pytest.raises(SpiderError, match='old.pkl'):
        resume(source)

#----------------------------------------------------------------------------
# --recompute

def test_recompute_builds_the_same_classes():
    import torch
    block = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3))
    network = torch.nn.Sequential(block)
    stock, made = host_config(), host()
    made.networks = lambda: dict(G=network, D=None)
    c, lines = edit(host=made, recompute=True)
    assert c['G_kwargs'] == dict(stock['G_kwargs'], class_name='spider_plugin.training.recompute.recomputing',
                                 recomputed_class=stock['G_kwargs']['class_name'])
    assert c['D_kwargs'] == stock['D_kwargs'] and '1 blocks of G and 0 of D' in lines
    made.networks = lambda: dict(G=torch.nn.Sequential(torch.nn.Linear(3, 3)), D=None)
    with pytest.raises(SpiderError, match='--recompute finds no block'):
        edit(host=made, recompute=True)

def test_separable_blocks_resume_as_they_were():
    was = dict(order='depthwise', rank=1, res=[0, 64])      # both, where an old snapshot says nothing
    c = dict(resume_pkl='a.pkl', G_kwargs=dict(dsc=dict(was, convs=[1])))
    check_resumed_dsc(c, dict(was, convs=[1]))
    check_resumed_dsc(c, None)
    with pytest.raises(SpiderError, match='--dsc-convs=both; pass that'):
        check_resumed_dsc(c, was)

#----------------------------------------------------------------------------
# Declarations of other packages: what is wrong with them is said before training.

class Built:
    """A generator as hosts read it."""

    z_dim = c_dim = img_resolution = img_channels = num_ws = mapping = synthesis = 1

@pytest.fixture
def foreign():
    """foreign(edit, **fields): --cfg=mine is a generator of another package."""
    registry.load_plugins()
    before = registry.generators.registered()
    yield lambda edit, **fields: registry.generators.register('mine')(PluginGenerator(edit, **fields))
    registry.generators.restore(before)

def host_with(network):
    made = host()
    made.network = lambda name: network()
    return made

def put(c, given, host):
    c['G_kwargs'] = dict(class_name='my_package.net.MyNet')

def drop_class(c, given, host):
    c['D_kwargs'] = dict(width=3)

def drop_part(c, given, host):
    del c['loss_kwargs']

def put_no_json(c, given, host):
    c['G_kwargs'] = dict(class_name='collections.OrderedDict', width=torch.zeros(1))

def put_another(c, given, host):
    c['G_kwargs'] = dict(class_name='my_package.net.OtherNet')

@pytest.mark.parametrize('edit_it, network, words', [
    (drop_class,            Built,          '--cfg=mine leaves D_kwargs without a class_name'),
    (drop_part,             Built,          '--cfg=mine leaves loss_kwargs without a class_name'),
    (put_no_json,           Built,          '--cfg=mine puts a value into G_kwargs that is no JSON'),
    (put_another,           Built,          '--cfg=mine puts a OtherNet into the config, but declares the generator MyNet'),
    (lambda c: None,        Built,          '--cfg=mine failed in the code of its package .TypeError: .*positional argument'),
    (lambda *_: {}['rate'], Built,          '--cfg=mine failed in the code of its package .KeyError: .*rate'),
    (put,                   lambda: 1 / 0,  '--cfg=mine failed in the code of its package .ZeroDivisionError'),
    (put,                   object,         '--cfg=mine makes a generator without z_dim, which hosts read'),
])
def test_an_edit_of_another_package_that_fails_is_one_sentence(foreign, edit_it, network, words):
    foreign(edit_it, module='my_package.net', generator='MyNet')
    with pytest.raises(SpiderError, match=words) as caught:
        edit(host=host_with(network), cfg='mine', given=['cfg'])
    assert '\n' not in caught.value.message and caught.value.message.endswith('.')

@pytest.mark.parametrize('warm_start, words', [
    (None,                              '--dsc cannot start from --resume=old.pkl, .*: --cfg=mine declares no way'),
    ('no_such_package.warm.fit',        '--cfg=mine failed in the code of its package .ModuleNotFoundError'),
    ('collections.no_such_function',    '--cfg=mine failed in the code of its package .AttributeError'),
])
def test_a_dense_snapshot_needs_a_warm_start(foreign, warm_start, words):
    foreign(put, dsc=True, warm_start=warm_start)
    with pytest.raises(SpiderError, match=words):
        resume_edit._fit('mine', dict(resume_pkl='old.pkl'), fresh_layers=True)

def test_without_fresh_layers_no_warm_start_is_needed(foreign):
    foreign(put, dsc=True)
    assert resume_edit._fit('mine', {}, fresh_layers=False)({'a': 1}, None) == ({'a': 1}, {})
    assert resume_edit._fit(None, {}, fresh_layers=True) is fit_layers

def test_a_warm_start_of_another_package_that_fails_is_one_sentence(foreign):
    foreign(put, dsc=True, warm_start='operator.truediv')
    with pytest.raises(SpiderError, match='--cfg=mine with --dsc and --resume failed in the code of its package .TypeError'):
        resume_edit._fit('mine', {}, fresh_layers=True)({}, None)

#----------------------------------------------------------------------------
# Options that a generator of another package brings.

WIDTH = Option('--mine-width', int, 3, 'INT', 'Width', 'Mine')

def put_width(c, given, host, mine_width):
    c['G_kwargs'] = dict(class_name='collections.OrderedDict', width=mine_width, given='mine_width' in given)

def test_an_option_that_a_generator_brings_reaches_its_edit(foreign):
    foreign(put_width, options=(WIDTH,))
    assert all_options() == [*OPTIONS, WIDTH]
    for options, kwargs in (({}, dict(width=3, given=False)), (dict(mine_width=5), dict(width=5, given=True))):
        c, _ = edit(host=host_with(Built), cfg='mine', given=['cfg'], **options)
        assert c['G_kwargs'] == dict(class_name='collections.OrderedDict', **kwargs)
    with pytest.raises(SpiderError, match='--mine-width has no effect without --cfg=mine; leave it out'):
        edit(cfg='dcgan', given=['cfg'], mine_width=5)

def test_two_generators_share_an_option(foreign):
    foreign(put_width, options=(WIDTH,))
    registry.generators.register('mine2')(PluginGenerator(put_width, options=(WIDTH,)))
    assert all_options() == [*OPTIONS, WIDTH]
    with pytest.raises(SpiderError, match='--mine-width has no effect without --cfg=mine or mine2'):
        edit(mine_width=5)

@pytest.mark.parametrize('options, words', [
    (7,                                                     'field options of .* is 7; .* tuple'),
    ((click.Option(['--mine-width']),),                     'hold <Option mine_width>; give an Option with a name'),
    ((Option('mine', int, 3, None, '', ''),),               'hold Option.*; give an Option with a name'),
    ((Option('--dsc', bool, False, None, '', ''),),         'option --dsc of .* has the name of an option of the plugin'),
    ((Option('--mine-width', str, '', None, '', ''),),      "--mine-width of .* the name of an option of the generator 'mine'"),
])
def test_options_that_clash_are_one_sentence(foreign, options, words):
    foreign(put_width, options=(WIDTH,))
    with pytest.raises(SpiderError, match=words):
        registry.generators.register('other')(PluginGenerator(put_width, options=options))
