"""`spider report`: writes the page of some runs, or serves it while they train."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from spider_plugin.errors import SpiderError
from spider_plugin.files.cache import atomic_file
from spider_plugin.files.theme import PALETTE
from spider_plugin.report.page import render
from spider_plugin.report.runs import read_run

NAME = 'report.html'

def write_report(folders: Sequence[str | os.PathLike[str]], out: str | os.PathLike[str] | None = None) -> Path:
    """Write the page about the runs in some folders, and return its path.

    out:    its file; None for report.html in the folder of a single run, else in the working directory.
    Raises SpiderError for a folder that holds no run, and where the file cannot be written."""
    check(folders)
    runs = [read_run(folder) for folder in folders]
    path = Path(out) if out is not None else Path(folders[0], NAME) if len(folders) == 1 else Path(NAME)
    if os.path.isdir(path):
        raise SpiderError(f'--out={path} is a folder; give the name of a file.')
    text = render(runs)
    try:
        with atomic_file(path) as temp:
            temp.write_text(text, encoding='utf-8')
    except (OSError, ValueError) as error:  # ValueError: of a name that no file can have
        raise SpiderError(f'--out: {path} cannot be written ({getattr(error, "strerror", error)}); give another file.') from error
    return path

def serve_report(folders: Sequence[str | os.PathLike[str]], port: int = 0, say: Callable[[str], object] = print) -> None:
    """Serve the page about the runs on the loopback address until ^C; say() gets its address.

    port:   0 for any that is free. Raises SpiderError for a folder that holds no run, and for a port that is taken."""
    from spider_plugin.report.live import Server
    check(folders)
    for folder in folders:
        read_run(folder)
    with Server(folders, lambda script: render([read_run(folder) for folder in folders], live=script), port) as server:
        try:
            say(f'The report is at {server.url}, for this machine alone, and follows the runs; ^C ends it.')
            server.serve_forever()
        except KeyboardInterrupt:
            say('')

def check(folders: Sequence[str | os.PathLike[str]]) -> None:
    """Raise SpiderError for more runs than a page has colours, and for a run that is named twice."""
    if len(folders) > PALETTE:
        raise SpiderError(f'RUN: {len(folders)} runs are more than the {PALETTE} that a page can tell apart; give fewer.')
    real = [os.path.realpath(folder) for folder in folders]
    if twice := next((folder for i, folder in enumerate(folders) if real[i] in real[:i]), None):
        raise SpiderError(f'RUN: {twice} is named twice; leave one out.')
