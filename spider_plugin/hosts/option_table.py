"""Which options of the plugin work in a host, by the dry iteration (hosts/dry_run.py): for `spider doctor` and docs/hosts.md.

    python -m spider_plugin.hosts.option_table CHECKOUT OUT.json [LINES]

tries the command lines of LINES, JSON of {row: {column: arguments of train.py}}, or those that `lines_of` makes, in one process
that imports the host once. OUT.json gets {row: {column: verdict}} after each of them."""

import contextlib
import io
import json
import runpy
import sys
import tempfile
import zipfile
from pathlib import Path

SIDE   = 32
SOURCE = '--spider-source=strokes'
# {title of a column: options}. None: the host's loop, without the plugin's options.
COLUMNS = {
    'stock':                None,
    'source':               [SOURCE],
    'paper mapping':        [SOURCE, '--spider-mapping=paper-16x32'],
    '`--dsc`':              ['--dsc'],
    '`--disc=projected`':   ['--disc=projected', '--disc-backbone=random'],
    'dcgan':                ['--spider-cfg=dcgan'],
    'pggan':                ['--spider-cfg=pggan', '--pg-loss=nonsaturating'],
    'fastgan':              ['--spider-cfg=fastgan'],
}

# What a required option of a host gets, by its name.
VALUES = dict(gpus='1', num_gpus='1', batch='4', batch_size='4', gamma='1', kimg='1', workers='1')

def verdict(text):
    """Return what the output of a launch says: 'yes', 'note: ...' or 'no: ...'."""
    lines = text.strip().splitlines()
    notes = [line for line in lines if line.startswith('Note: the dry iteration')]
    if any(line.startswith('Dry iteration:') for line in lines):
        return 'yes'
    return f'note: {notes[0].partition("nothing: ")[2]}' if notes else f'no: {lines[-1] if lines else "it prints nothing"}'

def make_images(path, side):
    """Write a zip of 16 random images of side x side pixels, with labels of two classes, as hosts read it."""
    import numpy as np
    import PIL.Image
    with zipfile.ZipFile(path, 'w') as archive:
        for i in range(16):
            file = io.BytesIO()
            PIL.Image.fromarray(np.random.RandomState(i).randint(0, 256, [side, side, 3]).astype(np.uint8)).save(file, 'png')
            archive.writestr(f'{i:05d}.png', file.getvalue())
        archive.writestr('dataset.json', json.dumps(dict(labels=[[f'{i:05d}.png', i % 2] for i in range(16)])))

#----------------------------------------------------------------------------

def lines_of(command, folder):
    """Return {row: {column: arguments}} for a host's click command: a row for each of its own configurations.

    folder: for its images and runs. Raises ValueError, with the reason, where a command line cannot be made."""
    from spider_plugin import registry
    params = {param.name: param for param in command.params if not hasattr(param, 'plugin_name')}
    dry = next((param.opts[0] for param in params.values() if param.name == 'dry_run'), None)
    if dry is None:
        raise ValueError('its train.py has no --dry-run')
    common, images = [dry], str(Path(folder, 'images.zip'))
    make_images(images, SIDE)
    for name, param in params.items():
        known = dict(VALUES, outdir=str(Path(folder, 'runs')), data=images)
        if name in known and (param.required or name in ('outdir', 'data', 'gpus', 'batch', 'gamma')):
            common.append(f'{param.opts[0]}={known[name]}')
        elif param.required and name != 'cfg':
            choices = getattr(param.type, 'choices', None)
            if not choices:
                raise ValueError(f'its {param.opts[0]} is required, and what to give is not known')
            common.append(f'{param.opts[0]}={choices[0]}')
    choices = [cfg for cfg in getattr(params['cfg'].type, 'choices', ()) if cfg.removeprefix('spider-') not in registry.generators
               or f'spider-{cfg}' in params['cfg'].type.choices] if 'cfg' in params else []
    rows = {f'--cfg={cfg}': [f'--cfg={cfg}'] for cfg in choices} or {'train.py': []}
    return {row: {column: [*common, *args, *(options or [])] for column, options in COLUMNS.items()}
            for row, args in rows.items()}

def try_host(tree, lines, tell=lambda found: None, limit=None):
    """Return {row: {column: verdict}} of the train.py in a folder.

    lines: {row: {column: arguments}}, or a function (click command) -> that. A row whose networks and loss are those of an
    earlier one is left out. tell: gets the result so far, after each command line. limit: seconds that an iteration
    may take, where they are not the usual ones."""
    sys.path[0] = tree
    from spider_plugin.hosts import dry_run, hook, imports  # noqa: F401
    from spider_plugin.hosts.capabilities import Host
    from spider_plugin.hosts.shims import stack
    imports.note_folder(tree)
    if limit is not None:
        dry_run.TIMEOUT = dict.fromkeys(dry_run.TIMEOUT, limit)
    launched, mend = [], stack.mend_launch
    stack.mend_launch = lambda c: (launched.append(c), mend(c))
    main = runpy.run_path(str(Path(tree, 'train.py')))['main']
    lines = lines(main) if callable(lines) else lines
    found, seen = {}, set()
    for row, columns in lines.items():
        for column, line in columns.items():
            text = io.StringIO()
            with contextlib.redirect_stdout(text):
                try:
                    main(list(line), standalone_mode=False)
                    if column == 'stock':
                        parts = [launched[-1].get(f'{part}_kwargs') or {} for part in ('G', 'D', 'loss')]
                        kind = tuple(str(part.get('class_name')) for part in parts)
                        if len(lines) > 1 and kind in seen:
                            break
                        seen.add(kind)
                        print(_stock(launched[-1], dry_run, Host))
                except BaseException as error:
                    message = getattr(error, 'message', '') or f'{type(error).__name__}: {error}'
                    print(message.strip().splitlines()[-1])
            found.setdefault(row, {})[column] = verdict(text.getvalue())
            tell(found)
    return found

def _stock(c, dry_run, Host):
    """Return the line that verdict() reads, of an iteration without options."""
    target = Host(c).target
    return dry_run.stock_line(c, dict(resolution=target.resolution, channels=target.channels, label_dim=target.label_dim))

def main():
    tree, out, *lines = sys.argv[1:]
    def tell(found):
        Path(f'{out}.tmp').write_text(json.dumps(found), encoding='utf-8')
        Path(f'{out}.tmp').replace(out)
    with tempfile.TemporaryDirectory(prefix='spider-options-') as folder:
        try:
            if lines:   # of a page, for which nobody waits
                tell(try_host(tree, json.loads(lines[0]), tell, limit=600))
            else:
                tell(try_host(tree, lambda command: lines_of(command, folder), tell))
        except ValueError as error:
            sys.exit(f'Error: {error}')

if __name__ == '__main__':
    main()
