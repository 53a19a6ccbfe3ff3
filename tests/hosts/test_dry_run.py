"""The dry iteration, in forks that are made up for the test (forks.py)."""

import json
import os
import shutil
import subprocess
import sys
import types
import zipfile
from pathlib import Path

import forks
import pytest
import torch

from spider_plugin.errors import SpiderError
from spider_plugin.hosts import dry_run
from spider_plugin.hosts.dry_run import Result

FAULT = 'cannot be used in this host'

@pytest.fixture(scope='module')
def data(tmp_path_factory):
    import io

    import numpy as np
    import PIL.Image
    path = tmp_path_factory.mktemp('data') / 'images.zip'
    with zipfile.ZipFile(path, 'w') as archive:
        for i in range(8):
            file = io.BytesIO()
            PIL.Image.fromarray(np.random.RandomState(i).randint(0, 256, [64, 64, 3]).astype(np.uint8)).save(file, 'png')
            archive.writestr(f'{i}.png', file.getvalue())
    return path

@pytest.mark.slow
def test_a_host_that_serves_an_option_says_so(tmp_path, data):
    tree = forks.make(tmp_path, {})
    plain, off, spider, residual = forks.launches(tree, [
        ['--cfg=stylegan2'], ['--cfg=dcgan', '--spider-no-dry-run'], ['--cfg=stylegan2', '--spider-cfg=dcgan'],
        ['--cfg=stylegan2', '--spider-source=strokes', '--dsc', '--disc=projected', '--disc-backbone=random']], data, tmp_path)
    assert 'Dry iteration' not in plain + off and all('Dry run; exiting' in text for text in (plain, spider, off, residual))
    assert spider.count('Dry iteration:') == residual.count('Dry iteration:') == 1 and 'Note' not in spider + residual
    assert 'stylegan2-images-gpus1-batch4-gamma1-dcgan' in spider and 'DCGANGenerator' in spider

@pytest.mark.parametrize('mode', [pytest.param('auto', marks=pytest.mark.slow), 'require'])
def test_no_kernel_is_built_for_an_iteration(tmp_path, data, mode):
    """A build takes longer than an iteration may; nor are the CPU's kernels required for the iteration of a GPU's run."""
    tree = forks.make(tmp_path, {})
    dsc, = forks.launches(tree, [['--cfg=stylegan2', '--dsc', '--spider-cfg=fastgan']], data, tmp_path, TORCH_UTILS_EXT=mode,
                          SPIDER_CACHE_DIR=str(tmp_path / 'cache'))
    assert 'Dry iteration:' in dsc and not (tmp_path / 'cache' / 'kernels').exists()

@pytest.mark.slow
def test_the_loop_asks_the_generator_for_more(tmp_path, data):
    """An attribute that only the host's generator has; update_epochs is known, and has no effect on networks of the plugin."""
    asks = '    G.update_epochs(1.0)\n    print(G.epochs, G.ledger)\n' + forks.BUILT
    tree = forks.make(tmp_path, {
        'training/training_loop.py': [(forks.BUILT, asks)],
        'training/networks_stylegan2.py': [(forks.GENERATOR, '    ledger = 7\n\n    def update_epochs(self, epoch):\n'
                                            '        self.epochs = epoch\n\n' + forks.GENERATOR)]})
    no_source = tmp_path / 'no-source.zip'      # it would be refused when it is prepared, which is after the iteration
    no_source.write_bytes(b'PK\3\4')
    dcgan, both, before, spider = forks.launches(tree, [
        ['--cfg=dcgan'], ['--cfg=dcgan', '--spider-source=strokes'], ['--cfg=dcgan', f'--spider-source={no_source}'],
        ['--cfg=stylegan2', '--spider-source=strokes']], data, tmp_path)
    for text in (dcgan, both, before):
        assert f'Exception: --cfg=dcgan {FAULT}, whose training.networks_stylegan2.Generator it replaces: the host asks for ' \
               'ledger (training/training_loop.py, line ' in text
        assert 'which DCGANGenerator does not have; leave it out' in text and 'Dry run; exiting' not in text
    assert 'Dry iteration:' in spider and FAULT not in spider

def test_all_images_are_read_after_the_iteration(tmp_path, data):
    """Reading them takes minutes where there are many; a host that looks at its images by itself does so when it likes."""
    images = tmp_path / 'images.zip'
    shutil.copy(data, images)
    with zipfile.ZipFile(images, 'a') as archive:
        archive.writestr('9.png', b'')
    tree = forks.make(tmp_path, {
        'train.py': [('dataset.check_images(ranks.keep_waiting)', 'None')],
        'training/dataset.py': [('    def check_images(', '    _file_ext = None\n\n    def look_at_all(')],
        'training/training_loop.py': [(forks.BUILT, '    print(G.ledger)\n' + forks.BUILT)],
        'training/networks_stylegan2.py': [(forks.GENERATOR, '    ledger = 7\n\n' + forks.GENERATOR)]})
    refused, separable, spider = forks.launches(tree, [
        ['--cfg=dcgan'], ['--cfg=stylegan2', '--dsc'], ['--cfg=stylegan2', f'--spider-source={data}']], images, tmp_path)
    assert FAULT in refused and '9.png' not in refused
    for text in (separable, spider):
        assert text.index('Dry iteration:') < text.index(f'--data: 9.png in {images} cannot be read')
    assert 'Source:' not in spider      # nor is a source prepared for images that cannot be used

@pytest.mark.parametrize('value, served', [(14, True), pytest.param(15, False, marks=pytest.mark.slow)])
def test_layers_of_a_fork_take_more_and_synthesis_returns_more(tmp_path, data, value, served):
    """An argument that stays at its default is served. The image is the first of what synthesis returns."""
    tree = forks.make(tmp_path, {
        'training/networks_stylegan2.py': [
            ("fused_modconv=True, gain=1):", "fused_modconv=True, gain=1, num_layers=14):"),
            ("gain=gain, **layer_kwargs)", f"gain=gain, num_layers={value}, **layer_kwargs)"),
            ("next block's first layer.\n        return img", "next block's first layer.\n        return img, x"),
            ("return self.synthesis(ws, update_emas=update_emas, **synthesis_kwargs)",
             "return self.synthesis(ws, update_emas=update_emas, **synthesis_kwargs)[0]")],
        'training/loss.py': [("update_emas=update_emas), ws", "update_emas=update_emas)[0], ws")]})
    dsc, projected = forks.launches(tree, [['--cfg=stylegan2', '--dsc', '--spider-source=strokes'],
                                           ['--cfg=stylegan2', '--disc=projected', '--disc-backbone=random']], data, tmp_path)
    assert 'Dry iteration:' in projected and ('Dry iteration:' in dsc) == served
    assert served or f"a layer gets num_layers='{value}', which separable and fast layers do not serve" in dsc

def test_a_discriminator_that_returns_more(tmp_path, data):
    """The loss takes its result apart, where that of the plugin has one part only."""
    tree = forks.make(tmp_path, {
        'training/networks_stylegan2.py': [('return self.b4(x, img, cmap)', 'return self.b4(x, img, cmap), img')],
        'training/loss.py': [('return self.D(img, c, update_emas=update_emas)',
                              'logits, _rest = self.D(img, c, update_emas=update_emas)\n        return logits')]})
    dsc, dcgan = forks.launches(tree, [['--cfg=stylegan2', '--dsc'], ['--cfg=dcgan']], data, tmp_path)
    assert 'Dry iteration:' in dsc and f'--cfg=dcgan {FAULT}' in dcgan and 'too many values to unpack' in dcgan

def test_layers_that_are_no_convolutions_are_named(tmp_path, data):
    """As in generators by coordinates. The host builds them, so the sentence is not one about this machine."""
    matrix = [('weight.to(memory_format=_memory_format(channels_last))', 'weight[:, :, 0, 0]')]
    tree = forks.make(tmp_path, {'training/networks_stylegan2.py': matrix})
    dsc, = forks.launches(tree, [['--cfg=stylegan2', '--dsc']], data, tmp_path)
    assert 'Exception: --dsc cannot be used with training.networks_stylegan2.Generator, whose layers are built in another way ' \
           'than those of StyleGAN2 and StyleGAN3 (IndexError: ' in dsc and 'leave it out.' in dsc

@pytest.mark.parametrize('value, refused', [
    pytest.param('None, scale=1.5', False, marks=pytest.mark.slow), ('torch.nn.Linear(1, 1)', True)])
def test_the_loop_passes_its_loss_more(tmp_path, data, value, refused):
    """A setting of the host's loss is left out; a network that it trains is not."""
    tree = forks.make(tmp_path, {
        'training/training_loop.py': [(forks.LOSS_CALL, f'augment_pipe=networks.augment_pipe, cvD={value}, **loss_kwargs)'),
                                      ('cur_nimg=cur_nimg)', 'cur_nimg=cur_nimg, lambda_=1.0)')],
        'training/loss.py': [(forks.LOSS_ARGUMENT, forks.LOSS_ARGUMENT + '        cvD=None,\n        scale=1.0,\n'),
                             ('gen_c, gain, cur_nimg):', 'gen_c, gain, cur_nimg, lambda_=0):')]})
    projected, grown = forks.launches(tree, [['--cfg=stylegan2', '--disc=projected', '--disc-backbone=random'],
                                             ['--cfg=pggan', '--aug=noaug']], data, tmp_path)
    for text, loss in ((projected, 'ProjectedHingeLoss'), (grown, 'ProgressiveLoss')):
        assert (f'{FAULT}, whose training.networks_stylegan2.' in text) == refused == ('Dry iteration:' not in text)
        assert ('leaves out cvD, scale, which the host passes to its own' in text) == (not refused)
        assert (f'its loss gets a second discriminator, over feature networks (cvD, a Linear), which {loss} does not '
                'serve; leave it out' in text) == refused

def test_a_host_that_fails_by_itself_is_not_refused(tmp_path, data):
    """Nor is an option whose fault this machine has."""
    tree = forks.make(tmp_path, {'training/training_loop.py': [(forks.BUILT, '    int("x")\n' + forks.BUILT)]})
    broken, = forks.launches(tree, [['--cfg=dcgan']], data, tmp_path)
    assert 'Note: the dry iteration says nothing: this host\'s loop fails here without the options, too (ValueError: invalid ' \
           'literal' in broken and 'Dry run; exiting' in broken

@pytest.mark.parametrize('where, words', [
    ("    ranks.launch('training", 'its train.py adds tracker to the config after the options are applied, and the loop needs '
                                  'that'),
    ('def given_options', "this host's loop fails here without the options, too")])
def test_what_a_launch_adds_later_is_named(tmp_path, data, where, words):
    """Trackers, for example: the loop cannot run before, and training can."""
    adds = '    c.tracker = dict(name="a")\n' if where[0] == ' ' else 'def elsewhere(c):\n    c.tracker = 1\n\n'
    begins = '    device = setup_process(('
    tree = forks.make(tmp_path, {
        'train.py': [(where, adds + where)],
        'training/training_loop.py': [('    progress_fn             = None,', '    tracker = None,\n    progress_fn = None,'),
                                      (begins, '    print(tracker["name"])\n' + begins)]})
    dsc, = forks.launches(tree, [['--cfg=stylegan2', '--dsc']], data, tmp_path)
    assert f'Note: the dry iteration says nothing: {words} (TypeError: ' in dsc and 'Dry run; exiting' in dsc

def test_training_is_the_same_to_the_bit(tmp_path, data):
    digests = []
    for value in ('on', 'off'):
        env = os.environ | dict(PYTHONPATH=str(forks.ROOT), SPIDER_DRY_RUN=value)
        train = forks.ROOT / 'reference_host' / 'train.py'
        subprocess.run([sys.executable, '-m', 'spider_plugin.hosts.run', train, '--cfg=dcgan',
                        f'--outdir={tmp_path / value}', f'--data={data}', '--batch=4', '--gamma=1', '--cbase=64', '--cmax=8',
                        '--kimg=0.008', '--tick=0.004', '--snap=1', '--metrics=none', '--workers=0', '--threads=1'],
                       env=env, cwd=tmp_path, check=True, capture_output=True)
        run, = (tmp_path / value).iterdir()
        digests.append([(run / 'training_options.json').read_text().replace(f'/{value}/', '/'),
                        [{key: entry for key, entry in json.loads(line).items() if key.startswith(('Loss', 'Progress'))}
                         for line in (run / 'stats.jsonl').read_text().splitlines()]])
    assert digests[0] == digests[1]

#----------------------------------------------------------------------------
# What is made of a result, without a process.

CONFIG = dict(G_kwargs=dict(class_name='nets.G'), D_kwargs=dict(class_name='nets.D'))
HOST = types.SimpleNamespace(target=types.SimpleNamespace(resolution=64, channels=3, label_dim=0))

@pytest.fixture
def results(monkeypatch):
    """results(Result, ...): those of the iterations that are made, in turn; returns a list of (config, small) of each."""
    made, queue = [], []
    def iterate(c, target, small=True, stock=None):
        made.append((c, small))
        return queue.pop(0)
    monkeypatch.setattr(dry_run, 'iterate', iterate)
    monkeypatch.setattr(dry_run.Host, 'has_loop', staticmethod(lambda: True))
    monkeypatch.setenv('SPIDER_DRY_RUN', 'on')
    def plan(*planned):
        queue[:] = planned
        return made
    return plan

def _check(**options):
    options = dict.fromkeys(('cfg', 'disc', 'spider_source', 'dsc')) | options
    return dry_run.check({'edited': 1, 'D_kwargs': dict(class_name='plugin.A')}, CONFIG, options, {*options}, HOST)

@pytest.mark.parametrize('kind, message', [
    ('timeout', 'it took more than 120 seconds'), ('RuntimeError', 'No CUDA GPUs are available'), ('URLError', 'unreachable'),
    ('RuntimeError', '"conv" not implemented for \'Half\''), ('ModuleNotFoundError', 'No module named timm'),
    ('MemoryError', ''), ('exit', 'the process ended by -11'), ('RuntimeError', 'operator torchvision::nms does not exist')])
def test_the_environment_is_a_note(results, kind, message):
    made = results(Result(1.0, kind, message))
    line, = _check(cfg='dcgan')
    assert line.startswith('Note: the dry iteration says nothing: it cannot be made on this machine (') and len(made) == 1

def test_a_host_that_cannot_run_here_is_not_refused(results):
    fault = Result(1.0, 'AttributeError', "'A' object has no attribute 'b'")
    results(fault, Result(1.0, 'RuntimeError', 'Hugging Face hub is not installed'))
    line, = _check(disc='projected')
    assert line == ("Note: the dry iteration says nothing: it ends in AttributeError: 'A' object has no attribute 'b', but "
                    "this host's loop fails here without the options, too (RuntimeError: Hugging Face hub is not installed).")

@pytest.mark.parametrize('kind, message, what', [
    ('AttributeError', "'A' object has no attribute 'b'", 'the host asks for b (training/x.py, line 7), which A does not have'),
    ('TypeError', "A.__init__() got an unexpected keyword argument 'img_size'",
     'the host passes img_size (training/x.py, line 7), which A does not take'),
    ('TypeError', "A.__init__() missing 2 required positional arguments: 'c_dim' and 'img_channels'",
     'the host does not pass c_dim and img_channels (training/x.py, line 7), which A needs'),
    ('NotServed', 'its loss gets an encoder', 'its loss gets an encoder')])
def test_what_the_plugin_lacks_is_refused_where_the_host_itself_cannot_run(results, monkeypatch, kind, message, what):
    monkeypatch.setattr(dry_run, 'apply_options', lambda c, options, given, host: None)
    place = [str(Path(sys.path[0], 'training', 'x.py')), 7, 'f']
    fault, offline = Result(1.0, kind, message, [place], of_plugin=True), Result(1.0, 'URLError', 'unreachable')
    made = results(fault, offline, offline, fault)
    with pytest.raises(SpiderError) as error:
        _check(cfg='dcgan', disc='projected')
    part = 'G' if kind == 'NotServed' else 'D'
    assert error.value.message == (
        f'--cfg=dcgan cannot be used in this host, whose nets.{part} it replaces: {what}; leave it out, though this host '
        'fails here without it, too (URLError: unreachable) (--spider-no-dry-run launches all the same).') and len(made) == 4

@pytest.mark.parametrize('kind, message, said', [
    ('KeyError', "'progress'", "ends in KeyError: 'progress'"), ('AssertionError', '', 'ends in AssertionError'),
    ('ValueError', 'groups differ', 'ends in ValueError: groups differ'), ('AssertionError', 'assert x > 0', 'needs `x > 0`')])
def test_what_a_host_wants_of_a_snapshot(results, kind, message, said):
    """Forks read counters and optimizers of it; one that does without them trains from new networks."""
    place = [str(Path(sys.path[0], 'training', 'x.py')), 7, 'f']
    fault = Result(1.0, kind, message, [place])
    results(fault, fault, Result(1.0), Result(1.0))
    options = dict.fromkeys(('cfg', 'disc', 'dsc')) | dict(spider_source='x')
    c = dict(CONFIG, edited=1, resume_pkl='y.pkl')
    with pytest.raises(SpiderError) as error:
        dry_run.check(c, CONFIG, options, {*options}, HOST)
    assert error.value.message.startswith('--resume with --spider-source=x cannot be used in this host: one iteration of its '
                                          f'loop {said} (training')
    assert '(training/x.py, line 7), where it resumes; leave one of them out' in error.value.message
    assert c['resume_pkl'] == 'y.pkl'

def test_what_the_hosts_own_networks_lack_too_is_not_refused(results):
    """The control ends in the same, of another class."""
    results(Result(1.0, 'AttributeError', "'SpiderMapping' object has no attribute 'b'", of_plugin=True),
            Result(1.0, 'AttributeError', "'MappingNetwork' object has no attribute 'b'"))
    assert "this host's loop fails here without the options, too (AttributeError: 'MappingNetwork'" in _check(cfg='dcgan')[0]
    results(Result(1.0, 'AttributeError', "'SpiderMapping' object has no attribute 'b'", of_plugin=True),
            Result(1.0, 'AttributeError', "'MappingNetwork' object has no attribute 'c'"))
    with pytest.raises(SpiderError, match="asks for b.* though this host fails here without it, too .*'c'"):
        _check(cfg='dcgan')

def test_a_fault_of_small_networks_is_none(results):
    made = results(Result(1.0, 'RuntimeError', 'shape'), Result(2.0))
    assert _check(cfg='dcgan')[0].endswith('2.0 s') and [small for _, small in made] == [True, False]

def test_the_option_at_fault_is_found(results, monkeypatch):
    """Each is left out in turn, where the others can do without it."""
    def edit(c, options, given, host):
        if options['dsc']:
            raise SpiderError('needs the source')
        c['left'] = [key for key in options if options[key]]
    monkeypatch.setattr(dry_run, 'apply_options', edit)
    place = [str(Path(sys.path[0], 'training', 'x.py')), 7, 'f']
    fault = Result(1.0, 'AttributeError', "'A' object has no attribute 'b'", [place])
    made = results(fault, Result(1.0), fault, Result(1.0))
    with pytest.raises(SpiderError) as error:
        _check(cfg='dcgan', disc='projected', dsc=False)
    assert error.value.message == (
        '--disc=projected cannot be used in this host, whose nets.D it replaces: the host asks for b (training/x.py, line 7), '
        'which A does not have; leave it out, as the same iteration succeeds without it (--spider-no-dry-run launches all the '
        'same).')
    assert [c.get('left') for c, _ in made[2:]] == [['disc'], ['cfg']]

#----------------------------------------------------------------------------
# Before the source is prepared.

@pytest.fixture
def edits(monkeypatch):
    """The options that are applied to a config, in turn; each makes a config with `source`, what it is fed from."""
    made = []
    def edit(c, options, given, host):
        if options['spider_mapping'] == 'wrong':
            raise SpiderError('no such mapping')
        made.append((options, given))
        c['source'] = options['spider_source']
    monkeypatch.setattr(dry_run, 'apply_options', edit)
    return made

def _ahead(source=None, stock=CONFIG, host=HOST, **options):
    options = dict.fromkeys(('cfg', 'disc', 'dsc', 'spider_mapping', 'spider_classes', 'spider_bank', 'spider_size',
                             'spider_match')) | dict(spider_source=source) | options
    return dry_run.check_before_source(stock, options, {key for key in options if options[key] is not None}, host)

@pytest.fixture
def folder(tmp_path):
    (tmp_path / 'x.pkl').write_bytes(b'x')
    return str(tmp_path)

@pytest.mark.parametrize('source', ['{}', 'cifar10', 'cifar10:/elsewhere', 'https://example.org/set.zip', '{}/x.pkl'])
def test_noise_stands_in_for_a_source(source, results, edits, folder):
    made = results(Result(1.0))
    assert len(_ahead(source.format(folder), spider_size=64, spider_match='16')) == 1
    (options, given), = edits
    assert options['spider_source'] == 'noise' and options['spider_bank'] == 8 and options['spider_size'] is None
    assert made[0][0]['source'] == 'noise' and not given & {'spider_size', 'spider_match'}

@pytest.mark.parametrize('change', [
    dict(source='strokes'), dict(source='no-such-file.zip'), dict(source='no-such-file.pkl'), dict(source=None),
    dict(stock=CONFIG | dict(resume_pkl='x.pkl')), dict(spider_bank='online'), dict(spider_classes={0: 1}),
    dict(spider_mapping='wrong'),
    dict(host=types.SimpleNamespace(target=types.SimpleNamespace(resolution=64, channels=3, label_dim=2)))], ids=str)
def test_nothing_stands_in_where_it_would_say_less(change, results, edits, folder):
    made = results()
    assert _ahead(**dict(source=folder) | change) is None and not made and not edits

def test_the_sentence_names_the_source_of_the_user(results, edits, folder):
    fault = Result(1.0, 'AttributeError', "'A' object has no attribute 'b'")
    results(fault, Result(1.0))
    with pytest.raises(SpiderError, match=f'--spider-source={folder} cannot be used in this host'):
        _ahead(folder)

def test_a_snapshot_that_is_not_read_is_a_note(results):
    results(Result(1.0, snapshot='asks for nets.Other'))
    assert _check(cfg='dcgan')[1] == ('Note: the tools of the plugin will not read the snapshots of this run (asks for '
                                      'nets.Other).')

def test_the_place_is_where_the_host_asks():
    names = ('train.py', 'training/loop.py', 'dnnlib/util.py', 'torch_utils/persistence.py')
    frames = [[f'/host/{name}', 7, 'f'] for name in names]
    frames.append(['/torch/nn/module.py', 9, 'g'])
    assert Result(1.0, frames=frames).place('/host') == 'training/loop.py, line 7'
    assert Result(1.0, frames=frames[2:3]).place('/host') == 'dnnlib/util.py, line 7'
    assert Result(1.0, frames=frames).place('/other') == ''

def test_another_value_of_the_variable_is_refused(monkeypatch):
    monkeypatch.setenv('SPIDER_DRY_RUN', 'maybe')
    with pytest.raises(SpiderError, match='SPIDER_DRY_RUN=maybe is not a known value'):
        dry_run.check({}, {}, {}, set(), HOST)

def test_the_random_state_and_the_config_stay(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, 'path', [str(tmp_path), *sys.path])    # a host without a loop: the process fails, which is no matter
    c = dict(training_set_kwargs={}, G_kwargs=dict(class_name='nets.G', channel_max=512))
    state, before = torch.get_rng_state(), json.dumps(c)
    result = dry_run.iterate(c, dict(resolution=64, channels=3, label_dim=0))
    assert result.kind is not None and torch.equal(state, torch.get_rng_state()) and json.dumps(c) == before

@pytest.mark.parametrize('error', ['ImportError("hash.so: cannot open")', 'AssertionError()', 'RuntimeError("no CUDA device")',
                                   'KeyError("camera")', 'FileNotFoundError(2, "No such file", "table.npy")'])
def test_a_generator_that_cannot_be_built_is_a_sentence(monkeypatch, error):
    def fail(**kwargs):
        raise eval(error)
    nets = types.ModuleType('nets')
    nets.Generator = fail
    monkeypatch.setitem(sys.modules, 'nets', nets)
    host = dry_run.Host(dict(G_kwargs=dict(class_name='nets.Generator')))
    host.target = HOST.target
    for ask in (host.generator, host.networks, lambda: host.generator_has('a', 1)):
        with pytest.raises(SpiderError) as caught:
            ask()
        assert caught.value.message.startswith('The options of spider-plugin need a look at nets.Generator of this host, which '
                                               f'cannot be built here ({error.partition("(")[0]}: ')

def test_a_network_without_channels_is_built():
    from spider_plugin.hosts.capabilities import built
    def network(c_dim, **kwargs):
        return other(c_dim, **kwargs)
    def other(c_dim, img_resolution, width=3):
        return c_dim, img_resolution, width
    assert built(network, dict(width=5), dict(c_dim=1, img_resolution=64, img_channels=3)) == (1, 64, 5)
    with pytest.raises(TypeError, match='depth'):
        built(network, dict(depth=5), dict(c_dim=1, img_resolution=64, img_channels=3))

#----------------------------------------------------------------------------
