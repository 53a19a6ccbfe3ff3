"""The content of a wheel and an sdist, the page of the package index, and the cost of `import spider_plugin`."""

import importlib.util
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from spider_plugin import __version__

ROOT = Path(__file__).resolve().parent.parent
HOME = 'https://github.com/spider-plugin/spider-plugin'

def run(*command, cwd=ROOT):
    result = subprocess.run(command, cwd=cwd, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout

def tracked(*folders):
    """Return the files under version control in the folders; outside a git checkout, all files."""
    result = subprocess.run(['git', 'ls-files', *folders], cwd=ROOT, capture_output=True, text=True)
    if result.returncode == 0 and result.stdout:
        return [name for name in result.stdout.splitlines() if (ROOT / name).is_file()]
    return [p.relative_to(ROOT).as_posix() for folder in folders for p in (ROOT / folder).rglob('*')
            if p.is_file() and '__pycache__' not in p.parts]

#----------------------------------------------------------------------------

@pytest.fixture(scope='module')
def sdist(tmp_path_factory):
    """The sdist, and the folder it unpacks to. It is built from a copy of the tree, which stays clean."""
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
    """The wheel, built from the sdist, which also tests whether the sdist is complete."""
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

def test_wheel_describes_itself_with_absolute_links(wheel):
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith('.dist-info/METADATA'))
        head, _, page = archive.read(name).decode().replace('\r\n', '\n').partition('\n\n')
    assert 'Description-Content-Type: text/markdown' in head and f'Project-URL: Homepage, {HOME}' in head
    readme = (ROOT / 'README.md').read_text(encoding='utf-8')
    assert page.splitlines()[0] == readme.splitlines()[0] and len(page.splitlines()) == len(readme.splitlines())
    targets = re.findall(r'\]\(([^)\s]+)', page)
    assert not [target for target in targets if not target.startswith(('https://', '#'))]
    files = [target.removeprefix(f'{HOME}/').split('/', 2) for target in targets if target.startswith(HOME + '/')]
    assert files and {tag for _, tag, _ in files} == {f'v{__version__}'}
    assert not [path for _, _, path in files if not (ROOT / path.partition('#')[0]).exists()]

def test_installed_tree_finds_its_resources(wheel, tmp_path):
    """The unpacked wheel is first on the path, in a folder outside the checkout."""
    zipfile.ZipFile(wheel).extractall(tmp_path / 'site')
    program = (f'import sys; sys.path.insert(0, {str(tmp_path / "site")!r})\n'
               'from spider_plugin.resources import resource_dir\n'
               'for name in ("reference_host", "patches", "configs"): print(resource_dir(name))')
    lines = run(sys.executable, '-c', program, cwd=tmp_path).splitlines()
    assert lines == [str((tmp_path / 'site' / 'spider_plugin' / name).resolve())
                     for name in ('reference_host', 'patches', 'configs')]

def setup_script():
    spec = importlib.util.spec_from_file_location('setup_script', ROOT / 'setup.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

@pytest.mark.parametrize('text, expected', [
    ('[a](docs/a.md#part), ([`b`](./b.md))', f'[a]({HOME}/blob/v1/docs/a.md#part), ([`b`]({HOME}/blob/v1/b.md))'),
    ('![a](docs/a.svg)', f'![a]({HOME}/raw/v1/docs/a.svg)'),
    ('[![a](a.svg)](a.md)', f'[![a]({HOME}/raw/v1/a.svg)]({HOME}/blob/v1/a.md)'),
    ('<a href="a.md"><img src="a.png"></a>', f'<a href="{HOME}/blob/v1/a.md"><img src="{HOME}/raw/v1/a.png"></a>'),
    ('[a](https://a.org/b), [b](#part), [c](mailto:a@b.org)', None), ('```bash\nls [a](b)\n```\n', None)])
def test_links_become_absolute_but_for_those_that_need_not(text, expected):
    assert setup_script().with_absolute_links(text, 'v1') == (expected or text)

def test_one_version_everywhere():
    """Of the package, the changelog's newest release, the citation and the linter that runs before a commit."""
    text = lambda name: (ROOT / name).read_text(encoding='utf-8')
    assert setup_script().version() == __version__
    assert re.search(r'^## \[(\d[^]]*)\]', text('CHANGELOG.md'), re.M).group(1) == __version__
    assert re.search(r'^version: (.+)$', text('CITATION.cff'), re.M).group(1) == __version__
    ruff = re.search(r'^ruff==(.+)$', text('constraints.txt'), re.M).group(1)
    assert re.search(r'ruff-pre-commit\n +rev: v(\S+)', text('.pre-commit-config.yaml')).group(1) == ruff

def test_changelog_leads_to_moved_modules():
    part = (ROOT / 'CHANGELOG.md').read_text(encoding='utf-8').split('### Moved modules')[1].split('Names that moved')[0]
    rows = [line.split('|')[1:3] for line in part.splitlines() if line.startswith('| `')]
    moves = [pair for row in rows for pair in zip(*(re.findall(r'`([\w.]+)`', cell) for cell in row), strict=True)]
    file = lambda name: ROOT / 'spider_plugin' / f'{name.replace(".", "/")}.py'
    assert len(moves) > 50 and not [(before, now) for before, now in moves if file(before).exists() or not file(now).is_file()]

#----------------------------------------------------------------------------

@pytest.mark.parametrize('module', ['spider_plugin', 'spider_plugin.cli', 'torch_utils_ext'])
def test_import_is_light(module):
    program = f'import sys, {module}; print(*sorted(name.split(".")[0] for name in sys.modules))'
    loaded = set(run(sys.executable, '-c', program).split())
    assert module.split('.')[0] in loaded
    assert not loaded & {'torch', 'scipy', 'numpy', 'PIL', 'requests', 'ninja'}

WITHOUT_POSIX = '''
import importlib, pkgutil, sys
import scipy.stats, torch
sys.modules.update(dict.fromkeys(['fcntl', 'grp', 'pwd', 'resource', 'termios']))     # an import of these fails, as on Windows
sys.path.append(sys.argv[1])    # the host, which losses are written for
for package in (importlib.import_module('spider_plugin'), importlib.import_module('torch_utils_ext')):
    for found in pkgutil.walk_packages(package.__path__, package.__name__ + '.'):
        importlib.import_module(found.name)
        print(found.name)
'''

def test_every_module_loads_without_posix_modules():
    names = run(sys.executable, '-c', WITHOUT_POSIX, str(ROOT / 'reference_host')).split()
    assert {'spider_plugin.files.download', 'torch_utils_ext.build', 'spider_plugin.training.hinge'} <= set(names)

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
