"""The attach path on the embedded host, by its scripts in separate processes."""

import json
import pathlib

import pytest
import torch

from spider_plugin.resources import resource_dir
from spider_plugin.snapshots.records import generator_record

HOST = resource_dir('reference_host')
ATTACH = json.loads((resource_dir('patches') / 'attach.json').read_text())

TINY = ['--cfg=stylegan2', '--gpus=1', '--batch=4', '--gamma=1', '--cbase=64', '--cmax=8', '--map-depth=1', '--threads=1',
        '--kimg=0.004', '--tick=0.004', '--snap=1']

@pytest.fixture(scope='module')
def data(tmp_path_factory, make_zip):
    """Directory with target.zip and neighbour.zip (colour, 16 and 32 pixels), grey.zip, labelled.zip, classes.zip."""
    path = tmp_path_factory.mktemp('data')
    make_zip(path / 'target.zip', n=16, res=16, labels=2)
    make_zip(path / 'neighbour.zip', n=24, res=32, seed=1)
    make_zip(path / 'grey.zip', n=8, res=16, channels=1)
    make_zip(path / 'classes.zip', n=12, res=16, labels=3)
    make_zip(path / 'broken.zip', n=4, res=16, extra={'00000/img00000002.png': b'not a png'})
    return path

#----------------------------------------------------------------------------

def test_the_attached_line_is_the_one_in_patches():
    for name in ATTACH['scripts']:
        lines = (HOST / name).read_text().splitlines()
        assert lines.count(ATTACH['line']) == 1
        where = lines.index(ATTACH['line'])
        assert lines[0].startswith('"""') and lines[where - 1].endswith('"""') # Right after the docstring.
    assert ATTACH['marker'] in ATTACH['line'] and '\n' not in ATTACH['line']
    mentions = [path.name for path in HOST.rglob('*.py') if 'spider_plugin' in path.read_text()]
    assert sorted(mentions) == sorted(ATTACH['scripts'])

# One process runs many command lines by click's test runner, because importing torch takes longer than all of them.

_MANY = '''
import json, sys
sys.path.insert(0, sys.argv[1])
from click.testing import CliRunner
import train
for args in json.loads(sys.argv[2]):
    result = CliRunner().invoke(train.main, args)
    error = None if result.exception is None else type(result.exception).__name__
    print(json.dumps([result.exit_code, result.output, error]))
'''

@pytest.fixture
def train_many(python, data):
    def run(*command_lines):
        result = python('-c', _MANY, HOST, json.dumps(command_lines), cwd=data)
        assert result.returncode == 0, result.stderr
        return [json.loads(line) for line in result.stdout.splitlines()]
    return run

def config(output):
    """The config that the host printed."""
    return json.loads(output[output.index('{\n') : output.index('\n}\n') + 2])

def test_printed_configs(train_many):
    dry = ['--outdir=runs', '--data=target.zip', *TINY, '-n']
    stock, spider, paper, cond, dcgan, dcgan_lr, gauss = [(config(text), text) for code, text, _ in train_many(
        dry,
        [*dry, '--spider-source=neighbour.zip'],
        [*dry, '--spider-source=neighbour.zip', '--spider-mapping=paper-23x23', '--spider-noise=0.2'],
        [*dry, '--spider-source=neighbour.zip', '--cond=1'],
        ['--cfg=dcgan' if arg.startswith('--cfg') else arg for arg in dry if 'map-depth' not in arg],
        ['--cfg=dcgan' if arg.startswith('--cfg') else arg for arg in dry if 'map-depth' not in arg] + ['--glr=0.5'],
        [*dry, '--spider-source=covariance:target.zip', '--spider-bank=20'],
    ) if code == 0]

    assert 'Spider' not in stock[1] and 'spider' not in json.dumps(stock[0])
    c, text = spider
    assert c['G_kwargs']['class_name'] == 'spider_plugin.bundles.spider_on_training__networks_stylegan2.SpiderGenerator'
    assert c['G_kwargs']['spider']['mapping'] == 'residual'
    assert c['loss_kwargs']['pl_weight'] == pytest.approx(stock[0]['loss_kwargs']['pl_weight'] * 7 / 6)
    for part in ('Spider source:       neighbour', '24 images', '16 x 16', 'Snapshots carry:     24 of them'):
        assert part in text
    assert paper[0]['G_kwargs']['spider']['noise'] == 0.2 and 'Spider resolution:   32 x 32' in paper[1]
    assert cond[0]['training_set_kwargs']['use_labels'] is True
    assert '20 images drawn' in gauss[1] and 'covariance of target' in gauss[1]

    assert dcgan[0]['G_kwargs']['class_name'] == 'spider_plugin.bundles.dcgan.DCGANGenerator'
    assert dcgan[0]['loss_kwargs']['r1_gamma'] == 1 and dcgan[0]['G_reg_interval'] is None
    assert dcgan_lr[0]['G_opt_kwargs']['lr'] == 0.5 and dcgan_lr[0]['D_opt_kwargs'] == dcgan[0]['D_opt_kwargs']
    assert dcgan[0]['run_dir'].endswith('00000-dcgan-target-gpus1-batch4-gamma1')
    rest = [{k: v for k, v in c.items() if k not in ('G_kwargs', 'D_kwargs', 'G_opt_kwargs', 'D_opt_kwargs', 'loss_kwargs',
                                                    'G_reg_interval', 'run_dir', 'spider_run')} for c in (stock[0], dcgan[0])]
    assert rest[0] == rest[1]

@pytest.mark.slow
def test_every_configuration_takes_a_source_without_a_mapping(train_many):
    dry = ['--outdir=runs', '--data=target.zip', *TINY, '-n', '--spider-source=neighbour.zip']
    cases = {'stylegan2': 'residual', 'stylegan3-t': 'encoder', 'stylegan3-r': 'encoder', 'dcgan': 'residual',
             'dcgan_paper': 'paper-16x32', 'pggan': 'residual', 'fastgan': 'residual'}
    plain = [arg for arg in dry if not arg.startswith(('--cfg', '--map-depth', '--mbstd-group', '--aug'))]
    for (cfg, mapping), (code, text, _) in zip(cases.items(), train_many(
            *[[*plain, f'--cfg={cfg}', '--aug=noaug'] for cfg in cases])):
        assert code == 0, (cfg, text)
        assert config(text)['G_kwargs']['spider']['mapping'] == mapping, cfg

def test_one_sentence_and_exit_code_2(train_many, data):
    dry = ['--outdir=runs', '--data=target.zip', *TINY]
    cases = [
        (['--spider-source=missing.zip'],                                   'missing.zip does not exist'),
        (['--spider-source=broken.zip'],                                    'img00000002.png in broken.zip'),
        (['--spider-source=grey.zip'],                                      'grey.zip is grey, but colour'),
        (['--spider-source=classes.zip', '--cond=1'],                       '3 classes, but --data has 2'),
        (['--spider-source=neighbour.zip', '--spider-size=24'],             '--spider-size=24'),
        (['--spider-source=neighbour.zip', '--spider-mapping=magic'],       '--spider-mapping=magic'),
        (['--spider-noise=1'],                                              'without --spider-source'),
        (['--spider-source=neighbour.zip', '--resume=target.zip'],          'target.zip is a zip of pictures, a dataset'),
    ]
    for (_, words), (code, text, error) in zip(cases, train_many(*[[*dry, *args] for args, _ in cases])):
        assert (code, error) == (2, 'SystemExit'), text
        sentence, = [line for line in text.splitlines() if line.startswith('Error: ')]
        assert words in sentence
    assert not (data / 'runs').exists()

#----------------------------------------------------------------------------

def only_run(outdir):
    """(run directory, its last snapshot) of the one run in outdir."""
    run, = outdir.iterdir()
    return run, sorted(run.glob('network-snapshot-*.pkl'))[-1]

def test_stock_runs_and_their_snapshots(python, data, train_many, tmp_path):
    args = ['--data=target.zip', *TINY, '--workers=0']
    attached = python(HOST / 'train.py', *args, f'--outdir={tmp_path / "attached"}', cwd=data)
    alone = python(HOST / 'train.py', *args, f'--outdir={tmp_path / "alone"}', cwd=data, plugin=False)
    assert attached.returncode == alone.returncode == 0, attached.stderr + alone.stderr
    assert attached.stderr == '' and alone.stderr == 'spider-plugin is not installed: going on without it\n'
    (run, snapshot), (other_run, other_snapshot) = [only_run(tmp_path / name) for name in ('attached', 'alone')]
    options = [json.loads((path / 'training_options.json').read_text()) for path in (run, other_run)]
    assert [c.pop('run_dir') for c in options] == [str(run), str(other_run)]
    assert options[0] == options[1]
    actual, others = [generator_record(path, key='G').state_dict() for path in (snapshot, other_snapshot)]
    assert list(actual) == list(others) and all(torch.equal(actual[name], others[name]) for name in actual)

    resume = [*args, f'--outdir={tmp_path / "resumed"}', f'--resume={snapshot}', '--glr=0', '--dlr=0']
    (code, text, _), (other_code, other_text, _) = train_many([*resume, '--spider-source=neighbour.zip'], [*resume, '-n'])
    assert other_code == 0 and config(other_text)['resume_pkl'] == str(snapshot) # The host resumes it.
    assert code == 0 and text.count('a stock generator') == 1
    assert config(text)['G_kwargs']['spider']['gain'] == 0.0

    # Tensors that fit are copied and reported once; the host reads a file that holds only those.
    converted = pathlib.Path(config(text)['resume_pkl'])
    assert converted.name == snapshot.name and converted != snapshot and b'module_src' not in converted.read_bytes()
    for network in ('G', 'D', 'G_ema'):
        assert text.count(f' {network}: ') == 1
    resumed = only_run(tmp_path / 'resumed')[1]
    for key in ('G', 'D'):
        before, after = (generator_record(path, key=key) for path in (snapshot, resumed))
        kept = [name for name, tensor in before.state_dict().items() if not name.endswith('w_avg')]
        assert len(kept) > 20 and all(torch.equal(before.state_dict()[name], after.state_dict()[name]) for name in kept)

@pytest.mark.slow
def test_train_and_score_with_a_toy_metric(python, data, toy_plugin, train_many, tmp_path):
    args = ['--data=target.zip', f'--outdir={tmp_path / "runs"}', *TINY, '--spider-source=neighbour.zip']
    result = python(HOST / 'train.py', *args, '--workers=2', '--metrics=toy', paths=[toy_plugin], cwd=data)
    assert result.returncode == 0, result.stderr
    run, snapshot = only_run(tmp_path / 'runs')
    saved = json.loads((run / 'training_options.json').read_text())
    assert saved['G_kwargs']['spider']['mapping'] == 'residual'
    assert saved == config(result.stdout)
    assert json.loads((run / 'metric-toy.jsonl').read_text().splitlines()[-1])['results'] == {'toy': 16.0}

    again = python(HOST / 'calc_metrics.py', f'--network={snapshot}', '--metrics=toy', paths=[toy_plugin], cwd=data)
    assert again.returncode == 0 and '"toy": 16.0' in again.stdout, again.stderr

    resume = [*args, f'--resume={snapshot}', '-n']
    bare = [arg for arg in resume if '--spider' not in arg]     # the source follows, whatever else is given
    for code, text, _ in train_many(bare, *[[*bare, option] for option in ('--recompute', '--dsc', '--glr=1', '--fast')]):
        assert code == 0 and config(text)['G_kwargs']['spider'] == saved['G_kwargs']['spider'], text
        assert text.count('Spider resume:       as in the snapshot, 24 images from the cache') == 1
        assert 'Spider source:       neighbour' in text and text.count('Resume from:') == 1
    same, other, forced, unknown = train_many(resume, [*resume, '--spider-source=target.zip'],
                                              [*resume, '--spider-source=target.zip', '--spider-force'],
                                              [*resume, '--metrics=toy'])
    assert same[0] == 0 and config(same[1])['G_kwargs']['spider'] == saved['G_kwargs']['spider']
    assert other[0] == 2 and 'was trained with the source neighbour' in other[1]
    assert forced[0] == 0
    assert unknown[0] == 2 and 'toy' in unknown[1] # without the package that brings it
