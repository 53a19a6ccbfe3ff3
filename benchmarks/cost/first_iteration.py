"""From a command to its first iteration with 50,000 images: processor seconds of all processes, and where they go.

    SPIDER_HOSTS=DIR python -m benchmarks.cost.first_iteration [--images=50000] [--size=32] [--rounds=2] [--sets=DIR]
        [--out=benchmarks/results/first_iteration.json]

The sets are PNGs without compression in an uncompressed zip, as dataset_tool.py writes them, one of training images and one of
source images. Networks are tiny. A command trains on a CPU until it prints `tick 0`, which NVlabs/stylegan3 does after the first
iteration, or how long an iteration takes, which the reference host does after four, and is stopped there. `cold` begins with an
empty cache, `warm` with that of the command before. `options` are the seconds until the launch log has the options, by when a
source is prepared and an attached host's images are checked; the reference host checks its images after that. Seconds of a wall
clock are beside them, on a machine that others may use."""

import argparse
import io
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np
import PIL.Image

from benchmarks.common.paths import ROOT
from benchmarks.cost.dsc_step import cpu_name

KEYS    = ('cpu', 'options', 'wall')
NETS    = ['--cbase=256', '--cmax=16', '--batch=4', '--gpus=1', '--gamma=1', '--kimg=1', '--snap=100', '--metrics=none']

#----------------------------------------------------------------------------

def write_set(path, images, size, seed):
    """Write a zip of smooth colour images with a little noise, which differ."""
    rng = np.random.default_rng(seed)
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_STORED) as file:
        for index in range(images):
            smooth = PIL.Image.fromarray(rng.integers(0, 256, [4, 4, 3], dtype=np.uint8)).resize((size, size), PIL.Image.BICUBIC)
            pixels = (np.asarray(smooth).astype(int) + rng.integers(-8, 9, [size, size, 3])).clip(0, 255).astype(np.uint8)
            png = io.BytesIO()
            PIL.Image.fromarray(pixels).save(png, 'png', compress_level=0)
            file.writestr(f'{index // 1000:05d}/img{index:08d}.png', png.getvalue())
        file.writestr('dataset.json', json.dumps(dict(labels=None)))

def arms(sets):
    """{name: command without --outdir}"""
    spider = [sys.executable, '-m', 'spider_plugin.cli']
    data, source = f'--data={sets / "train.zip"}', f'--spider-source={sets / "source.zip"}'
    found = {'reference host': [*spider, 'train', '--cfg=stylegan2', data, *NETS],
             'reference host, --spider-source': [*spider, 'train', '--cfg=stylegan2', data, source, *NETS]}
    if os.environ.get('SPIDER_HOSTS'):
        script = Path(os.environ['SPIDER_HOSTS'], 'stylegan3', 'train.py')
        run = [*spider, 'run', str(script), '--cfg=stylegan2', data, *NETS]
        found.update({'NVlabs/stylegan3': run, 'NVlabs/stylegan3, --spider-source': [*run, source]})
    return found

#----------------------------------------------------------------------------
# Processor time of a process and all below it, from /proc: of Linux.

def _stat(pid):
    """(parent, ticks of the process and of its children that have ended)"""
    fields = Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()
    return int(fields[1]), sum(map(int, fields[11:15]))

def processor_seconds(root):
    stats = {}
    for entry in Path('/proc').iterdir():
        if entry.name.isdigit():
            try:
                stats[int(entry.name)] = _stat(entry.name)
            except OSError:     # it has ended
                pass
    below, total = [root], 0
    while below:
        pid = below.pop()
        total += stats[pid][1] if pid in stats else 0
        below += [child for child, (parent, _) in stats.items() if parent == pid]
    return total / os.sysconf('SC_CLK_TCK')

def until_first_tick(command, cache, outdir):
    """{cpu, options, wall, lines: [[cpu, line]]} of a command until its first iteration."""
    env = dict(os.environ, SPIDER_DEVICE='cpu', SPIDER_CACHE_DIR=str(cache), DNNLIB_CACHE_DIR=str(cache / 'dnnlib'),
               OMP_NUM_THREADS='1', PYTHONUNBUFFERED='1')
    begin, lines = time.perf_counter(), []
    process = subprocess.Popen([*command, f'--outdir={outdir}'], env=env, cwd=ROOT, text=True, start_new_session=True,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        for line in process.stdout:
            lines.append([processor_seconds(process.pid), line.rstrip()])
            if line.startswith(('tick 0', 'One iteration takes')):
                break
        else:
            sys.exit('\n'.join(text for _, text in lines))
    finally:
        os.killpg(process.pid, 9)
        process.wait()
    cpu = lines[-1][0]
    options = next(at for at, text in lines if text.startswith('Training options'))
    return dict(cpu=cpu, options=options, wall=time.perf_counter() - begin, lines=lines)

#----------------------------------------------------------------------------

def measure(args, sets, work, report):
    rows = report['rows']
    for _ in range(args.rounds):
        for name, command in arms(sets).items():
            cache = work / 'cache'
            for state in ('cold', 'warm'):
                found = until_first_tick(command, cache, work / 'runs')
                row = rows.setdefault(f'{name}, {state}', {key: [] for key in KEYS})
                for key in KEYS:
                    row[key].append(round(found[key], 2))
                figures = '  '.join(f'{key} {statistics.median(row[key]):.1f}' for key in KEYS)
                print(f'{name + ", " + state:<46s}{figures}', flush=True)
                for at, text in found['lines'] if args.lines else ():
                    print(f'    {at:7.2f}  {text[:150]}', flush=True)
                if args.out:
                    args.out.write_text(json.dumps(dict(report, load_average=os.getloadavg()), indent=1) + '\n')
            shutil.rmtree(cache, ignore_errors=True)

def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n\n')[0])
    parser.add_argument('--images', type=int, default=50000)
    parser.add_argument('--size', type=int, default=32)
    parser.add_argument('--rounds', type=int, default=2)
    parser.add_argument('--sets', type=Path, help='folder that keeps the sets')
    parser.add_argument('--lines', action='store_true', help='print what the command printed, with the seconds until then')
    parser.add_argument('--out', type=Path)
    args = parser.parse_args()
    import torch
    report = dict(images=args.images, size=args.size, device=f'{cpu_name()}, one thread', torch=torch.__version__,
                  python=platform.python_version(), rows={})
    with tempfile.TemporaryDirectory() as temp:
        sets = args.sets or Path(temp)
        for seed, name in enumerate(('train.zip', 'source.zip')):
            if not (sets / name).is_file():
                write_set(sets / name, args.images, args.size, seed)
        measure(args, sets, Path(temp), report)

if __name__ == '__main__':
    main()
