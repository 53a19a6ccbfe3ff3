"""Every network that can be trained, by every mapping kind and with every feature: its bundle, its snapshot, its copies.

The list is made by the options themselves (every_network.py), so that nothing which is registered later is left out."""

import ast
import copy
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from spider_plugin import registry
from spider_plugin.bundles.source import bundle_source
from spider_plugin.resources import resource_dir

ROOT    = Path(__file__).resolve().parents[1]
CFGS    = ['stylegan2', 'stylegan3-t', 'stylegan3-r', *sorted(registry.generators)]
BUNDLES = 'spider_plugin.bundles.'
MAPPED  = 'mapped_on_pg_modules__networks_fastgan__DummyMapping'   # Projected GAN's own, which no host here has

def accepted(every_network, cfg):
    found = [network for network in every_network[cfg] if not network['refused']]
    assert found, every_network[cfg]
    return found

def bundle_names(every_network, cfgs=CFGS):
    """Names of the bundles that the classes of these networks are of."""
    modules = {network[key]['class_name'].rpartition('.')[0] for cfg in cfgs for network in accepted(every_network, cfg)
               for key in ('G_kwargs', 'D_kwargs') if network[key]}
    return sorted(module.removeprefix(BUNDLES) for module in modules if module.startswith(BUNDLES))

def latents(G, n=3, seed=0):
    return torch.randn([n, G.z_dim], generator=torch.Generator().manual_seed(seed))

def draw(G, z):
    return G(z, None, noise_mode='const')

def judge(D, images):
    torch.manual_seed(0)    # a projected D augments what it sees
    return D(images, None)

def pair(network, build_network):
    """G and D, growing ones in the middle of their last fade; None for a D that an earlier network of the list has."""
    modules = [network[key] and build_network(network[key]) for key in ('G_kwargs', 'D_kwargs')]
    for name, buffer in (item for module in modules if module for item in module.named_buffers()):
        if name.endswith('progress'):
            buffer.fill_(3.4)
    return modules

#----------------------------------------------------------------------------

def test_every_generator_is_asked(every_network):
    assert list(every_network) == CFGS
    for cfg in CFGS:
        mappings = {option for network in accepted(every_network, cfg) for option in network['options'] if 'mapping' in option}
        assert mappings, f'{cfg} takes no source at all'
        assert all(network['refused'].endswith('.') and cfg in network['refused'] or '--' in network['refused']
                   for network in every_network[cfg] if network['refused'])

@pytest.mark.parametrize('cfg', [*CFGS, None])
def test_a_bundle_is_one_module(cfg, every_network):
    """It compiles, defines each name once, and imports torch, numpy, the standard library, and the host's modules. (None: the
    mapping network alone, over a host that is not here.)"""
    for name in bundle_names(every_network, [cfg]) if cfg else [MAPPED]:
        tree = ast.parse(bundle_source(name))
        compile(tree, name, 'exec')
        over = name.partition('_on_')[2].split('__')[0]
        allowed = {*sys.stdlib_module_names, 'torch', 'numpy', 'torch_utils', 'timm', *([over] if over else [])}
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                modules = ['.' * node.level + node.module] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
                assert {module.split('.')[0] for module in modules} <= allowed, f'{name} imports {modules}'
        defined = definitions(tree)
        assert len(defined) == len(set(defined)), name

def test_every_portable_module_is_in_a_bundle(every_network):
    """What is in none of them is tested by none of these tests, and has no reason to be portable."""
    defined = {name for bundle in bundle_names(every_network) for name in definitions(ast.parse(bundle_source(bundle)))}
    paths = [*(ROOT / 'spider_plugin' / 'portable').rglob('*.py'), *(ROOT / 'torch_utils_ext' / 'ops').glob('*.py')]
    names = {path: definitions(ast.parse(path.read_text('utf-8'))) for path in paths if path.name != '__init__.py'}
    assert len(names) > 20 and [path.name for path, there in names.items() if not defined.issuperset(there)] == []

def definitions(tree):
    return [node.name for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)]

#----------------------------------------------------------------------------
# Snapshots. All of them are written by this process, and opened by one that has only the reference host on its path.

OPEN_WITHOUT_PLUGIN = '''
import glob, pickle, sys, torch
class Forbidden:
    def find_spec(self, name, path=None, target=None):
        assert name.split('.')[0] != 'spider_plugin', name
        if name.split('.')[0] == 'torch_utils_ext':     # bundles ask for kernels, and do without
            raise ImportError(name)
sys.meta_path.insert(0, Forbidden())
sys.path.insert(0, sys.argv[1])
torch.set_num_threads(1)
torch.set_grad_enabled(False)
for path in sorted(glob.glob('*.pkl')):
    with open(path, 'rb') as file:
        data = pickle.load(file)
    images = data['G'](data['z'], None, noise_mode='const')
    torch.manual_seed(0)
    torch.save([images, data['D'] and data['D'](images, None)], path.replace('.pkl', '.pt'))
'''

@pytest.fixture(scope='module')
def opened(every_network, build_network, stirred, tmp_path_factory):
    """{cfg: [(options, file, what its networks gave there), ...]}"""
    path, written = tmp_path_factory.mktemp('without'), []
    for cfg in CFGS:
        for i, network in enumerate(accepted(every_network, cfg)):
            G, D = (module and stirred(module).eval().requires_grad_(False) for module in pair(network, build_network))
            (path / f'{cfg}-{i}.pkl').write_bytes(pickle.dumps(dict(G=G, D=D, z=latents(G))))
            written.append((cfg, network['options'], path / f'{cfg}-{i}.pkl'))
    (path / 'open.py').write_text(OPEN_WITHOUT_PLUGIN)
    command = [sys.executable, 'open.py', str(resource_dir('reference_host'))]
    done = subprocess.run(command, cwd=path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return {cfg: [(options, file, torch.load(file.with_suffix('.pt'))) for there, options, file in written if there == cfg]
            for cfg in CFGS}

@pytest.mark.parametrize('cfg', CFGS)
@torch.no_grad()
def test_a_snapshot_opens_without_the_plugin(cfg, opened):
    """To the last bit, as it does with it."""
    for options, file, (images, logits) in opened[cfg]:
        data = pickle.loads(file.read_bytes())
        here = draw(data['G'], data['z'])
        assert torch.equal(images, here) and here.std() > 1e-4, options
        assert (logits is None) == (data['D'] is None), options
        assert logits is None or torch.equal(logits, judge(data['D'], here)) and logits.isfinite().all(), options

#----------------------------------------------------------------------------
# What hosts do to networks: deep copies after a pass in training, pickles, requires_grad_(True) on all of G.

@pytest.mark.parametrize('cfg', CFGS)
def test_copies_and_pickles_after_a_pass_in_training(cfg, every_network, build_network):
    for network in accepted(every_network, cfg):
        modules = [module.train().requires_grad_(True) for module in pair(network, build_network) if module]
        run(*modules).sum().backward()
        twins = [copy.deepcopy(modules), pickle.loads(pickle.dumps(modules))]
        states = [tensors(module) for module in modules]
        expected = evaluated(*modules)
        for twin in twins:
            for module, state in zip(twin, states):
                assert all(a is not b and torch.equal(a, b) for a, b in zip(tensors(module), state, strict=True))
            assert all(map(torch.equal, evaluated(*twin), expected)), network['options']

def run(G, D=None):
    images = draw(G, latents(G))
    return images if D is None else judge(D, images)

@torch.no_grad()
def evaluated(G, D=None):
    images = draw(G.eval(), latents(G))
    return [images] if D is None else [images, judge(D.eval(), images)]

def tensors(network):
    return list(network.state_dict(keep_vars=True).values())

@pytest.mark.parametrize('cfg', CFGS)
@pytest.mark.parametrize('kind', ['bank', 'online'])
def test_a_source_stays_frozen(cfg, kind, every_network, build_network, prepared):
    """Whatever a host does to all of G, no tensor of its source is trained, averaged, copied or put into another mode."""
    path = prepared(kind, res=16, z_dim=16)
    fed = [network for network in accepted(every_network, cfg) if network['G_kwargs'].get('spider')]
    assert fed
    for network in fed:
        G = build_network(network['G_kwargs'], spider=dict(network['G_kwargs']['spider'], source=path))
        frozen = dict(images=G.source.mean_image) if kind == 'online' else dict(images=G.source.images, mean=G.source.mean_image)
        if kind == 'online':
            frozen |= G.source.network.state_dict(keep_vars=True)
        before = {name: tensor.clone() for name, tensor in frozen.items()}
        for twin in (G, copy.deepcopy(G)):
            assert {id(part.source) for part in twin.modules() if getattr(part, 'source', None) is not None} == {id(G.source)}
        G.train().requires_grad_(True)
        assert not {id(tensor) for tensor in frozen.values()} & {id(tensor) for tensor in tensors(G)}
        draw(G, latents(G)).square().sum().backward()
        with torch.no_grad():
            for parameter in G.parameters():
                parameter.sub_(parameter.grad if parameter.grad is not None else 0)
        assert not any(tensor.requires_grad or tensor.grad is not None for tensor in frozen.values())
        assert all(torch.equal(frozen[name], before[name]) for name in frozen)
        assert kind == 'bank' or not G.source.network.training

#----------------------------------------------------------------------------
