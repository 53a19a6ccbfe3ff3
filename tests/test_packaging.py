"""What a wheel and an sdist hold, and what `import spider_plugin` costs."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

def run(*command, cwd=ROOT):
    result = subprocess.run(command, cwd=cwd, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout

def tracked(*folders):
    """Files under version control in the folders; outside a git checkout, the files that are there."""
    result = subprocess.run(['git', 'ls-files', *folders], cwd=ROOT, capture_output=True, text=True)
    if result.returncode == 0 and result.stdout:
        return [name for name in result.stdout.splitlines() if (ROOT / name).is_file()]
    return [p.relative_to(ROOT).as_posix() for folder in folders for p in (ROOT / folder).rglob('*')
            if p.is_file() and '__pycache__' not in p.parts]

#----------------------------------------------------------------------------

@pytest.fixture(scope='module')
def sdist(tmp_path_factory):
    """The sdist, and the folder it unpacks to. A copy of the tree is built, so that nothing is left in it."""
    build = pytest.importorskip('build')
    assert build
    tree, out = tmp_path_factory.mktemp('tree'), tmp_path_factory.mktemp('dist')
    for name in tracked('.'):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes((ROOT / name).read_bytes())
    run(sys.executable, '-m', 'build', '--no-isolation', '--sdist', '--outdir', str(out), str(tree))
    with tarfile.open(next(out.glob('*.tar.gz'))) as archive:
        archive.extractall(out, filter='data')
    return next(path for path in out.iterdir() if path.is_dir())

@pytest.fixture(scope='module')
def wheel(sdist, tmp_path_factory):
    """The wheel, built from the sdist so that one test sees whether the sdist is complete."""
    out = tmp_path_factory.mktemp('wheel')
    run(sys.executable, '-m', 'build', '--no-isolation', '--wheel', '--outdir', str(out), str(sdist))
    return next(out.glob('*.whl'))

def test_sdist_is_complete(sdist):
    missing = [name for name in tracked('.') if name != '.gitignore' and not (sdist / name).is_file()]
    assert not missing

def test_wheel_holds_packages_trees_and_assets(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    trees = [f'spider_plugin/{name}' for name in tracked('reference_host', 'patches', 'configs')]
    packages = tracked('spider_plugin', 'torch_utils_ext')
    assert 'spider_plugin/reference_host/train.py' in trees and 'spider_plugin/demo/assets/digits.npz' in packages
    assert not sorted(set(trees + packages) - names)
    top = {name.split('/')[0] for name in names}
    assert {name for name in top if not name.endswith('.dist-info')} == {'spider_plugin', 'torch_utils_ext'}
    assert not [name for name in names if '__pycache__' in name or name.endswith('.pyc') or '/tests/' in name]

def test_wheel_names_command_and_licence(wheel):
    with zipfile.ZipFile(wheel) as archive:
        texts = {Path(name).name: archive.read(name).decode() for name in archive.namelist() if '.dist-info/' in name}
    assert 'spider = spider_plugin.cli:main' in texts['entry_points.txt']
    assert 'License-Expression: MIT' in texts['METADATA'] and 'Requires-Dist: torch>=2.6' in texts['METADATA']
    assert texts['LICENSE'].startswith('MIT License')

def test_installed_tree_finds_its_resources(wheel, tmp_path):
    """The unpacked wheel, first on the path, away from the checkout."""
    zipfile.ZipFile(wheel).extractall(tmp_path / 'site')
    program = (f'import sys; sys.path.insert(0, {str(tmp_path / "site")!r})\n'
               'from spider_plugin.resources import resource_dir\n'
               'for name in ("reference_host", "patches", "configs"): print(resource_dir(name))')
    lines = run(sys.executable, '-c', program, cwd=tmp_path).splitlines()
    assert lines == [str((tmp_path / 'site' / 'spider_plugin' / name).resolve())
                     for name in ('reference_host', 'patches', 'configs')]

#----------------------------------------------------------------------------

@pytest.mark.parametrize('module', ['spider_plugin', 'spider_plugin.cli', 'torch_utils_ext'])
def test_import_is_light(module):
    program = f'import sys, {module}; print(*sorted(name.split(".")[0] for name in sys.modules))'
    loaded = set(run(sys.executable, '-c', program).split())
    assert module.split('.')[0] in loaded
    assert not loaded & {'torch', 'scipy', 'numpy', 'PIL', 'requests', 'ninja'}

def test_ci_runs_the_second_command_of_the_readme():
    readme = (ROOT / 'README.md').read_text(encoding='utf-8')
    block = readme.split('<!-- second command -->\n```bash\n')[1].split('\n```')[0]
    assert 'pip install -c constraints.txt' in block and '-m pytest' in block
    script = (ROOT / '.ci' / 'run').read_text(encoding='utf-8')
    extract = next(line for line in script.splitlines() if line.startswith('command='))
    assert run('bash', '-c', f'{extract}; printf %s "$command"') == block

def test_constraints_pin_every_dependency():
    pins = {line.split('==')[0].lower() for line in (ROOT / 'constraints.txt').read_text().splitlines() if '==' in line}
    tables = (ROOT / 'pyproject.toml').read_text().split('dependencies = [')[1].split('[project.scripts]')[0]
    wanted = {part.split('>=')[0].lower() for part in tables.split('"') if '>=' in part}
    assert wanted and not wanted - pins

def test_the_slice_on_the_newest_torch_has_every_other_pin():
    """constraints-newest.txt pins what .ci/newest leaves out of constraints.txt, and newer."""
    pins, newest = [dict(line.split('==') for line in (ROOT / name).read_text().splitlines() if '==' in line)
                    for name in ('constraints.txt', 'constraints-newest.txt')]
    script = (ROOT / '.ci' / 'newest').read_text(encoding='utf-8')
    joined = next(line for line in script.splitlines() if line.startswith('{ cat')).split(' > ')[0]
    lines = [line for line in run('bash', '-c', joined).splitlines() if '==' in line]
    assert dict(line.split('==') for line in lines) == pins | newest and len(lines) == len(pins)
    version = lambda text: [int(number) for number in text.split('.')]
    assert set(newest) == {'torch', 'torchvision'} and all(version(newest[name]) >= version(pins[name]) for name in newest)
    assert '.ci/newest' in (ROOT / '.ci' / 'run').read_text(encoding='utf-8')
