"""Forks of the three checkouts, from SPIDER_HOSTS: each trains by its script with each option of tools/host_table.py, tiny, or is
refused before it reads its data, in one sentence. Clone a fork as $SPIDER_HOSTS/OWNER+NAME."""

import json
import os
from pathlib import Path

import pytest

from spider_plugin.hosts.option_table import SIDE, make_images
from tools.host_table import ADA, COLUMNS, FORKS, RESULT

TICKS = dict(total_kimg=0.008, kimg_per_tick=0.004, image_snapshot_ticks=1, network_snapshot_ticks=1)
IN_PROCESS = {'data_loader_kwargs.num_workers': 0, 'data_loader_kwargs.prefetch_factor': None}
NESTED = {'G_kwargs.mapping_kwargs.num_layers': 2, 'G_kwargs.synthesis_kwargs.channel_base': 512, 'D_kwargs.channel_base': 512,
          'G_kwargs.synthesis_kwargs.channel_max': 16, 'D_kwargs.channel_max': 16}
SMALL = ['--cbase=512', '--cmax=16']
OWN = {f'{network}_kwargs.channel_max': 16 for network in 'GD'}
FEEDS_BACK = 'Petecheco/CLR-GAN'    # whose loss hands features of D to G as latents
STAGES = {f'{network}_kwargs.{name}': [value] * 4 for network in 'GD'
          for name, value in dict(WidthPerStage=16, CardinalityPerStage=4, BlocksPerStage=1).items()}   # of R3GAN

OPTIONS = {name: options or [] for name, options in COLUMNS.items()} | {
    'ADA': ['--aug=ada'],
}
ON_THE_PAGE = {name: entry['found'] for name, entry in json.loads(RESULT.read_text(encoding='utf-8')).items()}
FLAT = ('--cfg=stylegan2', '--cfg=creps')
HAS_CFG = (*FLAT, ADA[0])
TRAINED = [fork for fork in FORKS if fork.args[0] in (*HAS_CFG, '--preset=CIFAR10')]

@pytest.fixture(scope='module')
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp('data') / 'D.zip'
    make_images(path, SIDE)
    return path

def small(fork, options):
    """Return the entries of a config by which a fork's networks are small, with these options."""
    heads = {f'{network}Head_kwargs.inplanes': 16 for network in 'GD'} if 'insgen' in fork.name else {}
    if any(option.startswith('--spider-cfg') for option in options):
        own = OWN if fork.args[0] in HAS_CFG else {name: value for name, value in STAGES.items() if name[0] == 'D'}
        return {} if heads or fork.name == FEEDS_BACK else own      # for heads as wide as the D of the host
    if fork.name == FEEDS_BACK:
        heads = {'D_kwargs.channel_base': 2048, 'D_kwargs.channel_max': 512}
    sizes = NESTED | heads if fork.args == ADA else {} if fork.args[0] in HAS_CFG else STAGES
    return {name: value for name, value in sizes.items() if name[0] == 'G'} if '--disc=projected' in options else sizes

@pytest.fixture(scope='module')
def outcome(attached, run, data, tmp_path_factory):
    """outcome(fork, *options, ranks=1) -> (run directory or None if it was refused, what it printed); each run once."""
    runs = {}
    def start(fork, *options, ranks=1):
        if (why := ON_THE_PAGE.get(fork.name, {}).get('stock', 'yes')).startswith('no: '):
            pytest.skip(f'the host does not train here without the plugin ({why})')
        if (fork, options, ranks) not in runs:
            host = str(fork.path('.'))
            out = tmp_path_factory.mktemp('run')
            config = TICKS | small(fork, options) | (IN_PROCESS if options else {})     # once with processes that load
            if '--aug=ada' in options:
                config = config | dict(ada_interval=1)
            args = [f'--batch={4 * ranks}', *fork.options(data), *(SMALL if fork.args[0] in FLAT else [])]
            done = run(['train.py', f'--outdir={out / "runs"}', f'--data={data}', f'--gpus={ranks}', '--kimg=1', '--workers=1',
                        '--metrics=none', *args, *options], attached(host), SPIDER_DEVICE='cpu', SPIDER_DRY_RUN='on',
                       WANDB_MODE='offline', SPIDER_TINY=json.dumps(dict(config=config, log=str(out / 'rank'),
                                                                          backbone=fork.args == ('--cfg=stylegan2',))))
            if 'ModuleNotFoundError' in done.stderr:
                pytest.skip(done.stderr.strip().splitlines()[-1])
            made = sorted((out / 'runs').iterdir()) if (out / 'runs').is_dir() else []
            if done.returncode == 2 and not made:
                printed = (done.stdout + done.stderr).splitlines()      # some hosts send both to stdout
                refusals = [line for line in printed if line.startswith('Error: ')]
                assert len(refusals) == 1 and 'Traceback' not in done.stderr
                assert not any(f'passes {name.rpartition(".")[2]} ' in refusals[0] for name in config)  # that this test set
                print(fork.name, *options, refusals[0])
            else:
                assert done.returncode in (0, 3), done.stdout[-3000:] + done.stderr[-3000:]
            runs[fork, options, ranks] = made[0] if made else None, done.stdout + done.stderr
        return runs[fork, options, ranks]
    return start

@pytest.mark.parametrize('name', OPTIONS)
@pytest.mark.parametrize('fork', TRAINED, ids=lambda fork: fork.name)
def test_it_trains_or_is_refused(outcome, fork, name):
    run_dir, _printed = outcome(fork, *OPTIONS[name])
    assert run_dir is None or list(run_dir.glob('*.pkl'))
    assert run_dir is not None or name != 'stock'
    on_the_page = ON_THE_PAGE.get(fork.name, {}).get(name, 'note')
    assert on_the_page.startswith('note') or (run_dir is not None) == (on_the_page == 'yes'), on_the_page

@pytest.mark.parametrize('fork', TRAINED, ids=lambda fork: fork.name)
def test_two_ranks_resume_and_cascade(outcome, fork):
    """With a source: on two ranks, from its own snapshot, and with that generator as the source of another."""
    run_dir, _printed = outcome(fork, *OPTIONS['source'])
    if run_dir is None:
        pytest.skip('refuses a source')
    snapshot = last_snapshot(run_dir)
    for options, ranks in ((OPTIONS['source'], 2), ([f'--resume={snapshot}'], 1), ([f'--spider-source={snapshot}'], 1)):
        again, printed = outcome(fork, *options, ranks=ranks)
        if '--trust-pickle' in printed:     # a class that the plugin does not know is a source by that word only
            again, _printed = outcome(fork, *options, '--trust-pickle', ranks=ranks)
        assert again is not None and list(again.glob('*.pkl'))

@pytest.mark.parametrize('fork', TRAINED, ids=lambda fork: fork.name)
def test_a_stock_run_goes_on_with_a_source_and_without(outcome, fork):
    run_dir, _printed = outcome(fork)
    resume = f'--resume={last_snapshot(run_dir)}'
    plain, printed = outcome(fork, resume)
    assert plain is not None and list(plain.glob('*.pkl')) and '--resume: G' not in printed
    trained, _printed = outcome(fork, *OPTIONS['source'])
    with_source, _printed = outcome(fork, resume, *OPTIONS['source'])
    assert (with_source is None) == (trained is None) and (trained is None or list(with_source.glob('*.pkl')))

def last_snapshot(run_dir):
    return sorted(Path(run_dir).glob('*.pkl'), key=os.path.getmtime)[-1]
