"""Forks, made up for tests: copies of the reference host with edits, one for each kind of trouble that public forks have; and a
process that launches one with several command lines.

As a script: python forks.py TREE OUT.json '[["--cfg=dcgan"], ...]' writes what each command line prints, up to its launch."""

import contextlib
import io
import json
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

LOSS_CALL = 'augment_pipe=networks.augment_pipe, **loss_kwargs)'
LOSS_ARGUMENT = "        augment_pipe        = None,\n"
BUILT = '    networks = dnnlib.EasyDict(G=G, D=D,'
GENERATOR = '    def forward(self, z, c, truncation_psi'

#----------------------------------------------------------------------------

def make(folder: Path, edits: dict[str, list[tuple[str, str]]]) -> Path:
    """Return a copy of the reference host in the folder, in which `edits` {file: [(text, new text), ...]} are made."""
    tree = folder / 'fork'
    shutil.copytree(ROOT / 'reference_host', tree, ignore=shutil.ignore_patterns('*.pt', '__pycache__'))
    for name, pairs in edits.items():
        text = (tree / name).read_text()
        for old, new in pairs:
            assert old in text, (name, old)
            text = text.replace(old, new)
        (tree / name).write_text(text)
    return tree

def launches(tree: Path, lines: list[list[str]], data: str | Path, out: Path, **environment: str) -> list[str]:
    """Return what the fork's train.py prints for each command line, on data, without training."""
    common = [f'--outdir={out / "runs"}', f'--data={data}', '--gpus=1', '--batch=4', '--gamma=1', '--cbase=512',
              '--cmax=16', '-n']
    env = os.environ | dict(PYTHONPATH=str(ROOT), SPIDER_DRY_RUN='on', PYTHONWARNINGS='ignore') | environment
    whole = json.dumps([[*common, *line] for line in lines])
    done = subprocess.run([sys.executable, __file__, tree, out / 'printed.json', whole], env=env, cwd=out, text=True,
                          capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads((out / 'printed.json').read_text())

def _main(tree: str, out: str, lines: str) -> None:
    sys.path[0] = tree
    import spider_plugin.hosts.hook  # noqa: F401
    main = runpy.run_path(str(Path(tree, 'train.py')))['main']
    printed = []
    for line in json.loads(lines):
        text = io.StringIO()
        with contextlib.redirect_stdout(text):
            try:
                main(line, standalone_mode=False)
            except Exception as error:
                print(f'{type(error).__name__}: {error}')
        printed.append(text.getvalue())
    Path(out).write_text(json.dumps(printed))

if __name__ == '__main__':
    _main(*sys.argv[1:])
