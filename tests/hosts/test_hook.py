"""The attached line and the runner, on a minimal host."""

import concurrent.futures
import importlib
import json
import os
import re
import runpy
import sys
import types

import click
import pytest
from click.testing import CliRunner

from spider_plugin.errors import SpiderError
from spider_plugin.options.generators import PluginGenerator
from spider_plugin.options.table import OPTIONS
from spider_plugin.options.types import Option

SIDS = ['sid50k_full', 'sid50k', 'sid5k', 'sid1k'] # Built in.

#----------------------------------------------------------------------------
# The commands in this process. click and the import system are restored afterwards.

@pytest.fixture
def train(fake_host, monkeypatch):
    """The host's train command after the hook has seen it; train(**kwargs of fake_host)."""
    def load(**kwargs):
        script = fake_host(**kwargs)
        monkeypatch.syspath_prepend(script.parent)
        return runpy.run_path(str(script))['main']
    with monkeypatch.context() as patch:
        init = click.core.Command.__init__
        patch.setattr(click.core.Command, '__init__', getattr(init, '__wrapped__', init))
        patch.setattr(sys, 'meta_path', [f for f in sys.meta_path if type(f).__name__ != '_HostImports'])
        patch.delitem(sys.modules, 'spider_plugin.hosts.hook', raising=False)
        for name in [name for name in sys.modules if name.split('.')[0] == 'metrics']:
            patch.delitem(sys.modules, name)
        yield load
        for name in [name for name in sys.modules if name.split('.')[0] == 'metrics']:
            del sys.modules[name]

def test_help_has_groups_of_the_plugin(train):
    text = CliRunner().invoke(train(), ['--help'], terminal_width=200).output
    own, actual = text.split('Spider options:')
    assert '--outdir' in own and '--spider-' not in own and '[stylegan2|tiny|dcgan|' in own and 'pggan' in own
    from spider_plugin.options.table import OPTIONS
    assert all(option.name in actual for option in OPTIONS)
    assert '[default: residual; encoder' in actual and '[default: 64' in actual

@pytest.mark.parametrize('name', ['--preset', '--spider-cfg', *(option.name for option in OPTIONS)])
def test_an_option_of_the_host_keeps_its_name(train, name):
    """train.py --help of a host with a --preset, or any other option, of its own."""
    train()
    seen = []
    params = [click.Option([text]) for text in ('--outdir', '--data', name)]
    command = click.Command('train', params=params, callback=lambda **kwargs: seen.append(kwargs))
    text = CliRunner().invoke(command, ['--help'], terminal_width=200).output
    own, plugin = text.split('Presets:')
    assert f'  {name} ' in own and f'  --spider-{name[2:]}' in plugin and not re.search(rf'^  {name} ', plugin, re.M)
    result = CliRunner().invoke(command, ['--outdir=x', '--data=x', f'{name}=mine'])
    assert result.exit_code == 0 and seen == [{'outdir': 'x', 'data': 'x', name[2:].replace('-', '_'): 'mine'}]

@pytest.mark.parametrize('cfg', [[], ['--cfg=base']])
def test_networks_of_the_plugin_reach_any_host(train, monkeypatch, fake_host, cfg):
    """--spider-cfg, in a host with a --cfg of any kind or none."""
    from spider_plugin.options import table
    asked = []
    monkeypatch.setattr(table, 'apply_options', lambda c, options, given, host: asked.append((options['cfg'], given)) or [])
    script = fake_host(launch='launch_training')
    text = script.read_text().replace("@click.option('--cfg', type=click.Choice(['stylegan2', 'tiny']), default='tiny')\n",
                                      "@click.option('--cfg')\n" if cfg else '')
    script.write_text(text if cfg else text.replace('def main(outdir, data, cfg,', "def main(outdir, data, cfg='tiny',")
                      .replace("cfg='tiny', glr, detector, code", "glr, detector, code, cfg='tiny'"))
    monkeypatch.syspath_prepend(script.parent)
    command = runpy.run_path(str(script))['main']
    launched = []
    monkeypatch.setitem(command.callback.__wrapped__.__globals__, 'launch_training',
                        lambda c, desc, outdir, dry_run: launched.append(desc))
    result = CliRunner().invoke(command, ['--outdir=x', '--data=x', *cfg, '--spider-cfg=dcgan'])
    assert result.exit_code == 0, result.output
    assert [name for name, given in asked] == ['dcgan'] and launched[0].endswith('-run-dcgan')
    result = CliRunner().invoke(command, ['--outdir=x', '--data=x', '--spider-cfg=no'])
    assert result.exit_code == 2 and 'pggan' in result.output

def test_networks_of_the_plugin_are_named_once(train, fake_host):
    result = CliRunner().invoke(train(), ['--outdir=x', '--data=x', '--cfg=dcgan', '--spider-cfg=pggan'])
    assert result.exit_code == 2 and 'both name networks of the plugin; give one of them' in result.stderr

def test_a_renamed_option_of_the_plugin_works(train, monkeypatch, fake_host):
    from spider_plugin.options import table
    asked = []
    monkeypatch.setattr(table, 'apply_options', lambda c, options, given, host: asked.append((options['dsc'], given)) or [])
    script = fake_host(launch='launch_training')
    more = "@click.option('--dsc')\n@click.option('--detector')"
    script.write_text(script.read_text().replace("@click.option('--detector')", more).replace(', code):', ', code, dsc):'))
    monkeypatch.syspath_prepend(script.parent)
    command = runpy.run_path(str(script))['main']
    monkeypatch.setitem(command.callback.__wrapped__.__globals__, 'launch_training', lambda c, desc, outdir, dry_run: None)
    CliRunner().invoke(command, ['--outdir=x', '--data=x', '--dsc=theirs'])
    assert asked == []
    CliRunner().invoke(command, ['--outdir=x', '--data=x', '--dsc=theirs', '--spider-dsc'])
    assert asked == [(True, {'outdir', 'data', 'dsc'})]

def test_only_training_commands_get_options(train):
    train()
    @click.command()
    @click.option('--network')
    @click.option('--outdir')
    def generate(network, outdir):
        pass
    assert [param.name for param in generate.params] == ['network', 'outdir']

def test_help_lists_the_metrics(train):
    """python calc_metrics.py --help in an attached checkout"""
    train()
    for extra, said in (([], True), (['--detector'], False)):
        command = click.Command('calc_metrics', params=[click.Option(['--metrics']), *(click.Option([name]) for name in extra)])
        text = ' '.join(CliRunner().invoke(command, ['--help']).output.split())
        assert f'Metrics: fid, {", ".join(SIDS)}' in text and ('SPIDER_DETECTOR=[FILE.pt|URL|demo|lite1]' in text) == said

def test_errors_of_the_library_are_shown_by_any_command(train):
    """A metric of the plugin in a host's calc_metrics.py, for example."""
    train()
    @click.command()
    def calc_metrics():
        raise SpiderError('--network=x holds no G_ema; give another.')
    result = CliRunner().invoke(calc_metrics, [])
    assert (result.exit_code, result.stderr) == (2, 'Error: --network=x holds no G_ema; give another.\n')

def test_installing_twice_is_installing_once(train):
    train()
    hook = sys.modules['spider_plugin.hosts.hook']
    init, finders = click.core.Command.__init__, list(sys.meta_path)
    hook.install()
    importlib.reload(hook)
    assert click.core.Command.__init__ is init and sys.meta_path == finders
    assert CliRunner().invoke(train(), ['--help']).output.count('--spider-source') == 1

def test_the_hosts_own_name_wins(train, monkeypatch):
    from spider_plugin import registry
    monkeypatch.setitem(registry.generators._entries, 'tiny', PluginGenerator(lambda c, given, host: None))
    text = CliRunner().invoke(train(), ['--help'], terminal_width=200).output
    assert re.search(r'\[stylegan2\|tiny\|dcgan\|.*pggan.*\|spider-tiny\]', text)

def test_an_option_of_a_generator_gives_way_to_the_hosts(train, tmp_path, monkeypatch):
    """It is --spider-NAME, and the generator's edit gets it by its name."""
    from spider_plugin import registry
    seen = []
    options = tuple(Option(name, int, 3, 'INT', 'Width', 'Mine') for name in ('--code', '--mine-depth'))
    def edit(c, given, host, code, mine_depth):
        seen.append((code, mine_depth, sorted(given)))
    monkeypatch.setitem(registry.generators._entries, 'mine', PluginGenerator(edit, options=options))
    command = train()
    host, mine = CliRunner().invoke(command, ['--help'], terminal_width=200).output.split('Mine:')
    assert host.count('--code') == 1 and '--spider-code INT' in mine and '--mine-depth INT' in mine
    args = ['--outdir', str(tmp_path / 'out'), '--data=x', '--cfg=mine', '--code=0']
    CliRunner().invoke(command, [*args, '--mine-depth=5'])
    CliRunner().invoke(command, [*args, '--spider-code=4'])
    assert seen == [(3, 5, ['cfg', 'data', 'mine_depth', 'outdir']), (4, 3, ['cfg', 'code', 'data', 'outdir'])]

def test_an_option_of_a_generator_gives_way_to_the_plugins(train, monkeypatch):
    """A host's --size renames that of a generator, and --spider-size is the plugin's."""
    from spider_plugin import registry
    options = (Option('--size', int, 3, 'INT', 'Width', 'Mine'),)
    monkeypatch.setitem(registry.generators._entries, 'mine', PluginGenerator(lambda *_: None, options=options))
    train()
    command = click.Command('train', params=[click.Option([name]) for name in ('--outdir', '--data', '--size')],
                            callback=lambda **kwargs: None)
    names = [name for param in command.params for name in param.opts]
    assert names.count('--spider-size') == 1 and '--spider-spider-size' in names

@pytest.mark.parametrize(['args', 'code', 'words'], [
    (['--spider-mapping=encoder'],          2, '--spider-mapping has no effect without --spider-source'),
    (['--spider-source=x', '--spider-bank=many'], 2, "'many' is neither a number of images"),
    (['--spider-source=x', '--spider-bank=0'],    2, "'0' is neither"),
    (['--spider-source=x', '--spider-bank=2x'],   2, "'2x' is neither"),
    (['--spider-source=x', '--spider-noise=-1'],  2, '--spider-noise'),
    (['--spider-source=x', '--spider-size=0'],    2, '--spider-size'),
    (['--spider-unknown'],                  2, '--spider-unknown'),
    (['--cfg=biggan'],                      2, '--cfg'),
    (['--code=3'],                          3, ''),
])
def test_exit_codes(train, tmp_path, args, code, words):
    result = CliRunner().invoke(train(), ['--outdir', str(tmp_path / 'out'), '--data=x', *args])
    assert result.exit_code == code and words in result.output
    assert not (tmp_path / 'out').exists()

def test_a_host_with_another_launch(train, tmp_path):
    command = train(launch='start')
    result = CliRunner().invoke(command, ['--outdir', str(tmp_path / 'out'), '--data=x', '--cfg=dcgan'])
    assert result.exit_code == 2 and 'neither launch_training nor setup_training_loop_kwargs' in result.output
    assert not (tmp_path / 'out').exists()

ADA = dict(launch='start', setup='setup_training_loop_kwargs') # As stylegan2-ada-pytorch does it.

@pytest.mark.parametrize('args, looked_at', [([], False), (['--glr=1'], False), (['--dsc'], True)])
def test_the_images_are_looked_at_before_the_host_where_an_option_is_given(train, tmp_path, monkeypatch, args, looked_at):
    """They are those of a host of the StyleGAN kind; without an option of the plugin it behaves as always."""
    folder, module, started = tmp_path / 'set', types.ModuleType('training.dataset'), []
    folder.mkdir()
    (folder / '0.png').write_bytes(b'\xff\xd8\xff no PNG')
    module.ImageFolderDataset = type('Dataset', (), dict(_file_ext=None))
    monkeypatch.setitem(sys.modules, 'training', types.ModuleType('training'))
    monkeypatch.setitem(sys.modules, 'training.dataset', module)
    command = train(**ADA)
    setup = 'setup_training_loop_kwargs'
    stock = command.callback.__wrapped__.__globals__[setup]
    monkeypatch.setitem(command.callback.__wrapped__.__globals__, setup, lambda **kwargs: (started.append(1), stock(**kwargs))[1])
    monkeypatch.setitem(command.callback.__wrapped__.__globals__, 'start', lambda **kwargs: None)
    result = CliRunner().invoke(command, ['--outdir', str(tmp_path / 'out'), f'--data={folder}', *args])
    assert (result.exit_code, bool(started)) == ((2, False) if looked_at else (0, True)), result.output
    assert ('--data: 0.png' in result.output) == looked_at and not (tmp_path / 'out').exists()

def test_a_host_that_sets_up_and_launches_itself(train, toy_plugin, tmp_path, monkeypatch):
    from spider_plugin import registry
    def edit(c, given, host):
        c['G_kwargs'] = dict(class_name='toy.Net')
    monkeypatch.setitem(registry.generators._entries, 'toynet', PluginGenerator(edit))
    command, started = train(**ADA), {}
    monkeypatch.setitem(command.callback.__wrapped__.__globals__, 'start', lambda **kwargs: started.update(kwargs))
    for cfg, class_name in (('tiny', 'nets.Generator'), ('toynet', 'toy.Net')):
        result = CliRunner().invoke(command, ['--outdir', str(tmp_path / 'out'), '--data=x', f'--cfg={cfg}'])
        assert result.exit_code == 0, result.output
        assert started['c']['G_kwargs'] == dict(class_name=class_name) and started['desc'] == f'{cfg}-run'

@pytest.mark.parametrize('header, arguments', [
    ('config, run_dir', 'config=c, run_dir=outdir'),                            # no description
    ('outdir, run_desc, args', 'outdir, desc, c'),                              # other names, by place
    ('outdir, **kwargs', 'outdir, **c'),                                        # the config itself
    ('c, desc, outdir, dry_run, only_classifier', 'c, desc, outdir, dry_run=False, only_classifier=True')])
def test_launches_with_other_arguments(train, fake_host, tmp_path, monkeypatch, header, arguments):
    from spider_plugin import registry
    def edit(c, given, host):
        c['G_kwargs'] = dict(class_name='toy.Net')
    monkeypatch.setitem(registry.generators._entries, 'toynet', PluginGenerator(edit))
    script = fake_host()
    call = 'launch_training(c=c, desc=desc, outdir=outdir, dry_run=False)'
    text = script.read_text().replace(call, f'launch_training({arguments})')
    script.write_text(text.replace('def launch_training(c, desc, outdir, dry_run):',
                                   f'def launch_training({header}):\n    print("launched", locals())\n    return'))
    monkeypatch.syspath_prepend(script.parent)
    command = runpy.run_path(str(script))['main']
    for cfg, class_name in (('tiny', 'nets.Generator'), ('toynet', 'toy.Net')):
        result = CliRunner().invoke(command, ['--outdir', str(tmp_path / 'out'), '--data=x', f'--cfg={cfg}'])
        assert result.exit_code == 0, result.output
        launched = result.output.partition('launched')[2]
        assert class_name in launched and ('desc' not in header or f'{cfg}-run' in launched)

@pytest.mark.parametrize('returned', ['config', '(config, "run")', '("run", config, {"more": 1})', '("run", config)'])
def test_setups_that_return_more_or_less(train, returned):
    hook = (train(), sys.modules['spider_plugin.hosts.hook'])[1]
    config = dict(G_kwargs={})
    made = eval(returned, dict(config=config))
    def change(c, desc):
        c['G_kwargs']['changed'] = True
        return f'{desc}-toynet'
    got = hook._edit_what_it_returns(lambda: made, change, True)()
    assert config == dict(G_kwargs=dict(changed=True)) and type(got) is type(made)
    assert got is config or tuple(part for part in got if part != 'run-toynet') == tuple(part for part in made if part != 'run')

def test_a_launch_without_a_config(train):
    hook = (train(), sys.modules['spider_plugin.hosts.hook'])[1]
    def start(args, run_desc):
        return args, run_desc
    assert hook._edit_what_it_gets(start, None, False)(dict(lr=1), run_desc='x') == (dict(lr=1), 'x')
    with pytest.raises(SpiderError, match='launches no config with G_kwargs, so the options of spider-plugin cannot reach it'):
        hook._edit_what_it_gets(start, None, True)(dict(lr=1), 'x')

@pytest.mark.parametrize('names', [{}, ADA])
def test_a_run_that_loses_its_number_takes_the_next(train, tmp_path, monkeypatch, names):
    command, tried = train(**names), []
    def start(c, desc, outdir, dry_run):
        tried.append(desc)
        if len(tried) <= 2: # Another run makes the directory between the choice of the number and this.
            os.makedirs(tmp_path / f'0000{len(tried)}-{desc}')
            os.makedirs(tmp_path / f'0000{len(tried)}-{desc}')
    monkeypatch.setitem(command.callback.__wrapped__.__globals__, names.get('launch', 'launch_training'), start)
    result = CliRunner().invoke(command, ['--outdir', str(tmp_path / 'out'), '--data=x'])
    assert result.exit_code == 0 and tried == ['tiny-run'] * 3
    assert result.stderr.count('taking the next number') == 2 and '00002-tiny-run' in result.stderr

@pytest.mark.parametrize('name', ['00007-run', 'cache'])
def test_a_directory_that_stays_in_the_way_is_an_error(train, tmp_path, monkeypatch, name):
    command = train()
    (tmp_path / name).mkdir()
    monkeypatch.setitem(command.callback.__wrapped__.__globals__, 'launch_training',
                        lambda c, desc, outdir, dry_run: os.makedirs(tmp_path / name))
    result = CliRunner().invoke(command, ['--outdir', str(tmp_path / 'out'), '--data=x'])
    assert isinstance(result.exception, FileExistsError)

#----------------------------------------------------------------------------
# In processes: three ways to attach, and a spawned child each time.

def lines(result):
    return [json.loads(line) for line in result.stdout.splitlines() if line.startswith('{')]

@pytest.mark.parametrize(['way', 'names'], [('line', {}), ('runner', {}), ('both', {}), ('line', ADA)])
def test_spawned_children(way, names, fake_host, toy_plugin, python, tmp_path):
    script = fake_host(**names) if way != 'runner' else fake_host(line='')
    runner = [] if way == 'line' else ['-m', 'spider_plugin.hosts.run']
    args = [f'--outdir={tmp_path / "out"}', '--data=x', '--cfg=toynet']
    result = python(*runner, script, *args, paths=[toy_plugin], cwd=tmp_path, SPIDER_DETECTOR='det.pt')
    assert result.returncode == 0, result.stderr
    child, = lines(result)
    assert child['hooked'] and child['child'] == '__mp_main__' and not child['torch']
    assert child['metrics'] == ['fid', *SIDS, 'toy'] # the host's fid stays
    assert child['c']['G_kwargs']['class_name'] == 'toy_plugin.Net'
    assert child['c']['detector'] == 'det.pt' and child['c']['cfg'] == 'stylegan2'
    saved = tmp_path / 'out' / 'toynet-run' / 'training_options.json'
    assert json.loads(saved.read_text()) == child['c']
    assert 'metric fid already' in result.stderr

NUMBERED = """
    import time
    number = sum(name[:5].isdigit() for name in os.listdir(outdir))
    desc = f'{number:05d}-{desc}'
    time.sleep(0.5)     # The others choose theirs meanwhile.
    os.makedirs(os.path.join(outdir, desc))
"""

def test_eight_runs_that_start_at_once_have_numbers_of_their_own(fake_host, python, tmp_path):
    script, outdir = fake_host(), tmp_path / 'out'
    outdir.mkdir()
    text = script.read_text()
    script.write_text(text.replace('    os.makedirs(os.path.join(outdir, desc))\n', NUMBERED))
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        done = list(pool.map(lambda _: python(script, f'--outdir={outdir}', '--data=x'), range(8)))
    assert [process.returncode for process in done] == [0] * 8, [process.stderr for process in done]
    assert sorted(os.listdir(outdir)) == [f'{number:05d}-tiny-run' for number in range(8)]

def test_without_options_and_without_plugin(fake_host, python, tmp_path):
    script = fake_host()
    with_plugin = python(script, f'--outdir={tmp_path / "a"}', '--data=x')
    without = python(script, f'--outdir={tmp_path / "b"}', '--data=x', plugin=False)
    assert with_plugin.returncode == without.returncode == 0
    saved = [(tmp_path / name / 'tiny-run' / 'training_options.json').read_bytes() for name in 'ab']
    assert saved[0] == saved[1]
    assert without.stderr == 'spider-plugin is not installed: going on without it\n' and with_plugin.stderr == ''
    refused = python(script, f'--outdir={tmp_path / "c"}', '--data=x', '--spider-source=x', plugin=False)
    assert refused.returncode == 2 and 'No such option' in refused.stderr

def test_a_line_of_another_version_is_reported_and_works(fake_host, python, tmp_path):
    line = 'if True: import spider_plugin.hosts.hook  # attaches spider-plugin'
    result = python(fake_host(line=line), f'--outdir={tmp_path / "out"}', '--data=x')
    assert lines(result)[0]['hooked'] and result.stderr.count('of another version') == 1 and 'spider attach' in result.stderr
    assert python(fake_host(), f'--outdir={tmp_path / "other"}', '--data=x').stderr == ''

def test_plugins_can_be_turned_off(fake_host, toy_plugin, python, tmp_path):
    result = python(fake_host(), f'--outdir={tmp_path / "out"}', '--data=x', paths=[toy_plugin], SPIDER_LOAD_PLUGINS='')
    assert lines(result)[0]['metrics'] == ['fid', *SIDS]

def test_a_package_that_a_script_misses_is_named(fake_host, python, tmp_path):
    script = fake_host(line='')
    script.write_text(script.read_text().replace('import click\n', 'import click\nimport no_such_package.part\n', 1))
    done = python('-m', 'spider_plugin.hosts.run', script, '--help', cwd=tmp_path)
    assert done.returncode == 2 and done.stderr == (
        f'Error: train.py imports no_such_package, which is not installed; `pip install no_such_package` (`spider doctor '
        f'{script.parent}` lists all that is missing).\n')

def test_the_runner_looks_like_the_script(fake_host, python, tmp_path):
    script = fake_host(line='')
    usage = python('-m', 'spider_plugin.hosts.run', script, '--help', cwd=tmp_path).stdout
    assert usage.startswith('Usage: train.py [OPTIONS]')
    assert python('-m', 'spider_plugin.hosts.run', script, '--outdir=x', '--data=x', '--code=3').returncode == 3
    for name in ('SPIDER_SHIMS', 'SPIDER_DEVICE'):
        refused = python('-m', 'spider_plugin.hosts.run', script, '--help', **{name: 'maybe'})
        assert refused.returncode == 2 and refused.stderr.startswith(f'Error: {name}=maybe is not a known value')
        assert len(refused.stderr.splitlines()) == 1
    for args in ([], ['nowhere.py']):
        result = python('-m', 'spider_plugin.hosts.run', *args)
        assert result.returncode == 2 and result.stderr.startswith('Error: ') and 'usage' in result.stderr
