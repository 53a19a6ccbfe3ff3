"""Presets: every file is whole, documented, and dry-runs in the hosts; what the user gives wins."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from spider_plugin.cli import main
from spider_plugin.errors import SpiderError
from spider_plugin.options import presets
from spider_plugin.resources import resource_dir

ROOT, HERE = Path(__file__).resolve().parents[2], Path(__file__).parent
HOSTS = {'reference_host': resource_dir('reference_host')}
if os.environ.get('SPIDER_HOSTS'):
    HOSTS |= {name: Path(os.environ['SPIDER_HOSTS'], name) for name in ('stylegan3', 'stylegan2-ada-pytorch', 'projected-gan')}

#----------------------------------------------------------------------------
# The files.

@pytest.mark.parametrize('name', presets.names())
def test_files_are_whole(name):
    preset = presets.load(name)
    assert set(preset) == {*presets._FIELDS, 'name'} and set(preset['data']) == set(presets._DATA)
    assert preset['unknown'] and preset['hardware'] and preset['time']
    for key, entry in preset['options'].items():
        assert set(entry) == {'value', 'known', 'source'} and isinstance(entry['known'], bool) and entry['source'], key
        assert not key.startswith('-') and '|' not in entry['source'], key
    assert {'cfg', 'batch', 'kimg', 'snap'} <= set(preset['options'])
    assert not {'gpus', 'data', 'outdir', 'metrics'} & set(preset['options'])     # the user's machine and wishes

def test_docs_show_the_files():
    text = (ROOT / 'docs' / 'presets.md').read_text(encoding='utf-8')
    assert text.endswith(presets.markdown())
    assert all(f'`{name}`' in text for name in presets.names())

def test_the_command():
    listed = CliRunner().invoke(main, ['presets']).output
    assert all(re.search(rf'^{name} ', listed, re.M) for name in presets.names())
    shown = CliRunner().invoke(main, ['presets', 'small-data']).output
    assert '--gamma=0.8192' in shown and 'assumed' in shown and 'hardware:' in shown and 'unknown:' in shown
    printed = json.loads(CliRunner().invoke(main, ['presets', 'small-data', '--json']).output)
    assert printed[0]['options']['batch']['value'] == 16
    assert CliRunner().invoke(main, ['presets', 'nothing']).exit_code == 2

@pytest.mark.parametrize('text, words', [
    (None, 'is not a known preset; choose from .*small-data'),
    ('{', 'cannot be read'),
    ('[]', 'has no "options"'),
    ('{"options": {"gamma": 5}}', 'has no "options"'),
])
def test_files_that_are_none(tmp_path, text, words):
    path = tmp_path / 'mine.json'
    if text is not None:
        path.write_text(text)
    with pytest.raises(SpiderError, match=words):
        presets.load(str(path) if text is not None else 'mine')

#----------------------------------------------------------------------------
# In a host.

@pytest.fixture(scope='module')
def dry_run(make_zip, tmp_path_factory):
    """dry_run(host, [arguments]) -> [(exit code, output)]; {NAME} in an argument is the zip of a preset's shape, {source} one of
    other images."""
    folder = tmp_path_factory.mktemp('zips')
    make_zip(folder / 'source.zip', n=40, res=64)
    def shaped(data):
        path = folder / f'{data["resolution"]}-{data["channels"]}-{data["classes"]}.zip'
        if not path.exists():
            make_zip(path, n=8, res=data['resolution'], channels=data['channels'], labels=data['classes'] or None)
        return str(path)
    def run(host, jobs):
        wanted = ' '.join(argument for job in jobs for argument in job)
        zips = {name: shaped(presets.load(name)['data']) for name in presets.names() if f'{{{name}}}' in wanted}
        lines = [json.dumps([argument.format(source=folder / 'source.zip', **zips) for argument in job]) for job in jobs]
        paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get('PYTHONPATH')])])
        done = subprocess.run([sys.executable, HERE / 'presets_harness.py'], cwd=HOSTS[host], input='\n'.join(lines), text=True,
                              capture_output=True,
                              env=dict(os.environ, PYTHONPATH=paths, SPIDER_DEVICE='cpu'))
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines() if line.startswith('[')]
    return run

def arguments(name, *more):
    preset = presets.load(name)['options']
    source = ['--spider-source={source}'] if 'spider-source' in preset else []
    source += ['--disc-backbone=random'] if 'disc' in preset else []     # weights are not in CI
    return ['--outdir=/tmp/never', f'--data={{{name}}}', '--gpus=1', f'--preset={name}', '--dry-run', *source, *more]

def value_of(text, name):
    return re.findall(rf'"{name}": ([^,\n]*)', text)

@pytest.mark.slow
@pytest.mark.parametrize('host', HOSTS)
def test_every_preset_dry_runs(host, dry_run):
    """A checkout may lack a configuration, and says so in a sentence."""
    if not HOSTS[host].is_dir():
        pytest.skip(f'no {host} in SPIDER_HOSTS')
    results = dry_run(host, [arguments(name) for name in presets.names()])
    assert len(results) == len(presets.names())
    ran = []
    for name, (code, output) in zip(presets.names(), results):
        preset = presets.load(name)
        if code == 2 and host != 'reference_host':
            assert re.search('does not have .it has|needs (the loss|z_dim)|cannot be used', output), (name, output)
            continue
        assert code == 0, (name, output)
        ran.append(name)
        assert f'Preset:              {name} (' in output and f'--batch={preset["options"]["batch"]["value"]}' in output
        assert str(preset['options']['batch']['value']) in value_of(output, 'batch_size'), name
        if 'spider-source' in preset['options']:
            assert 'Yours instead:       --spider-source' in output and 'Spider source:       source' in output
            assert f'"{preset["options"]["spider-mapping"]["value"]}"' in value_of(output, 'mapping'), name
    assert len(ran) == len(presets.names()) if host == 'reference_host' else ran or host == 'projected-gan'

def test_what_the_user_gives_wins(dry_run, tmp_path):
    mine = tmp_path / 'mine.json'
    entry = dict(presets.load('small-data')['options'], colour=dict(value=3), gamma=dict(value=7))
    mine.write_text(json.dumps(dict(options=entry, title='mine')))
    whole = arguments('small-data')
    own = [f'--preset={mine}' if argument.startswith('--preset') else argument for argument in whole]
    plain, changed, extra, wrong = dry_run('reference_host', [
        whole, [*whole, '--gamma=3', '--aug=noaug'], own, [*whole, '--cfg=no']])
    assert plain[0] == changed[0] == extra[0] == 0, (plain, changed, extra)
    assert value_of(plain[1], 'r1_gamma') == ['0.8192'] and value_of(changed[1], 'r1_gamma') == ['3.0']
    assert 'augment_kwargs' in plain[1] and 'augment_kwargs' not in changed[1]
    assert 'Yours instead:       --gamma --aug' in changed[1] and '--gamma' not in re.search('Preset options.*', changed[1])[0]
    assert value_of(extra[1], 'r1_gamma') == ['7.0']
    assert 'Preset leaves out:   --colour=3, which this host does not have' in extra[1]
    assert wrong[0] == 2

def test_a_recipe_for_another_resolution_is_taken_with_a_remark(dry_run):
    fitting = arguments('small-data')
    other = ['--data={source}' if argument.startswith('--data') else argument for argument in fitting]
    (code, output), (_, quiet) = dry_run('reference_host', [other, fitting])
    assert code == 0, output
    assert 'Note: --preset=small-data is a recipe for 256x256 images, but --data has 64x64' in output
    assert 'is a recipe for' not in quiet

def test_a_configuration_that_the_host_lacks(dry_run, tmp_path):
    mine = tmp_path / 'mine.json'
    mine.write_text(json.dumps(dict(options=dict(cfg=dict(value='stylegan9')), title='mine')))
    (code, output), = dry_run('reference_host', [['--outdir=/tmp/never', '--data={small-data}', f'--preset={mine}', '--dry-run']])
    assert code == 2 and '--preset=mine needs --cfg=stylegan9, which this host does not have' in output
