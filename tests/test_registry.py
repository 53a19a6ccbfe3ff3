"""Registries and the entry points that fill them."""

import os
import subprocess
import sys
import textwrap

import pytest

from spider_plugin.errors import SpiderError
from spider_plugin.options.discriminator import PluginDiscriminator
from spider_plugin.options.generators import IMAGE, VECTOR, PluginGenerator
from spider_plugin.options.mappings import MappingKind
from spider_plugin.registry import REGISTRIES, Registry, sources

def test_register_and_look_up():
    registry = Registry('thing')
    @registry.register('my-thing_2')
    def thing():
        pass
    assert registry['my-thing_2'] is thing and registry.lookup('my-thing_2', '--thing') is thing
    assert list(registry) == ['my-thing_2'] and len(registry) == 1 and 'other' not in registry
    with pytest.raises(SpiderError, match='--thing=other.*my-thing_2'):
        registry.lookup('other', '--thing')

def test_taken_and_invalid_names():
    registry = Registry('thing')
    registry.register('a')(1)
    for name in ('a', '', 'A', 'a b', '../a', '-a', 'a:b'):
        with pytest.raises(ValueError):
            registry.register(name)
    assert dict(registry) == {'a': 1}

def test_builtin_sources():
    assert {'noise', 'covariance', 'strokes', 'shapes'} <= set(sources)

#----------------------------------------------------------------------------
# What is registered is checked where it is registered.

@pytest.mark.parametrize('registry', REGISTRIES, ids=lambda registry: registry.kind.replace(' ', '-'))
@pytest.mark.parametrize('entry', [7, 'my_package.net', None])
def test_an_entry_has_the_class_of_its_registry(registry, entry):
    before = registry.registered()
    words = f"The {registry.kind} 'mine' is of class {type(entry).__name__}; register a "
    with pytest.raises(SpiderError, match=words) as caught:
        registry.register('mine')(entry)
    assert caught.value.message.endswith('.') and registry.registered() == before

def edit(c, given, host):
    pass

@pytest.mark.parametrize('entry, words', [
    (MappingKind(size=16, min_size=4),                              "The mapping 'mine' names no module; give the one"),
    (MappingKind(size=16, min_size=4, module=None),                 'field module of .* is None; give it a value of type str'),
    (MappingKind(size='16', min_size=4, module='a'),                "field size of .* is '16'; give it .* int or None"),
    (MappingKind(size=12, min_size=4, module='a'),                  'field size of .* is 12; give a power of two'),
    (MappingKind(size=16, min_size=0, module='a'),                  'field min_size of .* is 0'),
    (MappingKind(size=16, min_size=4, z_dim=-1, module='a'),        'field z_dim of .* is -1; give a number'),
    (MappingKind(size=16, min_size=4, module='my package'),         "module of .* is 'my package'; give a dotted name"),
    (MappingKind(size=16, min_size=4, needs=IMAGE, module='a'),     "needs 'image'; a kind of another package makes a vector"),
    (PluginGenerator(None),                                         'field edit of .* is None; .* Callable'),
    (PluginGenerator(edit, 7),                                      'field module of .* is 7; .* str or None'),
    (PluginGenerator(edit, 'a..b', 'Net'),                          "module of .* is 'a..b'"),
    (PluginGenerator(edit, 'a.b'),                                  'a module without a class'),
    (PluginGenerator(edit, None, 'Net'),                            'a class without a module'),
    (PluginGenerator(edit, 'a.b', 'Net', source=VECTOR),            "field source of .* is 'vector'; .* Set"),
    (PluginGenerator(edit, 'a.b', 'Net', source={'pixels'}),        r"source of .* is \['pixels'\]; use VECTOR and IMAGE"),
    (PluginGenerator(edit, 'a.b', 'Net', warm_start=print),         'field warm_start of .*; .* str or None'),
    (PluginGenerator(edit, 'a.b', 'Net', refuses=['cbase']),        'field refuses of .*; .* Mapping'),
    (PluginGenerator(edit, 'a.b', 'Net', refuses={'map-depth': 'which'}),   "refuses 'map-depth'; give the name of a parameter"),
    (PluginGenerator(edit, 'a.b', 'Net', projected=dict(dlr=1)),    'field projected of .*; .* ProjectedDefaults or None'),
    (PluginGenerator(edit, 'a.b', 'Generator'),                     'a class Generator, as hosts have'),
    (PluginGenerator(edit, 'a.b', 'DCGANGenerator'),                "a class DCGANGenerator, as the generator 'dcgan' has"),
    (PluginDiscriminator(edit, 7),                                  'field module of .* is 7'),
])
def test_fields_that_cannot_be(entry, words):
    kind = {MappingKind: 'mapping', PluginGenerator: 'generator', PluginDiscriminator: 'discriminator'}[type(entry)]
    registry, = (registry for registry in REGISTRIES if registry.kind == kind)
    with pytest.raises(SpiderError, match=words) as caught:
        registry.register('mine')(entry)
    assert 'mine' not in registry.registered() and '\n' not in caught.value.message and caught.value.message.endswith('.')

#----------------------------------------------------------------------------
# A distribution of another author, as pip would leave it on the path.

def install(path, name, body):
    module = name.replace('-', '_')
    (path / f'{module}.py').write_text(textwrap.dedent(body))
    info = path / f'{module}-1.0.dist-info'
    info.mkdir(parents=True)
    (info / 'METADATA').write_text(f'Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n')
    (info / 'entry_points.txt').write_text(f'[spider_plugin]\n{name}-point = {module}\n')

def source_names(path, load=None):
    env = {**os.environ, 'PYTHONPATH': os.pathsep.join([str(path), *sys.path])}
    env.pop('SPIDER_LOAD_PLUGINS', None)
    if load is not None:
        env['SPIDER_LOAD_PLUGINS'] = load
    script = 'from spider_plugin.registry import sources, metrics; print(*sources, *metrics)'
    return subprocess.run([sys.executable, '-c', script], env=env, capture_output=True, text=True, check=True)

def test_entry_points(tmp_path):
    install(tmp_path, 'good-one', '''
        from spider_plugin import registry
        registry.sources.register('good')(print)
        registry.metrics.register('goodness')(print)
    ''')
    install(tmp_path, 'bad-one', 'raise RuntimeError("broken inside")')
    install(tmp_path, 'thief', '''
        from spider_plugin import registry
        registry.sources.register('noise')(print)
    ''')
    result = source_names(tmp_path)
    assert {'good', 'noise', 'goodness'} <= set(result.stdout.split())
    assert 'bad-one-point was left out (RuntimeError: broken inside)' in result.stderr
    assert "thief-point was left out (There is a source named 'noise' already" in result.stderr
    for load, there in [('', False), ('bad-one', False), ('good-one', True), ('other, good-one-point', True)]:
        assert ('good' in source_names(tmp_path, load).stdout.split()) is there

def test_a_module_that_ends_midway_adds_nothing(tmp_path):
    """Nor does it keep the entries of a module that it imported from one that registers them by an entry point of its own."""
    install(tmp_path, 'midway', '''
        from spider_plugin import registry
        registry.sources.register('half')(print)
        import midway_other
        registry.metrics.register('whole')('no function')
    ''')
    (tmp_path / 'midway_other.py').write_text("from spider_plugin import registry\nregistry.sources.register('other')(print)\n")
    result = source_names(tmp_path)
    assert not {'half', 'whole', 'other'} & set(result.stdout.split())
    assert result.stderr.splitlines() == ["spider-plugin: plugin midway-point was left out (The metric 'whole' is of class str; "
                                          'register a function.)']

def test_another_entry_point_registers_what_was_taken_back(tmp_path):
    package = tmp_path / 'duo'
    package.mkdir()
    (package / '__init__.py').write_text('')
    (package / 'bad.py').write_text('import duo.good\nraise RuntimeError("first line\\nsecond line")\n')
    (package / 'good.py').write_text(textwrap.dedent('''
        from spider_plugin import registry
        from spider_plugin.options.mappings import MappingKind
        from spider_plugin.portable.source.mapping import mapping_input
        registry.sources.register('good')(print)
        @mapping_input('goodkind')
        def build(source, z_dim): ...
        registry.mappings.register('goodkind')(MappingKind(16, 4, module=__name__))
    '''))
    info = tmp_path / 'duo-1.0.dist-info'
    info.mkdir()
    (info / 'METADATA').write_text('Metadata-Version: 2.1\nName: duo\nVersion: 1.0\n')
    (info / 'entry_points.txt').write_text('[spider_plugin]\na-bad = duo.bad\nb-good = duo.good\n')
    result = source_names(tmp_path)
    assert 'good' in result.stdout.split()
    assert result.stderr.splitlines() == ['spider-plugin: plugin a-bad was left out (RuntimeError: first line\\nsecond line)',
                                          'spider-plugin: b-good adds source good, mapping goodkind']
