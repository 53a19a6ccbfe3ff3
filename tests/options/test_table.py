"""The edit that each option makes to a host's config."""

import copy
import json

import click
import pytest
import torch

from spider_plugin.errors import SpiderError
from spider_plugin.options import table as config
from spider_plugin.options.dcgan import PRESET
from spider_plugin.options.discriminator import HINGE
from spider_plugin.options.dsc import check_resumed_dsc
from spider_plugin.options.table import OPTIONS
from spider_plugin.registry import mappings
from spider_plugin.resources import resource_dir
from tests.options.edits import LOSS_DEFAULTS, edit, host, host_config, open_bank, resume

pytestmark = pytest.mark.usefixtures('target_in_this_directory')

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

@pytest.mark.parametrize('match, words', [(None, '1 x 1, since 80 images of each set'), ('auto', '1 x 1, since'), ('none', None),
                                          ('4', None), ('covariance', None)])
def test_the_strength_of_a_match_is_in_the_log_and_in_the_record(source, match, words):
    c, lines = edit(spider_source=source, spider_match=match)
    assert ('Spider match:' in lines) == (words is not None) and (words or '') in lines
    identity = open_bank(c['G_kwargs']['spider']).identity
    strength = {None: '1', 'auto': '1', '4': '4'}.get(match)
    assert identity.get('strength') == strength and ('match' in identity) == (match != 'none')
    assert identity['transform'].endswith(f'of target at {strength} x {strength} pixels') == (strength is not None)

@pytest.mark.parametrize('match', ['none', '8', '16'])
def test_a_resumed_source_keeps_its_strength(source, match, snapshot):
    """Where --spider-source is given again, the default chooses nothing anew."""
    before, _ = edit(spider_source=source, spider_match=match)
    spider = before['G_kwargs']['spider']
    snapshot(spider, open_bank(spider).identity)
    c, lines = resume(source)
    assert 'as in the snapshot' in lines and c['G_kwargs']['spider']['source'] == spider['source']

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
    with pytest.raises(SpiderError, match='--spider-match moves the images of a dataset, which strokes is not'):
        edit(spider_source='strokes', spider_match='covariance')

def test_procedural_sources_follow_the_target():
    c, _ = edit(host=host(channels=1), spider_source='noise', spider_bank=8)
    bank = open_bank(c['G_kwargs']['spider'])
    assert (bank.channels, bank.resolution) == (1, 16)

def test_the_target_as_its_own_source_is_allowed_and_named(source):
    assert 'Warning' in edit(host=host(path=source), spider_source=source)[1]
    assert 'Warning' not in edit(spider_source=source)[1]

def test_variety_is_a_part_of_the_projected_loss(source):
    projected = dict(spider_source=source, disc='projected', disc_backbone='random', cfg='fastgan_lite')
    c, lines = edit(host_config(batch_gpu=4), **projected, spider_variety=0.25)
    assert c['loss_kwargs']['class_name'] == HINGE and c['loss_kwargs']['variety'] == 0.25
    assert 'Spider variety:      another latent changes an image by at least 0.25' in lines
    c, lines = edit(**projected)
    assert 'variety' not in c['loss_kwargs'] and 'Spider variety' not in lines

def test_path_length_off_stays_off(source):
    c = host_config()
    c['loss_kwargs']['pl_weight'] = 0
    assert edit(c, spider_source=source)[0]['loss_kwargs']['pl_weight'] == 0
    c = host_config()
    del c['loss_kwargs']['pl_weight']
    assert 'pl_weight' not in edit(c, spider_source=source)[0]['loss_kwargs']

@pytest.mark.parametrize('kind, interval, weight, refused',
                         [('residual', None, 2, True), ('residual', 4, 2, False), ('residual', None, 0, False),
                          ('paper-16x32', None, 2, False)])
def test_path_lengths_in_every_iteration_would_stop_a_fresh_residual(source, kind, interval, weight, refused):
    c = dict(host_config(), G_reg_interval=interval)
    c['loss_kwargs']['pl_weight'] = weight
    if not refused:
        assert edit(c, spider_source=source, spider_mapping=kind)[0]['G_reg_interval'] == interval
        return
    with pytest.raises(SpiderError, match=r'^--spider-mapping=residual starts .* \(G_reg_interval is None\)'):
        edit(c, spider_source=source, spider_mapping=kind)

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
    (dict(spider_variety=0.5),                                          '--spider-variety has no effect without'),
    (dict(spider_source='SOURCE', spider_variety=0.5),                  'variety=0.5 needs the loss of --disc=projected'),
    (dict(spider_source='SOURCE', spider_variety=0.5, spider_mapping='encoder'), 'needs a latent .*=encoder'),
    (dict(spider_source='SOURCE', spider_variety=0.5, cfg='dcgan'),     'no effect on --cfg=dcgan, whose residual draws'),
    (dict(spider_source='SOURCE', spider_variety=0.5, c=host_config(loss_kwargs=dict(class_name=HINGE), batch_gpu=1)),
     '--batch-gpu=1 leaves one; give 2 or more'),
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

def test_fast_layers_go_into_both_networks(monkeypatch):
    monkeypatch.syspath_prepend(str(resource_dir('reference_host')))
    bundle = 'spider_plugin.bundles.{}_on_training__networks_stylegan2.{}'
    c, log = edit(fast=True)
    assert c['G_kwargs']['class_name'] == bundle.format('fast', 'FastGenerator')
    assert c['D_kwargs']['class_name'] == bundle.format('fastdisc', 'FastDiscriminator') and 'D convolves by kernels' in log
    assert all(c[f'{network}_opt_kwargs'] == dict(host_config()[f'{network}_opt_kwargs'], fused=True) for network in 'GD')

@pytest.mark.parametrize('class_name', ['training.networks_stylegan3.Discriminator', 'training.dataset.Discriminator',
                                        'nowhere.Net'])
def test_another_discriminator_stays_as_it_is(class_name):
    c, log = edit(host_config(D_kwargs=dict(class_name=class_name)), fast=True)
    assert c['D_kwargs']['class_name'] == class_name and f'D stays as it is: {class_name} does not' in log

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
