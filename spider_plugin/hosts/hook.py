"""The hook that the attached line imports. It gives a host's scripts the plugin's options, --cfg values and metrics, and the
shims that the host needs on a current stack.

Importing this module installs the hook, once in a process. Hosts spawn processes, and every child imports the script again. So
nothing heavy is imported here, and nothing is kept that a child would need; the options end in the config."""

import contextlib
import copy
import functools
import importlib
import inspect
import os
import re
import sys

import click

from spider_plugin import registry
from spider_plugin.automatic import command as automatic
from spider_plugin.errors import SpiderError, printable
from spider_plugin.files import cache_uses
from spider_plugin.hosts import attach, edge, imports, passes, plain_resume, saving, tools
from spider_plugin.hosts.shims import cpu_device, stack
from spider_plugin.options import presets
from spider_plugin.options.types import file_type

# Options of hosts that are paths or URLs, of which ~ is then the home folder.
_PATHS = {'outdir', 'data', 'resume', 'network_pkl', 'source', 'dest', 'output', 'projected_w', 'target_fname'}
METRICS_MODULE = 'metrics.metric_main'
READING_MODULE = 'training.snapshots'   # of the reference host

def install():
    """Install the hook. Idempotent."""
    if hasattr(click.core.Command.__init__, 'spider_plugin'):
        return
    stock_init = click.core.Command.__init__
    edge.print_anything()
    @functools.wraps(stock_init)
    def init(self, *args, **kwargs):
        stock_init(self, *args, **kwargs)
        edge.guard(self)
        _name_as_started(self)
        stack.mend_command(self)
        if cpu_device.requested() and self.callback is not None: # The script has imported torch by now.
            cpu_device.mend_globals(inspect.unwrap(self.callback).__globals__)
        if not imports.in_child(): # A spawned child has its config already.
            extend_command(self)
    init.spider_plugin = True
    click.core.Command.__init__ = init
    imports.note_folder()
    imports.install()
    imports.after_import('metrics.metric_utils', passes.extend)
    imports.after_import(METRICS_MODULE, register_metrics)
    imports.after_import(METRICS_MODULE, tools.check_metrics_of)
    imports.after_import(tools.SCRIPTS, tools.give_functions)
    imports.after_import(tools.LOADER, tools.extend_loader)
    imports.after_import(tools.PATHS, tools.extend_path_length)
    imports.after_import(READING_MODULE, _give_reader)
    imports.after_import('metrics.detectors', _give_detectors)
    imports.after_import(_is_bundle, _watch_source)
    imports.after_import('torch_utils.training_stats', _watch_collapse)
    imports.after_import(saving.LOOP_MODULE, saving.extend)
    with edge.exit_on_errors():
        stack.arm()
        cpu_device.arm()
    if not imports.in_child():
        _say_skew()

def _say_skew():
    """Print a sentence if another version wrote the line in the running script."""
    script = getattr(sys.modules['__main__'], '__file__', None)
    sentence = attach.skew(script) if script else None
    if sentence is not None:
        print(sentence, file=sys.stderr)

def _is_bundle(name):
    return name.startswith('spider_plugin.bundles.')

def _watch_source(bundle):
    from spider_plugin.training import learned_gains, source_cost
    source_cost.watch(bundle)
    learned_gains.watch(bundle)

def _watch_collapse(training_stats):
    from spider_plugin.training.collapse import watch_signs
    watch_signs(training_stats)

def _name_as_started(command):
    """Have a command take -h for --help, and its help show by what it was started, `spider train` for example."""
    command.context_settings.setdefault('help_option_names', ['-h', '--help'])
    program = os.environ.get('SPIDER_RUN_PROGRAM')
    if program:
        command.main = functools.partial(command.main, prog_name=program)
        if command.help is not None:
            command.help = re.sub(r'python \w+\.py', program, command.help)

def extend_command(command):
    """Extend a click command of a host; one with --outdir and --data is a training command and gets the plugin's options."""
    params = {param.name: param for param in command.params}
    for name in _PATHS & set(params):
        if params[name].type is click.STRING:
            params[name].type = file_type
    if 'detector' in params:
        params['detector'].envvar = 'SPIDER_DETECTOR'
        params['detector'].show_envvar = True
    if 'metrics' in params:
        _add_help(command, lambda ctx, formatter: _list_metrics(formatter, 'detector' in params))
        if command.callback is not None and 'detector' not in params:
            command.callback = _preparing_metrics(command.callback)
    if command.callback is not None and {'outdir', 'data'} <= set(params):
        _extend_training(command, params)
    elif command.callback is not None and 'network_pkl' in params:
        if 'metrics' not in params:
            tools.note(params)
        command.callback = _saying_who_reads(command.callback)

def _preparing_metrics(callback):
    @functools.wraps(callback)
    def run(*args, **kwargs):
        names = kwargs.get('metrics')
        passes.prepare([str(name) for name in names] if isinstance(names, (list, tuple)) else [])
        return callback(*args, **kwargs)
    return run

def _add_help(command, write):
    """Have write(ctx, formatter) follow the options in the help of a click command."""
    stock = command.format_options
    def format_options(ctx, formatter):
        stock(ctx, formatter)
        write(ctx, formatter)
    command.format_options = format_options

def _list_metrics(formatter, has_detector):
    """Write the names that --metrics can take, those of the plugin among them; has_detector: whether the host has --detector."""
    try:
        names = importlib.import_module(METRICS_MODULE).list_valid_metrics()
    except (ImportError, AttributeError):   # a host with metrics of another kind
        return
    with formatter.section('Metrics'):
        formatter.write_text(', '.join(names))
        if not has_detector:
            formatter.write_text('The environment variable SPIDER_DETECTOR=[FILE.pt|URL|demo|lite1] is the network of the '
                                 'metrics that compare features; their results then have its name as a label.')

#----------------------------------------------------------------------------
# Who reads a pickle. The reference host reads by the plugin's reader; others unpickle, and are left as they are.

class _Later:
    """The functions of a module, which is imported at the first call."""

    def __init__(self, module):
        self._module = module

    def __getattr__(self, name):
        return getattr(importlib.import_module(self._module), name)

def _give_reader(module):
    if hasattr(module, 'reader'):
        module.reader = _Later('spider_plugin.snapshots.host_door')

def _give_detectors(module):
    """Give the reference host the named detectors."""
    if hasattr(module, 'named'):
        module.named = _Later('spider_plugin.detectors')

def _host_unpickles():
    """Whether the host that is running unpickles snapshots, as all but the reference host do."""
    try:
        return not isinstance(getattr(importlib.import_module(READING_MODULE), 'reader', None), _Later)
    except ImportError:
        return True

def _say_who_reads(option):
    print(f'spider-plugin: this host unpickles {option} itself, which runs any code that the file carries; give a file that you '
          'trust (docs/security.md)', file=sys.stderr)

def _saying_who_reads(callback):
    @functools.wraps(callback)
    def run(*args, **kwargs):
        if kwargs.get('network_pkl') is not None and _host_unpickles():
            _say_who_reads('--network')
        return callback(*args, **kwargs)
    return run

#----------------------------------------------------------------------------
# Training commands.

class _PluginOption(click.Option):
    """An option of the plugin. `get_help_record` is None, so that click does not list it among the host's options.

    plugin_name: its name in the plugin, which differs from that on the command line where the host has an option of this name.
    group:       the heading above it."""

    def __init__(self, *args, plugin_name, group, **kwargs):
        super().__init__(*args, **kwargs)
        self.plugin_name, self.group = plugin_name, group

    def get_help_record(self, ctx):
        return None

    def plugin_help_record(self, ctx):
        return super().get_help_record(ctx)

def _extend_training(command, params):
    from spider_plugin.options.table import all_options
    taken = {text for param in command.params
             for text in (*param.opts, *param.secondary_opts, f'--{param.name}'.replace('_', '-'))}
    def made(make, name, group):
        free = _free_name(name, taken)
        taken.add(free)
        return make(functools.partial(_PluginOption, plugin_name=name, group=group), name=free)
    options = {option.key: made(option.on_command, option.name, option.group) for option in all_options()}
    launch = made(_cfg_option, _CFG, 'Launch options')
    added = [made(presets.option, presets.NAME, 'Presets'), *options.values(), launch]
    command.params += added
    if automatic.requested():
        added = [*automatic.extend(command, lambda option: made(option.on_command, option.name, option.group)), *added]
    names = {key: option.name for key, option in options.items()}
    command.callback = _training_callback(command.callback, names, launch.name, *_extend_cfg(params.get('cfg')))
    def format_options(ctx, formatter):
        for group in dict.fromkeys(option.group for option in added):
            with formatter.section(group):
                formatter.write_dl([option.plugin_help_record(ctx) for option in added if option.group == group])
    _add_help(command, format_options)

_CFG = '--spider-cfg'

def _cfg_option(cls, name, **kwargs):
    return cls([name], type=click.Choice(sorted(registry.generators)), metavar='NAME',
               help='Networks of the plugin in place of those of the host\'s configuration, in a host with any --cfg or none: '
                    f'{", ".join(sorted(registry.generators))}', **kwargs)

def _free_name(name, taken):
    """Return the name of an option of the plugin on a command line: the host's options keep theirs, and the plugin's is then
    --spider-NAME."""
    while name in taken:
        name = f'--spider-{name.removeprefix("--")}'
    return name

def _extend_cfg(param):
    """Append the plugin's generators to the choices of --cfg. A name that the host has already becomes spider-NAME.

    Returns ({choice: name in registry.generators}, the host's choice that is passed in place of those)."""
    if param is None or not isinstance(param.type, click.Choice):
        return {}, None
    own = list(param.type.choices)
    plugin_cfgs = {f'spider-{name}' if name in own else name: name for name in sorted(registry.generators)}
    param.type = click.Choice([*own, *plugin_cfgs], case_sensitive=param.type.case_sensitive)
    return plugin_cfgs, 'stylegan2' if 'stylegan2' in own else own[0]

def _training_callback(callback, names, cfg_name, plugin_cfgs, stand_in):
    """names: {key of an option of the plugin: its parameter's name}; cfg_name: that of --spider-cfg; the others: see
    _extend_cfg."""
    from spider_plugin.options.table import apply_options
    @functools.wraps(callback)
    def train(*args, **kwargs):
        for line in presets.launch_lines(click.get_current_context()):
            print(line)
        options = {key: kwargs.pop(name) for key, name in names.items()}
        given, cfg = _given(), kwargs.get('cfg')
        wanted = {key for key, name in names.items() if name in given}
        given = given - {*names, *names.values(), cfg_name} | wanted
        spider_cfg = kwargs.pop(cfg_name)
        if spider_cfg is not None and cfg in plugin_cfgs:
            raise SpiderError(f'--cfg={cfg} and {_CFG}={spider_cfg} both name networks of the plugin; give one of them.')
        asked = cfg in plugin_cfgs or spider_cfg is not None or bool(wanted)
        options['cfg'] = spider_cfg or plugin_cfgs.get(cfg)
        if cfg in plugin_cfgs:
            kwargs['cfg'] = stand_in
        images = None
        if asked:
            from spider_plugin.hosts.data import open_host_data
            images = open_host_data(kwargs.get('data'))
        def look_at_images():   # all of them, which takes minutes where there are many, so after the dry iteration
            for line in [] if images is None else images.lines():
                print(printable(line))
        def edit(c, desc):
            before = None if asked else plain_resume.read_resumed(c)
            stock = copy.deepcopy(c) if asked or plain_resume.continues_source(before) else None
            tried = None
            if stock is not None:
                from spider_plugin.hosts import dry_run
                from spider_plugin.hosts.capabilities import Host
                host, resumed = Host(c), c.get('resume_pkl')
                tried = [] if options['spider_no_dry_run'] else dry_run.check_before_source(stock, options, given, host)
                for line in tried or []:
                    print(printable(line))
                if tried is not None:
                    look_at_images()
                with cache_uses.starting():
                    lines = apply_options(c, options, given=given, host=host)
                    cache_uses.hold(cache_uses.named_in(c))
                if c.get('resume_pkl') != resumed:      # another converted snapshot in the cache
                    from spider_plugin.files.cache_contents import tidy_resume
                    tidy_resume()
                for line in lines:
                    print(printable(line))
                host.remove_unknown(stock)
            elif c.get('resume_pkl') is not None and _host_unpickles():
                _say_who_reads('--resume')
                if before is not None:
                    from spider_plugin.hosts.capabilities import Host
                    for line in plain_resume.plan_lines(c, before, Host(c)):
                        print(printable(line))
            if spider_cfg is not None:
                desc = f'{desc}-{spider_cfg}'
            elif options['cfg'] is not None:
                desc = re.sub(rf'(?<![^-]){stand_in}(?![^-])', cfg, desc, count=1)
            resolution = c.get('training_set_kwargs', {}).get('resolution')
            for line in presets.target_lines(click.get_current_context(), resolution):
                print(printable(line))
            stack.mend_launch(c)
            if cpu_device.requested():
                cpu_device.mend_launch(c)
            if stock is not None and tried is None:
                for line in dry_run.check(c, stock, options, given, host):
                    print(printable(line))
                look_at_images()
            if stock is not None and _loop_is_extended(inspect.unwrap(callback).__globals__):
                from spider_plugin.training import record
                c[record.KEY] = record.record_of(c, resumed) | automatic.record(click.get_current_context())
                record.hand_on_log(automatic.lines(click.get_current_context()) + lines)
                desc = record.name_with(desc, c[record.KEY])
            return desc
        with _edited_launch(inspect.unwrap(callback).__globals__, edit, asked):
            return _with_a_free_number(lambda: callback(*args, **kwargs))
    return train

def _loop_is_extended(script):
    """Return whether the training loop of a script, of which these are the globals, takes the record of a run (saving.py)."""
    try:
        loop = importlib.import_module(saving.LOOP_MODULE)
    except ImportError:
        return False
    return hasattr(loop, 'training_loop') and (script.get('training_loop') is loop or hasattr(loop, 'run_rank'))

def _with_a_free_number(start):
    """Return start(), which is called again where another run makes the numbered run directory before this one.

    Hosts take the number after the highest one and make the directory later, so a second call takes another number."""
    taken = None
    while True:
        try:
            return start()
        except FileExistsError as error:
            if error.filename == taken or not re.match(r'\d{5}-', os.path.basename(str(error.filename))):
                raise
            taken = error.filename
            print(f'spider-plugin: another run took {taken} at this moment; taking the next number', file=sys.stderr)

def _given():
    """Return the names of the parameters that the user set, on the command line, by an environment variable or by a preset."""
    ctx, default = click.get_current_context(), click.core.ParameterSource.DEFAULT
    return {name for name in ctx.params if ctx.get_parameter_source(name) not in (None, default)}

@contextlib.contextmanager
def _edited_launch(script, edit, asked):
    """Within this context, the host's callback launches the config as changed by `edit`.

    script: the script's globals. Hosts of the StyleGAN3 kind call launch_training(c=, desc=, outdir=, dry_run=); hosts of the
            StyleGAN2-ADA kind launch the result (desc, c) of setup_training_loop_kwargs. Forks have other names, and more.
    asked:  whether the user set an option of the plugin.
    Raises SpiderError if `asked` is true and the script has neither function."""
    name = next((name for name in _LAUNCHES if name in script), None)
    if name is None:
        if asked:
            raise SpiderError('This train.py has neither launch_training nor setup_training_loop_kwargs, so the options of '
                              'spider-plugin cannot reach it; leave them out, or use a host like NVlabs/stylegan3.')
        yield
        return
    stock = script[name]
    script[name] = _LAUNCHES[name](stock, edit, asked)
    try:
        yield
    finally:
        script[name] = stock

def _edit_what_it_gets(launch, edit, asked):
    @functools.wraps(launch)
    def edited(*args, **kwargs):
        call = inspect.signature(launch).bind(*args, **kwargs)
        call.arguments.update(_edited(call.arguments, edit, asked))
        return launch(*call.args, **call.kwargs)
    return edited

def _edit_what_it_returns(setup, edit, asked):
    @functools.wraps(setup)
    def edited(*args, **kwargs):
        made = setup(*args, **kwargs)
        changed = _edited(dict(enumerate(made if isinstance(made, tuple) else (made,))), edit, asked)
        return tuple(changed.values()) if isinstance(made, tuple) else changed[0]
    return edited

def _edited(values, edit, asked):
    """Return `values` {name or place: value} of a launch, in which the config, the dict with G_kwargs, is edited, and so is the
    description of the run, if there is one: a text whose name says so, or the first without a name."""
    c = next((value for value in values.values() if isinstance(value, dict) and 'G_kwargs' in value), None)
    if c is None:
        if asked:
            raise SpiderError('This train.py launches no config with G_kwargs, so the options of spider-plugin cannot reach it; '
                              f'leave them out: {attach.OWN_LOOP}.')
        return dict(values)
    texts = [key for key, value in values.items() if isinstance(value, str)]
    key = next((key for key in texts if isinstance(key, int) or 'desc' in key), None)
    desc = edit(c, '' if key is None else values[key])
    return dict(values) | ({} if key is None else {key: desc})

_LAUNCHES = {
    'launch_training':              _edit_what_it_gets,
    'setup_training_loop_kwargs':   _edit_what_it_returns,
}

#----------------------------------------------------------------------------
# Metrics go into the host's own registry, in every process that imports it.

def register_metrics(metric_main):
    """Register the plugin's metrics in the host's registry, if it has one, and let its report_metric write their curves.

    A metric that the host has already is kept."""
    register, is_valid = (getattr(metric_main, name, None) for name in ('register_metric', 'is_valid_metric'))
    if register is None or is_valid is None:
        return
    for name, metric in registry.metrics.items():
        if is_valid(name):
            print(f'spider-plugin: the host has a metric {name} already; that of the plugin was left out', file=sys.stderr)
            continue
        @functools.wraps(metric)
        def named(opts, metric=metric):
            return metric(opts)
        named.__name__ = name # Hosts register a metric by this name.
        register(named)
    if hasattr(metric_main, 'calc_metric') and hasattr(metric_main, 'metric_utils'):
        metric_main.calc_metric = passes.extend_calc_metric(metric_main.calc_metric, metric_main.metric_utils)
    if hasattr(metric_main, 'report_metric'):
        from spider_plugin.hosts.sid_metric import report_curves
        from spider_plugin.training.collapse import watch_recall
        metric_main.report_metric = watch_recall(report_curves(metric_main.report_metric))

#----------------------------------------------------------------------------

install()
