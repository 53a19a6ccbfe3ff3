"""Training in attached checkouts on the CPU, by their scripts, stock and with --spider-source, on one rank and on two; then the
hosts' tools on the results. training_harness.py records values inside the run."""

import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch

from spider_plugin.report.command import write_report
from spider_plugin.snapshots.rebuild import load_generator
from spider_plugin.snapshots.records import generator_record

HERE = Path(__file__).parent

TICKS = dict(total_kimg=0.016, kimg_per_tick=0.008, image_snapshot_ticks=1, network_snapshot_ticks=1)
SMALL = ['--cbase=256', '--cmax=16']
SG3 = ['--gamma=1', '--mbstd-group=2', *SMALL]
ADA = {'G_kwargs.mapping_kwargs.num_layers': 2, 'G_kwargs.synthesis_kwargs.channel_base': 256, 'D_kwargs.channel_base': 256,
       'G_kwargs.synthesis_kwargs.channel_max': 16, 'D_kwargs.channel_max': 16}

# host: its checkout; args and config: how it becomes tiny; mapping: what --spider-mapping it is trained with; resolution: of the
# target; needs: packages that the host wants.

def case(host, args, config=None, mapping='residual', resolution=16, needs=('psutil',)):
    return dict(host=host, args=args, config={**TICKS, **(config or {})}, mapping=mapping, resolution=resolution, needs=needs)

PG = ('psutil', 'timm', 'dill')
CASES = {
    'stylegan3-stylegan2':      case('stylegan3', ['--cfg=stylegan2', '--map-depth=2', *SG3]),
    'stylegan3-t':              case('stylegan3', ['--cfg=stylegan3-t', *SG3], mapping='encoder'),
    'stylegan3-r':              case('stylegan3', ['--cfg=stylegan3-r', *SG3], mapping='encoder'),
    'stylegan2-ada-pytorch':    case('stylegan2-ada-pytorch', ['--cfg=auto'], ADA),
    'projected-gan-stylegan2':  case('projected-gan', ['--cfg=stylegan2', *SMALL], needs=PG),
    'projected-gan-fastgan':    case('projected-gan', ['--cfg=fastgan'], {'G_kwargs.ngf': 8}, 'encoder', 128, needs=PG),
}
OWN_SIZES = {f'{network}_kwargs.channel_{size}': value for network in 'GD' for size, value in (('base', 128), ('max', 8))}
GROWING = {**OWN_SIZES, 'total_kimg': 0.04}     # two iterations to each of five phases
OWN = {     # plugin generators in place of the host's
    'dcgan-in-stylegan3':   case('stylegan3', ['--cfg=dcgan', '--gamma=1', '--cond=1', '--mbstd-group=2'], OWN_SIZES),
    'pggan-in-stylegan3':   case('stylegan3', ['--cfg=pggan', '--gamma=1', '--mbstd-group=2', '--pg-kimg=0.008'], GROWING),
    'dcgan-in-ada':         case('stylegan2-ada-pytorch', ['--cfg=dcgan'], OWN_SIZES),
    'pggan-in-ada':         case('stylegan2-ada-pytorch', ['--cfg=pggan', '--pg-kimg=0.008', '--pg-loss=nonsaturating'], GROWING),
}
TWO_RANKS = ['stylegan3-stylegan2', 'stylegan2-ada-pytorch', 'projected-gan-stylegan2']

#----------------------------------------------------------------------------

@pytest.fixture(scope='module')
def data(tmp_path_factory, make_zip):
    path = tmp_path_factory.mktemp('data')
    for res in (16, 128):
        make_zip(path / f'D{res}.zip', n=24, res=res, labels=2 if res == 16 else None, seed=1)
    make_zip(path / 'S.zip', n=40, res=32, seed=2)
    make_zip(path / 'other.zip', n=40, res=32, seed=3)
    return path

@pytest.fixture(scope='module')
def trained(train_attached, data):
    """trained(case, *options, ranks=1, config=None), each run once; see train_attached."""
    runs = {}
    def train(name, *options, ranks=1, config=None):
        if (name, options, ranks) not in runs:
            what = (CASES | OWN)[name]
            runs[name, options, ranks] = train_attached(
                what['host'], f'{data}/D{what["resolution"]}.zip', *what['args'], *options, ranks=ranks, needs=what['needs'],
                config=what['config'] | (config or {}))
        return runs[name, options, ranks]
    return train

@pytest.fixture(scope='module')
def spider(trained, data):
    """trained, with a source."""
    return lambda name, ranks=1: trained(name, f'--spider-source={data}/S.zip', f'--spider-mapping={CASES[name]["mapping"]}',
                                         ranks=ranks)

def snapshot(run_dir):
    return sorted(run_dir.glob('network-snapshot*.pkl'))[-1]

#----------------------------------------------------------------------------

def ticks(run_dir):
    return [json.loads(line)['Progress/tick']['mean'] for line in (run_dir / 'stats.jsonl').read_text().splitlines()]

@pytest.mark.parametrize('name', CASES)
def test_stock_training(name, trained):
    run_dir, (rank,), out, err = trained(name)
    assert ticks(run_dir) == [0, 1, 2] and rank['finite']
    assert rank['class_name'] == 'Generator' and not rank['uses'] and 'Spider' not in out
    shims = [line.split()[2].rstrip(':') for line in err.splitlines() if line.startswith('spider-plugin: shim')]
    assert len(shims) == len(set(shims)) and 'sampler' in shims     # each in one line of the parent

@pytest.mark.parametrize('name', CASES)
def test_spider_training(name, spider):
    run_dir, (rank,), out, err = spider(name)
    assert ticks(run_dir) == [0, 1, 2] and rank['finite'] and 'Spider source:       S' in out
    assert rank['class_name'] == 'SpiderGenerator' and 'spider_plugin.bundles.' in out
    assert json.loads((run_dir / 'training_options.json').read_text())['G_kwargs']['spider']['mapping'] == CASES[name]['mapping']
    # A fresh residual replaces the constant, and FastGAN has layers for 256 pixels whatever the resolution.
    idle = [p for p in rank['params'] if p == 'synthesis.b4.const' and CASES[name]['mapping'] == 'residual' or '256' in p]
    assert set(rank['still']) <= set(idle) and set(rank['no_grad']) <= set(idle)
    assert any(p.startswith('mapping.') for p in rank['params']) and len(rank['params']) > 10
    assert {'key', 'fetch'} == {name for name, stack in rank['uses'] if 'accumulate_gradients' in stack}

@pytest.mark.parametrize('name', CASES)
def test_what_made_a_run_is_in_the_run(name, spider, trained):
    """And a page shows it. A run without an option of the plugin is as its host leaves it."""
    run_dir, _, out, err = spider(name)
    made = json.loads((run_dir / 'training_options.json').read_text())['spider_run']
    assert made['source']['name'] == 'S' and made['source']['mapping'] == CASES[name]['mapping'] and made['resumed'] is None
    assert f'-from-S-{CASES[name]["mapping"]}' in run_dir.name and 'Warning: The ' not in err
    assert (run_dir / 'log.txt').read_text().count('Spider source:       S') == out.count('Spider source:       S') == 1
    stats = json.loads((run_dir / 'stats.jsonl').read_text().splitlines()[-1])
    norms = [stats[key]['mean'] for key in stats if key.startswith('Gradients/')]
    assert len(norms) >= 2 and all(norm > 0 for norm in norms)
    page = (run_dir / 'report.html').read_text()
    assert 'class="cell source"' in page and 'norm of the gradients of G' in page and 'images a second' in page
    stock = trained(name)[0]
    assert not (stock / 'report.html').exists() and 'spider_run' not in (stock / 'training_options.json').read_text()
    assert '</html>' in write_report([stock, run_dir], stock.parent / 'both.html').read_text()

@pytest.mark.parametrize('name', ['stylegan3-stylegan2', 'stylegan3-t', 'stylegan2-ada-pytorch', 'projected-gan-stylegan2'])
def test_the_source_follows_a_snapshot_without_an_option(name, spider, trained):
    before = spider(name)[0]
    run_dir, (rank,), out, _ = trained(name, f'--resume={snapshot(before)}')
    assert rank['finite'] and rank['class_name'] == 'SpiderGenerator' and {'key', 'fetch'} == {use for use, _ in rank['uses']}
    assert out.count('Spider resume:       as in the snapshot, 40 images from the cache') == 1
    was, now = (json.loads((path / 'training_options.json').read_text())['G_kwargs']['spider'] for path in (before, run_dir))
    assert was == now

@pytest.mark.parametrize('name', OWN)
def test_plugin_generators(name, trained, data):
    """Every weight moves and losses are finite at every level; the snapshot is read without executing it."""
    run_dir, (rank,), out, _ = trained(name, f'--spider-source={data}/S.zip', '--spider-mapping=residual')
    assert rank['finite'] and rank['class_name'] in ('DCGANGenerator', 'PGGANGenerator') and 'Spider source:       S' in out
    assert not rank['still'] and not rank['no_grad'] and len(rank['params']) > 10
    assert not rank['D']['still'] and rank['D']['finite']
    stats = [json.loads(line) for line in (run_dir / 'stats.jsonl').read_text().splitlines()]
    losses = [tick[name]['mean'] for tick in stats for name in ('Loss/G/loss', 'Loss/D/loss') if tick[name]['num']]
    assert len(losses) >= 2 * len(stats) - 2 and all(abs(loss) < 1e4 for loss in losses)
    assert {'key', 'fetch'} == {use for use, stack in rank['uses'] if 'accumulate_gradients' in stack}
    G = load_generator(snapshot(run_dir), key='G')
    assert G.c_dim == (2 if '--cond=1' in OWN[name]['args'] else 0)
    if 'pggan' in name:
        resolutions = [tick['Progress/resolution']['mean'] for tick in stats]
        assert {4, 8, 16} <= set(resolutions) and resolutions == sorted(resolutions) and G.synthesis.stage() == (2, 1)

def test_pggan_in_two_ranks_of_stylegan3(trained):
    """The host compares all tensors of its ranks before a snapshot."""
    run_dir, ranks, *_ = trained('pggan-in-stylegan3', ranks=2)
    assert ranks[0]['weights'] == ranks[1]['weights'] and load_generator(snapshot(run_dir)).synthesis.stage() == (2, 1)

def test_pggan_in_two_ranks_of_ada_is_refused(attached, run, data, tmp_path):
    tiny = json.dumps(dict(config={}, log=str(tmp_path / 'rank')))
    done = run(['train.py', f'--outdir={tmp_path}', f'--data={data}/D16.zip', '--gpus=2', '--batch=4', '--cfg=pggan'],
               attached('stylegan2-ada-pytorch'), SPIDER_DEVICE='cpu', SPIDER_TINY=tiny)
    said = done.stdout + done.stderr    # the host prints its errors on stdout
    assert done.returncode == 2 and '--cfg=pggan trains with one GPU in this host' in said and '--gpus=1' in said

FOLLOWS_THE_BATCH = ('w_avg', 'magnitude_ema', 'weight_u', 'weight_v', 'running_mean', 'running_var', 'num_batches_tracked')
STILL = {'G_opt_kwargs.lr': 0.0, 'D_opt_kwargs.lr': 0.0, 'ema_kimg': 0.001} # The result equals the input.

@pytest.mark.parametrize('name', CASES)
def test_resume_of_a_stock_pickle(name, trained, data):
    stock = snapshot(trained(name)[0])
    run_dir, (rank,), out, _ = trained(name, f'--resume={stock}', f'--spider-source={data}/S.zip',
                                       f'--spider-mapping={CASES[name]["mapping"]}', config=STILL)
    assert rank['class_name'] == 'SpiderGenerator'
    assert [out.count(f' {network}: ') for network in ('G', 'D', 'G_ema')] == [1, 1, 1] and f'Resume from:         {stock}' in out
    resumed_from = json.loads((run_dir / 'training_options.json').read_text())['resume_pkl']
    assert Path(resumed_from).name == stock.name and Path(resumed_from) != stock # Bare tensors: nothing to execute.
    assert b'module_src' not in Path(resumed_from).read_bytes()
    before, after = [generator_record(path, key='G').state_dict() for path in (stock, snapshot(run_dir))]
    kept = {key for key in before if not key.endswith(FOLLOWS_THE_BATCH)}
    fresh = {'mapping.fc0.weight'} if CASES[name]['mapping'] == 'encoder' else set() # Fed with another number of values.
    differ = {key for key in kept if key not in after or not torch.equal(before[key], after[key])}
    assert len(kept) > 10 and differ <= fresh, differ

FAMILIES = {'stylegan3': 'stylegan2-ada-pytorch', 'stylegan2-ada-pytorch': 'stylegan3-stylegan2',
            'projected-gan': 'stylegan3-stylegan2'} # host -> the case whose stock snapshot is its source.

@pytest.mark.parametrize('name', CASES)
def test_cascade_from_another_family(name, trained):
    source = snapshot(trained(FAMILIES[CASES[name]['host']])[0])
    run_dir, (rank,), out, _ = trained(name, f'--spider-source={source}', '--spider-bank=64',
                                       f'--spider-mapping={CASES[name]["mapping"]}')
    assert ticks(run_dir) == [0, 1, 2] and rank['finite'] and rank['class_name'] == 'SpiderGenerator'
    assert source.stem in out and {'key', 'fetch'} == {use for use, stack in rank['uses'] if 'accumulate_gradients' in stack}

@pytest.mark.parametrize('name', TWO_RANKS)
def test_two_ranks(name, spider):
    run_dir, ranks, out, err = spider(name, ranks=2)
    assert [rank['class_name'] for rank in ranks] == ['SpiderGenerator'] * 2
    assert all('accumulate_gradients' in stack for _, stack in ranks[1]['uses']) and ranks[1]['uses']
    assert ranks[0]['keys'][:4] != ranks[1]['keys'][:4]                         # ranks draw different images
    assert ranks[0]['weights'] == ranks[1]['weights'] and snapshot(run_dir).stat().st_size > 0
    assert err.count('spider-plugin: shim sampler') == 1

#----------------------------------------------------------------------------

@pytest.mark.parametrize('name', CASES)
def test_the_snapshot_opens_in_the_hosts_own_tool(name, spider, run, checkout, data, tmp_path):
    from spider_plugin.sources.prepare import prepare_source
    run_dir, host = spider(name)[0], CASES[name]['host']
    other = prepare_source(f'{data}/other.zip', size=json.loads((run_dir / 'training_options.json').read_text())[
        'training_set_kwargs']['resolution'] if CASES[name]['mapping'] == 'residual' else 32)
    found = {}
    for how in ('without', 'with'):
        done = run([HERE / 'snapshot_harness.py', how, checkout(host), snapshot(run_dir), tmp_path / how,
                    *([other.path] if how == 'with' else [])], tmp_path, plugin=how == 'with')
        assert done.returncode == 0, done.stdout + done.stderr
        found[how] = torch.load(tmp_path / how / 'results.pt')
    assert not found['without']['spider_modules'] and found['with']['spider_modules']
    assert (found['with']['images'] - found['without']['images']).abs().max() == 0
    assert (found['with']['images'] - found['with']['other']).abs().max() > 1e-5
    drawn = [[np.asarray(PIL.Image.open(path)) for path in sorted((tmp_path / how).glob('*.png'))] for how in found]
    assert len(drawn[0]) == 3 and all(map(np.array_equal, *drawn)) and not np.array_equal(*drawn[0][:2])

@pytest.mark.parametrize('name', CASES)
def test_calc_metrics_takes_a_metric_of_a_plugin(name, spider, attached, run, toy_metric, data):
    run_dir, what = spider(name)[0], CASES[name]
    done = run(['calc_metrics.py', f'--network={snapshot(run_dir)}', '--metrics=toy', f'--data={data}/D{what["resolution"]}.zip'],
               attached(what['host']), [toy_metric], SPIDER_DEVICE='cpu',
               SPIDER_TINY=json.dumps(dict(backbone='timm' in what['needs'])))
    assert done.returncode == 0, done.stdout + done.stderr
    result = next(json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"results"'))
    assert result['metric'] == 'toy' and result['results']['toy'] > 0

#----------------------------------------------------------------------------
# The plugin's layers in the hosts' generators, alone and under a Spider generator; --resume fits them to the dense ones.

LAYERS = {
    'stylegan3-stylegan2':      (['--dsc', '--dsc-order=pointwise', '--fast'], 'DSCFastGenerator'),
    'stylegan3-t':              (['--dsc', '--fast'], 'DSCFastGenerator'),
    'stylegan2-ada-pytorch':    (['--dsc', '--dsc-rank=2', '--fast'], 'DSCFastGenerator'),
    'projected-gan-stylegan2':  (['--dsc'], 'DSCGenerator'),
}

@pytest.mark.parametrize('name', LAYERS)
def test_separable_layers(name, trained, run, checkout, data, tmp_path):
    options, class_name = LAYERS[name]
    source = [f'--spider-source={data}/S.zip', f'--spider-mapping={CASES[name]["mapping"]}']
    run_dir, ranks, out, _ = trained(name, *options, *source, f'--resume={snapshot(trained(name)[0])}',
                                     ranks=2 if name in TWO_RANKS else 1)
    assert {rank['class_name'] for rank in ranks} == {f'Spider{class_name}'} and all(rank['finite'] for rank in ranks)
    assert 'fitted to the dense kernel' in out and len({rank['weights'] for rank in ranks}) == 1
    done = run([HERE / 'snapshot_harness.py', 'without', checkout(CASES[name]['host']), snapshot(run_dir), tmp_path / 'without'],
               tmp_path, plugin=False)
    assert done.returncode == 0, done.stdout + done.stderr
