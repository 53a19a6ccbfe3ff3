"""Registries and the entry points that fill them."""

import os
import subprocess
import sys
import textwrap

import pytest

from spider_plugin.errors import SpiderError
from spider_plugin.registry import Registry, sources

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
    assert 'thief-point was left out (ValueError' in result.stderr
    for load, there in [('', False), ('bad-one', False), ('good-one', True), ('other, good-one-point', True)]:
        assert ('good' in source_names(tmp_path, load).stdout.split()) is there
