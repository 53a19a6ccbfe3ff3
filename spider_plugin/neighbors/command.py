"""`spider neighbors`: runs spider_plugin.neighbors.compare with a host's detector, and shows and writes the results."""

import contextlib
import json
import os
import tempfile
from pathlib import Path

import click

from spider_plugin.errors import SpiderError
from spider_plugin.files.cache import atomic_file
from spider_plugin.neighbors import report as neighbor_report
from spider_plugin.neighbors.compare import find_neighbors
from spider_plugin.neighbors.detector import HostDetector, pick_device
from spider_plugin.neighbors.shards import crew
from spider_plugin.neighbors.words import suggestion

def run_neighbors(sources, target, *, host=None, detector=None, outdir=None, json_path=None, html_path=None, **options):
    """Compare the sources with the target, print the table and write the requested files. Only rank 0 prints and writes.

    host:                   directory of a checkout; None for the embedded host.
    detector:               value of --detector.
    outdir:                 folder for neighbors.json and neighbors.html.
    json_path, html_path:   single files.
    options:                max_images, by and trust of `find_neighbors`.
    Raises SpiderError."""
    files = {'json': [json_path] if json_path else [], 'html': [html_path] if html_path else []}
    if outdir:
        for kind, paths in files.items():
            paths.append(Path(outdir, f'neighbors.{kind}'))
    device = pick_device()
    with crew() as ranks:
        if ranks.rank == 0:
            check_writable([path for paths in files.values() for path in paths])
        network = HostDetector(detector, host=host, device=device)
        summary = find_neighbors(target, sources, network, crew=ranks, device=device, **options)
    if summary is None:
        return
    words, command = suggestion(summary, train=('spider', 'run', str(Path(host, 'train.py'))) if host else ('spider', 'train'))
    show(summary, words, command)
    page = neighbor_report.render(summary, words, command)
    numbers = json.dumps({key: value for key, value in summary.items() if key != 'pictures'} |
                         dict(suggestion=words, command=command), indent=1)
    for kind, text in (('json', numbers), ('html', page)):
        for path in files[kind]:
            with atomic_file(path) as temp:
                temp.write_text(text + '\n', encoding='utf-8')
            click.echo(f'Wrote {path}')

def check_writable(paths):
    """Raise SpiderError if one of the files cannot be written, before the comparison starts."""
    for path in map(Path, paths):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=path.parent).close()
            with contextlib.suppress(FileNotFoundError):
                os.stat(path)
        except OSError as error:
            raise SpiderError(f'Cannot write {path} ({error.strerror}); give another place.') from error
        if os.path.isdir(path):
            raise SpiderError(f'{path} is a folder; give the name of a file.')

def show(summary, words, command):
    """Print the table, the warnings and the suggestion."""
    click.echo('\n'.join(neighbor_report.table(summary)) + '\n')
    for warning in summary['warnings']:
        click.echo(f'Warning: {warning}')
    for note in summary['notes']:
        click.echo(f'Note: {note}')
    click.echo(words)
    if command:
        click.echo(f'\n    {command}\n')
    if summary['detector'] and summary['detector']['about']:
        click.echo(summary['detector']['about'])
