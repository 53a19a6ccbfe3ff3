"""`spider doctor`: its findings about this machine, and about checkouts with faults."""

import hashlib
import os
import pathlib
import re

import pytest
import torch
from click.testing import CliRunner

from spider_plugin import cli
from spider_plugin.hosts import doctor, doctor_checkout
from spider_plugin.hosts.attach import attach, read_checkout
from spider_plugin.hosts.line import detach_source, patch

ROOT = pathlib.Path(__file__).resolve().parents[2]

@pytest.fixture(autouse=True)
def environment(monkeypatch, spider_cache):
    """Unset the plugin's variables, except that of the cache."""
    for name in [name for name in os.environ if name.startswith('SPIDER_')]:
        monkeypatch.delenv(name)
    monkeypatch.setenv('SPIDER_CACHE_DIR', str(spider_cache))

def findings(steps):
    """Return {topic: [finding]}, and check that each is printed with its remedy."""
    found = {}
    for finding in steps:
        found.setdefault(finding.topic, []).append(finding)
    return found

def spider_doctor(*args):
    return CliRunner().invoke(cli.main, ['doctor', *map(str, args)])

#----------------------------------------------------------------------------
# The machine.

def test_this_machine():
    result = spider_doctor()
    lines = [line.split() for line in result.output.splitlines()]
    assert result.exit_code == 0 and {line[0] for line in lines} == {'ok'}, result.output
    topics = [line[1] for line in lines]
    assert topics == ['Python', *doctor.PACKAGES, 'setuptools', 'device', 'compiler', 'plugin', 'cache',
                      *(['shm'] if os.path.isdir('/dev/shm') else []), 'environment']
    assert torch.__version__.startswith(lines[topics.index('torch')][2])    # Some wheels leave +cu130 out.

def test_ranges_are_those_of_the_package():
    text = (ROOT / 'pyproject.toml').read_text(encoding='utf-8')
    table = text.split('\ndependencies = [')[1].split(']')[0]
    assert dict(re.findall(r'"([\w-]+)>=([\d.]+)"', table)) == doctor.PACKAGES
    assert f'requires-python = ">={".".join(map(str, doctor.PYTHON))}"' in text

@pytest.mark.parametrize(['version', 'text'], [
    (None, 'torch        is not installed: '), ('2.5.1+cu124', 'torch        2.5.1+cu124 is older than 2.6: '),
    ('2.6', None), ('2.10.0a0', None),
])
def test_versions(monkeypatch, version, text):
    stock = doctor._version
    monkeypatch.setattr(doctor, '_version', lambda name: version if name == 'torch' else stock(name))
    result = spider_doctor()
    assert result.exit_code == (0 if text is None else 1)
    if text is not None:
        assert f"FIX  {text}pip install 'torch>=2.6'" in result.output.splitlines()

def test_devices(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    monkeypatch.setattr(torch.backends.mps, 'is_available', lambda: False)
    monkeypatch.setattr(doctor.shutil, 'which', lambda name, path=None: None)
    assert 'SPIDER_DEVICE=cpu' in findings(doctor.examine_stack())['device'][0].text
    monkeypatch.setattr(doctor.shutil, 'which', lambda name, path=None: f'/bin/{name}' if name == 'nvidia-smi' else None)
    monkeypatch.setattr(doctor, '_succeeds', lambda *command: True)
    assert 'install a torch built for' in findings(doctor.examine_stack())['device'][0].remedy
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    monkeypatch.setattr(torch.cuda, 'get_device_name', lambda index: f'GPU {index}')
    found = findings(doctor.examine_stack())
    assert found['device'][0].text.endswith('GPU 0, GPU 1') and found['compiler'][0].remedy is None

def test_a_missing_compiler_is_a_fault_if_the_host_compiles(monkeypatch):
    monkeypatch.setattr(doctor.shutil, 'which', lambda name, path=None: None if name == 'nvcc' else f'/bin/{name}')
    assert doctor._compiler(False).remedy is None and 'nvcc none' in doctor._compiler(False).text
    assert 'spider-plugin builds its kernels with these at first use' in doctor._compiler(False).text
    assert 'there is no nvcc' in doctor._compiler(True).text and doctor._compiler(True).remedy
    monkeypatch.setattr(doctor.shutil, 'which', lambda name, path=None: f'/bin/{name}')
    assert doctor._compiler(True).remedy is None

def test_the_cache(monkeypatch, tmp_path):
    (tmp_path / 'cache' / 'deep').mkdir(parents=True)
    (tmp_path / 'cache' / 'deep' / 'bank').write_bytes(bytes(32 << 20))
    monkeypatch.setenv('SPIDER_CACHE_DIR', str(tmp_path / 'cache'))
    assert f'{tmp_path / "cache"}, 1 files, 0.03 GiB; ' in findings(doctor.examine_surroundings())['cache'][0].text
    monkeypatch.setenv('SPIDER_CACHE_DIR', str(tmp_path / 'cache' / 'deep' / 'bank'))
    result = spider_doctor()
    assert result.exit_code == 1 and 'set SPIDER_CACHE_DIR to another folder' in result.output

@pytest.mark.parametrize(['name', 'value', 'fix'], [
    ('SPIDER_SHIMS', 'off', False), ('SPIDER_SHIMS', 'none', True), ('SPIDER_SHIM', 'off', False),
    ('SPIDER_NVCC', 'require', False), ('SPIDER_DRY_RUN', 'off', False), ('SPIDER_DRY_RUN', 'maybe', True),
    ('SPIDER_DEVICE', 'cpu', False), ('SPIDER_DEVICE', 'tpu', True),
    ('SPIDER_DETECTOR', 'inception', False), ('SPIDER_DETECTOR', '/no/such.pt', True),
])
def test_variables(monkeypatch, name, value, fix):
    monkeypatch.setenv(name, value)
    finding = next(f for f in findings(doctor.examine_surroundings())['environment'] if f.text.startswith(f'{name}={value}'))
    assert bool(finding.remedy) == fix and ('does not know' in finding.text) == (name == 'SPIDER_SHIM')

def test_every_variable_of_the_pages_is_known():
    pages = ROOT / 'docs'
    named = {name for page in pages.glob('*.md') for name in re.findall(r'\bSPIDER_[A-Z_]+\b', page.read_text(encoding='utf-8'))}
    assert named == set(doctor.ENVIRONMENT)

#----------------------------------------------------------------------------
# Checkouts.

@pytest.fixture
def host(fake_host):
    """Folder of a minimal host, attached."""
    return fake_host().parent

def test_a_checkout_without_faults(host):
    (host / 'metrics' / 'metric_utils.py').write_text('class Generator: pass\n')
    result = spider_doctor(host)
    assert result.exit_code == 0, result.output
    for words in (f'ok   host         {host}, generators in metrics.metric_utils', 'ok   attached     train.py',
                  'ok   train.py     starts with the plugin and lists its options', 'ok   shims        --help needs none',
                  'ok   detector     not known for this host'):
        assert words in result.output.splitlines()

def ask(host):
    return findings(doctor.examine(str(host)))

def test_attached_or_not(host):
    train, line = host / 'train.py', patch()['line']
    train.write_bytes(train.read_bytes().replace(line, b''))
    assert 'no; run `spider attach ' in ask(host)['attached'][0].text and ask(host)['attached'][0].remedy is None
    (host / 'calc_metrics.py').write_text('import click\n@click.command()\ndef main(): pass\n')
    attach(host)
    assert ask(host)['attached'][0].text == 'train.py, calc_metrics.py'
    train.write_bytes(train.read_bytes().replace(line, line.replace(b'going', b'so going')))
    found = ask(host)['attached'][0]
    assert 'the line in train.py is of another version' in found.text and found.remedy == f'`spider attach {host}`'
    train.write_bytes(detach_source(train.read_bytes()))
    found = ask(host)['attached'][0]
    assert found.text == 'calc_metrics.py, but not train.py' and found.remedy == f'`spider attach {host}`'

def test_hosts_that_do_not_start(host):
    (host / 'metrics' / 'metric_main.py').write_text('import nets.projector\n')
    (host / 'nets').mkdir()
    (host / 'nets' / 'projector.py').write_text(
        'import json, no_such_package.part\nfrom no_other import name\nimport pkg_resources\n'
        'try:\n    import tensorless\nexcept ImportError:\n    pass\n')
    (host / 'unused.py').write_text('import never_needed\n')
    found = ask(host)
    assert [finding.remedy for finding in found['package']] == ['pip install no_other', 'pip install no_such_package']
    assert "nets/projector.py imports no_other" in found['package'][0].text
    assert 'train.py imports no_such_package, which is not installed' in found['train.py'][0].text and found['train.py'][0].remedy
    assert spider_doctor(host).exit_code == 1

def test_packages_of_classes_that_are_only_named(host):
    with open(host / 'train.py', 'a') as file:
        file.write("\nNAME = 'pg_modules.discriminator.Discriminator'\n")
    (host / 'pg_modules').mkdir()
    (host / 'pg_modules' / 'discriminator.py').write_text('import no_such_package\n')
    found = ask(host)
    assert [finding.remedy for finding in found['package']] == ['pip install no_such_package']
    assert found['train.py'][0].remedy is None

def test_hosts_of_another_kind(fake_host):
    host = fake_host(launch='go').parent
    found = ask(host)
    assert 'has no launch_training' in found['host'][0].text and found['host'][0].remedy
    (host / 'train.py').write_text('import click\n@click.command()\n@click.option("--data")\ndef main(data): pass\nmain()\n')
    found = ask(host)
    assert 'takes --outdir and --data' in found['host'][0].text and 'no options of the plugin' in found['train.py'][0].text
    (host / 'train.py').write_text('def f(:')
    found = ask(host)
    assert all('is not Python' in found[topic][0].text and found[topic][0].remedy for topic in ('host', 'attached'))
    (host / 'train.py').unlink()
    assert spider_doctor(host).exit_code == spider_doctor(host / 'no').exit_code == 2

def make_shim(name, where, needed):
    return doctor_checkout.stack.Shim(name=name, reason='why', where=where, asks=lambda subject: True, needed=lambda: needed,
                              apply=lambda subject: None)

def test_doctor_parses_the_lines_of_shims(capsys):
    doctor_checkout.stack._use(make_shim('doctored', 'nets', True), None)
    assert doctor_checkout._SHIM.findall(capsys.readouterr().err) == [('doctored', 'why')]

def test_shims_are_named(host, monkeypatch):
    with open(host / 'metrics' / 'metric_main.py', 'a') as file:
        file.write('import sys\nprint("spider-plugin: shim betas: they are integers (SPIDER_SHIMS=off)", file=sys.stderr)\n')
    monkeypatch.setattr(doctor_checkout.stack, 'SHIMS', [make_shim('late', 'launch', True), make_shim('idle', 'launch', False),
                                                 make_shim('deep', 'nets', True)])
    now, later = ask(host)['shims']
    assert now.text == 'betas, applied automatically: they are integers' and now.remedy is None
    assert later.text == 'late, applied automatically to a config that needs it: why' and later.remedy is None
    monkeypatch.setenv('SPIDER_SHIMS', 'off')
    assert ask(host)['shims'][0].text == 'off by SPIDER_SHIMS'

def test_a_host_that_never_ends(host, monkeypatch):
    with open(host / 'metrics' / 'metric_main.py', 'a') as file:
        file.write('import time\ntime.sleep(600)\n')
    monkeypatch.setattr(doctor_checkout, 'TIMEOUT', 1)
    assert 'takes more than 1 seconds' in ask(host)['train.py'][0].text
    checkout = doctor.Checkout(host, read_checkout(host))
    with checkout.asking():
        assert checkout._help.poll() is None
    assert checkout._help.poll() is not None # Nothing is left running.

def test_detectors(host, monkeypatch, tmp_path):
    url = 'https://example.org/inception.pkl'
    (host / 'metrics' / 'kernel_inception_distance.py').write_text(f'def compute():\n    return {url!r}\n')
    monkeypatch.setenv('DNNLIB_CACHE_DIR', str(tmp_path / 'dnnlib'))
    assert 'not on this machine' in ask(host)['detector'][0].text
    file = tmp_path / 'dnnlib' / 'downloads' / f'{hashlib.md5(url.encode()).hexdigest()}_inception.pkl'
    file.parent.mkdir(parents=True)
    file.write_bytes(b'')
    assert ask(host)['detector'][0].text == str(file)
    (host / 'metrics' / 'detectors.py').write_text('def copies(name):\n    return [f"/where/it/is/{name}.pt"]\n')
    assert ask(host)['detector'][0].text == '/where/it/is/inception.pt'
    monkeypatch.setenv('SPIDER_DETECTOR', 'mine.pt')
    assert ask(host)['detector'][0].text == 'mine.pt, by SPIDER_DETECTOR'

#----------------------------------------------------------------------------
