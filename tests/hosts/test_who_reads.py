"""A host that unpickles is named at launch; the reference host gets the plugin's reader, and nothing is said."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

SCRIPT = '''
import spider_plugin.hosts.hook
import click
from training import snapshots

@click.command()
@click.option('--network', 'network_pkl')
@click.option('--trust-pickle', 'trust', is_flag=True)
def main(network_pkl, trust):
    print('ran', network_pkl, snapshots.__dict__.get('reader') is not None)

main()
'''

@pytest.mark.parametrize('snapshots, says', [('', True), ('reader = None', False)])
def test_a_host_that_unpickles_is_named(snapshots, says, tmp_path):
    (tmp_path / 'training').mkdir()
    (tmp_path / 'training' / 'snapshots.py').write_text(f'{snapshots}\n')
    (tmp_path / 'gen_images.py').write_text(SCRIPT)
    run = lambda *args: subprocess.run([sys.executable, tmp_path / 'gen_images.py', *args], cwd=tmp_path, capture_output=True,
                                       text=True, check=True, env=dict(PYTHONPATH=str(ROOT)))
    done = run('--network=x.pkl')
    assert done.stdout == f'ran x.pkl {not says}\n'
    assert ('this host unpickles --network itself' in done.stderr) == says
    assert 'unpickles' not in run().stderr
