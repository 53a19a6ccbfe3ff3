"""The `spider` command. Each subcommand imports its modules when it runs, so that `spider --help` is quick."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import click

from spider_plugin import __version__
from spider_plugin.errors import SpiderError, reason
from spider_plugin.files.limits import MOST_CLASSES
from spider_plugin.hosts.edge import click_errors, guard, print_anything, unwound_by_signals
from spider_plugin.options.types import MOST_IMAGES, MOST_SEED, PathType, Real, Seeds, Whole, file_type, path_type
from spider_plugin.resources import resource_dir

class _Spider(click.Group):
    """Shows what the library raises as an error of the command."""

    def invoke(self, ctx):
        print_anything()
        with click_errors(), unwound_by_signals():
            return super().invoke(ctx)

    def add_command(self, cmd, name=None):
        guard(cmd) # Its errors name its options.
        super().add_command(cmd, name)

@click.group(cls=_Spider, context_settings=dict(max_content_width=120, help_option_names=['-h', '--help']))
@click.version_option(__version__, prog_name='spider')
def main():
    """Train GANs on small image sets, starting from the images of a friendly neighbour dataset instead of noise."""

#----------------------------------------------------------------------------
# Scripts of a host run in a separate process; its exit code becomes that of the command, and signals are passed on to it.

_PASS_THROUGH = dict(ignore_unknown_options=True, allow_interspersed_args=False, help_option_names=[])

def _run(script, args, **environment):
    command = [sys.executable, '-m', 'spider_plugin.hosts.run', str(script), *args]
    with _signals_passed_on() as started:
        started.append(subprocess.Popen(command, env=dict(os.environ, SPIDER_RUN_PARENT=str(os.getpid()), **environment)))
        code = started[0].wait()
    sys.exit(code if code >= 0 else 128 - code) # A negative code is the signal that ended the process.

@contextlib.contextmanager
def _signals_passed_on():
    """Within: signals that ask to stop go to the processes in the list that is yielded, and end nothing here."""
    started, previous = [], {}
    def pass_on(signum, _frame):
        for process in started:
            process.send_signal(signum)
    for signum in [getattr(signal, name) for name in ('SIGINT', 'SIGTERM', 'SIGHUP') if hasattr(signal, name)]:
        if signal.getsignal(signum) is not signal.SIG_IGN: # It stays ignored, as nohup wants.
            previous[signum] = signal.signal(signum, pass_on)
    try:
        yield started
    finally:
        for signum, handler in previous.items():
            signal.signal(signum, handler)

def _arm_shims():
    """Let a checkout on PYTHONPATH, whose classes draw here, find what a current Python stack lacks."""
    from spider_plugin.hosts import imports
    from spider_plugin.hosts.shims import stack
    imports.install()
    stack.arm()

def _host_script(name):
    return resource_dir('reference_host') / name

@main.command(context_settings=_PASS_THROUGH, add_help_option=False)
@click.argument('args', nargs=-1, type=click.UNPROCESSED)
def train(args):
    """Train on a folder of photos: `spider train --data=photos`; `spider train --help` lists the options.

    Where the photos are not squares of one size, squares are cut from them; options that are not given are chosen for the photos
    and this machine. The embedded host's train.py trains."""
    _run(_host_script('train.py'), args, SPIDER_RUN_PROGRAM='spider train')

@main.command(context_settings=_PASS_THROUGH, add_help_option=False)
@click.argument('args', nargs=-1, type=click.UNPROCESSED)
def metrics(args):
    """Score a snapshot with the embedded host's calc_metrics.py; takes its options."""
    _run(_host_script('calc_metrics.py'), args, SPIDER_RUN_PROGRAM='spider metrics')

@main.command(context_settings=_PASS_THROUGH, add_help_option=False)
@click.argument('args', nargs=-1, type=click.UNPROCESSED)
def video(args):
    """Make a video that walks from image to image, source images included; has its own --help."""
    _run(_host_script('gen_video.py'), args, SPIDER_RUN_PROGRAM='spider video')

@main.command(context_settings=_PASS_THROUGH, add_help_option=False)
@click.argument('args', nargs=-1, type=click.UNPROCESSED)
def project(args):
    """Find the source image and the styles whose image is nearest to a photo; has its own --help."""
    _run(_host_script('projector.py'), args, SPIDER_RUN_PROGRAM='spider project')

@main.command(context_settings=_PASS_THROUGH, add_help_option=False)
@click.argument('args', nargs=-1, type=click.UNPROCESSED)
def mix(args):
    """Mix the styles of images into a table of pictures; has its own --help."""
    _run(_host_script('style_mixing.py'), args, SPIDER_RUN_PROGRAM='spider mix')

@main.command(context_settings=_PASS_THROUGH, add_help_option=False)
@click.argument('args', nargs=-1, type=click.UNPROCESSED)
def dataset(args):
    """Make a dataset of equally sized images from photos, with the embedded host's dataset_tool.py; takes its options."""
    _run(_host_script('dataset_tool.py'), args, SPIDER_RUN_PROGRAM='spider dataset')

@main.command(context_settings=dict(ignore_unknown_options=True, allow_interspersed_args=False))
@click.argument('script', type=PathType(exists=True, dir_okay=False))
@click.argument('args', nargs=-1, type=click.UNPROCESSED)
def run(script, args):
    """Run a script of a host checkout with the plugin attached, without editing the checkout."""
    _run(script, args)

@main.command()
@click.argument('directory', metavar='DIR', type=PathType(path_type=Path))
def attach(directory):
    """Add a line to the scripts of the host checkout in DIR that gives them the plugin's options. `spider detach` removes it."""
    from spider_plugin.hosts.attach import attach
    click.echo('\n'.join([*attach(directory), f'`spider detach {directory}` removes the line again.']))

@main.command()
@click.argument('directory', metavar='DIR', type=PathType(path_type=Path))
def detach(directory):
    """Remove the line of `spider attach` from the scripts in DIR."""
    from spider_plugin.hosts.attach import detach
    click.echo('\n'.join(detach(directory) or [f'No script in {directory} is attached.']))

@main.command()
@click.argument('directory', metavar='[DIR]', type=path_type, required=False)
@click.option('--quick', help='Do not try the options of the plugin in DIR, which takes seconds for each', is_flag=True)
def doctor(directory, quick):
    """Check this machine and the host checkout in DIR: which scripts start, what they miss, which options work in which
    configuration. A fault has a remedy, and the exit code is 1 if there is one."""
    from spider_plugin.hosts.doctor import examine
    code = 0
    for finding in examine(directory, options=not quick):
        click.echo(finding)
        code = code or int(finding.remedy is not None)
    sys.exit(code)

@main.command()
@click.argument('directory', type=PathType(path_type=Path))
def init(directory):
    """Copy the embedded host into DIRECTORY, which must be new or empty."""
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise SpiderError(f'{directory} is not empty; give a new directory.')
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix='.', dir=directory) as temp: # An interrupted copy leaves nothing behind.
            shutil.copytree(resource_dir('reference_host'), Path(temp, 'host'),
                            ignore=shutil.ignore_patterns('__pycache__'))
            for entry in Path(temp, 'host').iterdir():
                entry.rename(directory / entry.name)
    except OSError as error:
        raise SpiderError(f'Cannot write {directory} ({reason(error)}); free space there, or give another directory.') from error
    click.echo(f'A host is ready in {directory}; try: cd {directory} && python train.py --help')

#----------------------------------------------------------------------------

@main.command()
@click.option('--outdir',  help='Folder for datasets, runs, summary.json and report.html', metavar='DIR', type=path_type,
              default='spider-demo', show_default=True)
@click.option('--seed',    help='Random seed', metavar='INT', type=Whole(0, MOST_SEED), default=0, show_default=True)
@click.option('--threads', help='CPU threads of each of the two runs', metavar='INT',
              type=Whole(1, 1024), default=1, show_default=True)
@click.option('--quick',   help='Take half of the time or less, with rougher curves', is_flag=True)
@click.option('--pair',    help='Datasets: satellite images from relief maps, or neon digits from crayon digits  [default: maps '
              'where the networks of spider-plugin[imagenet] are installed, else digits]',
              type=click.Choice(['maps', 'digits']))
def demo(outdir, seed, threads, quick, pair):
    """Train from noise and from a friendly neighbour dataset, side by side, and write a report."""
    from spider_plugin.demo.run import run_demo
    run_demo(outdir=outdir, seed=seed, threads=threads, quick=quick, pair=pair)

@main.command()
@click.option('--network',  help='Snapshot of a generator', metavar='[PKL|URL]', type=file_type, required=True)
@click.option('--seeds',    help='Seeds, for example 0-3,7', metavar='LIST', type=Seeds(), default='0-3', show_default=True)
@click.option('--outdir',   help='Folder for the images', metavar='DIR', type=path_type, required=True)
@click.option('--class',    'class_idx', help='Class of a conditional generator', metavar='INT',
              type=Whole(0, MOST_CLASSES - 1))
@click.option('--trunc',    help='Truncation psi', metavar='FLOAT', type=Real(-10, 10), default=1.0, show_default=True)
@click.option('--grid',     help='Also write all images as grid.png', is_flag=True)
@click.option('--sources',  help='Also write the source image of each output', is_flag=True)
@click.option('--walk',     help='Also write a walk from seed to seed that moves the source image, the latent or w alone, or '
              'w and source together; a file name means both, into that file', metavar='[source|latent|w|both|FILE]')
@click.option('--walk-out', help='Name of the file of the walk, in --outdir  [default: walk-KIND.gif]',
              metavar='NAME.[gif|mp4|png]')
@click.option('--stage',    help='Stage of a cascade to walk through, 1 for its first generator  [default: the last]',
              metavar='INT', type=Whole(1, 32))
@click.option('--stages',   help='Also write stages.png, the images of every stage of a cascade and walks at each', is_flag=True)
@click.option('--parent',   'parents', help='Snapshot of an earlier stage that is not found automatically; may be repeated',
              metavar='PKL', type=path_type, multiple=True)
@click.option('--frames',   help='Frames of the walk between two seeds', metavar='INT',
              type=Whole(1, 10_000), default=24, show_default=True)
@click.option('--trust-pickle', 'trust', help='Unpickle as hosts do, which runs code that the file carries', is_flag=True)
def generate(network, seeds, outdir, **options):
    """Draw images from a snapshot, without running code that it carries."""
    _arm_shims()
    from spider_plugin.generate.command import generate as draw
    for path in draw(network, seeds, outdir, **options):
        click.echo(path)

@main.command()
@click.argument('network', metavar='IN.pkl|URL', type=file_type)
@click.option('--out', help='File to write: tensors (.pt, .safetensors), or a graph that draws images from z (.onnx, .ts for '
              'TorchScript); its card is written beside it', metavar='FILE[.pt|.safetensors|.onnx|.ts]', type=path_type,
              required=True)
@click.option('--key', help='Network of the pickle to export  [default: G_full if there is one, else G_ema]', metavar='NAME')
@click.option('--trust-pickle', 'trust', help='Unpickle as hosts do, which runs code that the file carries', is_flag=True)
def export(network, out, **options):
    """Turn a snapshot into tensors or a graph, and a JSON card, without running code that it carries."""
    _arm_shims()
    from spider_plugin.snapshots.export import export as write
    from spider_plugin.sources.obtain import local_file
    for path in write(local_file(network, 'IN.pkl', 'pickle'), out, **options):
        click.echo(path)

@main.command()
@click.argument('network', metavar='IN.pkl', type=path_type)
@click.argument('address', metavar='hf://OWNER/NAME[/FILE.pkl]', type=file_type)
@click.option('--private', help='Make the repository a private one, where it does not exist', is_flag=True)
def push(network, address, private):
    """Upload a snapshot to the Hugging Face hub, with its card, in one commit.

    huggingface_hub finds the token (HF_TOKEN, or `hf auth login`) and the server (HF_ENDPOINT)."""
    from spider_plugin.snapshots import hub
    click.echo('\n'.join(hub.push(network, address, private)))

@main.command()
@click.argument('address', metavar='hf://OWNER/NAME[@REVISION][/FILE.pkl]', type=file_type)
@click.option('--out', help='File to write  [default: its name, here]', metavar='NAME.pkl', type=path_type)
def pull(address, out):
    """Download a snapshot from the Hugging Face hub, and check it without running code that it carries."""
    from spider_plugin.snapshots import hub
    click.echo('\n'.join(hub.pull(address, out)))

@main.command('import')
@click.argument('file', metavar='FILE|URL', type=file_type)
@click.option('--out', help='Network pickle to write', metavar='NAME.pkl', type=path_type, required=True)
@click.option('--key', help='Entry of the file that is the generator  [default: g_ema or another usual name]', metavar='NAME')
def import_checkpoint(file, out, key):
    """Turn a checkpoint into a network pickle, without running code that it carries.

    FILE is a state dict of a StyleGAN2 or StyleGAN3 in .pt, .pth or .safetensors, by the names of NVlabs or of
    rosinality/stylegan2-pytorch, a file of `spider export`, or a pickled module. The shapes of its tensors decide the
    configuration."""
    _arm_shims()
    from spider_plugin.snapshots.import_file import import_file
    from spider_plugin.sources.obtain import local_file
    imported = import_file(local_file(file, 'FILE', 'any'), out, key)
    click.echo('\n'.join([f'{imported.path}: {imported.words}', *(f'  {line}' for line in imported.lines)]))

@main.command()
@click.argument('sources', nargs=-1, required=True, metavar='SOURCE...', type=file_type)
@click.option('--target',     help='Dataset that you want to train on, a zip or folder of images, or an .npz of its features',
              metavar='[ZIP|DIR|NPZ]', type=path_type, required=True)
@click.option('--by',         help='Measure that ranks: FID, KID, or the absolute value of SID', default='fid', show_default=True,
              type=click.Choice(['fid', 'kid', 'sid']))
@click.option('--max-images', help='Most images of a set to use, chosen uniformly', metavar='INT',
              type=Whole(100, MOST_IMAGES), default=50000, show_default=True)
@click.option('--detector',   help='Feature network, as in calc_metrics.py; a TorchScript file is code that will run  '
              '[default: Inception]', metavar='[FILE.pt|URL|demo|lite1]', type=file_type,
              envvar='SPIDER_DETECTOR', show_envvar=True)
@click.option('--host',       help='Checkout whose metrics load the detector  [default: the embedded host]',
              metavar='DIR', type=path_type)
@click.option('--outdir',     help='Folder for neighbors.json and neighbors.html', metavar='DIR', type=path_type)
@click.option('--json',       'json_path', help='Write all numbers to this file', metavar='FILE', type=path_type)
@click.option('--html',       'html_path', help='Write a page with curves and pictures to this file', metavar='FILE',
              type=path_type)
@click.option('--trust-pickle', 'trust', help='Unpickle generators as hosts do, which runs code that they carry', is_flag=True)
def neighbors(sources, target, **options):
    """Rank datasets as sources for training on another one, by their distance to it.

    A SOURCE is a zip or folder of images, a generator (.pkl), an .npz with an array `features` [images, dimensions], a name that
    `spider sources` lists, or one of noise, strokes, shapes and covariance:PATH. Features are kept in the cache, by content.
    Under torchrun (torchrun ... -m spider_plugin.cli neighbors ...) the ranks share the sources. An interrupted run
    continues where it stopped."""
    _arm_shims()
    from spider_plugin.neighbors.command import run_neighbors
    run_neighbors(sources, target, **options)

@main.command()
@click.argument('runs', nargs=-1, required=True, metavar='RUN...', type=path_type)
@click.option('--out',  help='File for the page  [default: report.html in the folder of a single run, else here]',
              metavar='FILE.html', type=path_type)
@click.option('--live', help='Serve the page to this machine alone, and refresh it while the runs train', is_flag=True)
@click.option('--port', help='Port of --live  [default: one that is free]', metavar='INT', type=Whole(0, 65535))
def report(runs, out, live, port):
    """Show one or more runs on a page: curves, images over time, sources and outputs, differing options, next steps.

    A RUN is the folder of a run of `spider train` or of any StyleGAN2/3-style host, which may be training now. The page is one
    file that asks for nothing from elsewhere."""
    from spider_plugin.report import command
    if not live:
        if port is not None:
            raise SpiderError('--port has no effect without --live; give both, or leave it out.')
        click.echo(f'Wrote {command.write_report(runs, out)}')
        return
    if out is not None:
        raise SpiderError('--out has no effect with --live, which writes no file; leave one out.')
    command.serve_report(runs, port or 0, say=click.echo)

@main.command()
@click.argument('names', nargs=-1, metavar='[NAME[:PATH]]...', type=path_type)
@click.option('--json', 'as_json', help='Print all entries of the catalogue as JSON', is_flag=True)
def sources(names, as_json):
    """List the named sources; with NAME, fetch these datasets now and print the paths of their zips.

    A dataset is downloaded, checked, converted once to a zip of images with labels, and kept in the cache. NAME:PATH uses a
    file or folder that you fetched yourself. `--spider-source=NAME` does the same at the start of a training run."""
    import json

    from spider_plugin import registry
    from spider_plugin.sources.obtain import listing, resolve, table
    for name in names:
        registry.datasets.lookup(name.partition(':')[0], '--spider-source')
    paths = [resolve(name) for name in names]
    wanted = {name.partition(':')[0] for name in names}
    rows = [row for row in listing() if not names or row['name'] in wanted]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    elif names:
        click.echo('\n'.join(paths))
    else:
        click.echo('\n'.join(table(rows)))
        click.echo(f'\nDrawn, without a download: {", ".join(sorted(registry.sources))} (covariance:PATH, noise:PATH).')

@main.command('presets')
@click.argument('names', nargs=-1, metavar='[NAME]...')
@click.option('--json', 'as_json', help='Print the files', is_flag=True)
@click.option('--markdown', help='Print the content of docs/presets.md', is_flag=True, hidden=True)
def list_presets(names, as_json, markdown):
    """List the presets; with NAME, show its options with the origin of each, unknown settings, hardware and time.

    `--preset=NAME` of a host's train.py, or of `spider train`, sets its options; options that you give override them."""
    import json

    from spider_plugin.options import presets
    found = [presets.load(name) for name in names or presets.names()]
    if markdown:
        click.echo(presets.markdown(), nl=False)
    elif as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        click.echo('\n'.join(line for preset in found for line in presets.show(preset)) if names else
                   '\n'.join(presets.table(found)))

@main.group(cls=_Spider)
def cache():
    """Show, clear and check the cache: prepared sources, downloads, features and what else is made once and kept.

    It is $SPIDER_CACHE_DIR, else spider_plugin/ below $DNNLIB_CACHE_DIR, else ~/.cache/spider_plugin."""

_KIND_ARGUMENT = click.argument('kinds', nargs=-1, metavar='[KIND]...')

@cache.command('list')
@_KIND_ARGUMENT
@click.option('--json', 'as_json', help='Print all entries as JSON', is_flag=True)
def cache_list(kinds, as_json):
    """List what is in the cache, with its size, the time since it was used, and the runs that use it."""
    from spider_plugin.files import cache_table
    cache_table.show(kinds, as_json, click.echo)

@cache.command('prune')
@_KIND_ARGUMENT
@click.option('--unused-for', 'days', help='Remove what was not used for so long', metavar='DAYS', type=Real(0, 10**5))
@click.option('--max-size', help='Remove what was not used for longest, until so much is left', metavar='GB', type=Real(0, 10**6))
@click.option('-n', '--dry-run', help='Only say what would be removed', is_flag=True)
def cache_prune(kinds, days, max_size, dry_run):
    """Remove what is old, or what is too much. What a run uses stays, and what was written in the last hour."""
    from spider_plugin.files import cache_table
    cache_table.prune(kinds, days, max_size, dry_run, click.echo)

@cache.command('verify')
@_KIND_ARGUMENT
@click.option('--remove', help='Remove what is damaged and unused; it is made or fetched again when it is needed', is_flag=True)
def cache_verify(kinds, remove):
    """Read the files of the cache, and name those that are damaged. The exit code is 1 if some are, and stay."""
    from spider_plugin.files import cache_table
    sys.exit(1 if cache_table.verify(kinds, remove, click.echo) else 0)

@main.command()
def version():
    """Print the versions that a bug report needs."""
    import platform

    import torch
    click.echo(f'spider-plugin {__version__}, torch {torch.__version__}, Python {platform.python_version()}, '
               f'{platform.system()} {platform.machine()}')

#----------------------------------------------------------------------------

if __name__ == '__main__':
    main()
