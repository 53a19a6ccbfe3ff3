"""The picture at the top of README.md, from the folder of a finished `spider demo`:

    spider demo && python -m tools.readme_picture spider-demo

draws some images of the source as they are, the same as the Spider generator gets them, its output for them, the output of the
generator that was trained from noise, and some images of the target. Writes docs/demo.png."""

import argparse
import json
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont

from spider_plugin.demo.pairs import PAIRS
from spider_plugin.demo.run import before_match, sample, to_uint8
from spider_plugin.demo.training import Run
from spider_plugin.errors import SpiderError
from spider_plugin.snapshots.rebuild import load_generator

PAGE    = Path(__file__).resolve().parents[1] / 'docs' / 'demo.png'
COLUMNS = 7
SIDE    = 128   # of an image in the picture; the demo's have 32 or 64 pixels
GAP     = 6
LABEL   = 34    # height of the words above a row
PAPER, INK = (255, 255, 255), (27, 36, 48)

#----------------------------------------------------------------------------

def rows_of(folder):
    """Return [(words, uint8 [COLUMNS, 3, R, R]), ...] of a demo's folder. Raises SpiderError where it holds no finished demo."""
    try:
        summary = json.loads((folder / 'summary.json').read_text(encoding='utf-8'))
        pair, settings, seed = PAIRS[summary['pair']], summary['settings'], summary['seed']
    except (OSError, ValueError, KeyError) as error:
        raise SpiderError(f'{folder} holds no finished demo; run `spider demo --outdir={folder}` first.') from error
    networks = {name: load_generator(str(list(Run(name, folder, settings, pair.batch).snapshots().values())[-1]))
                for name in ('spider', 'baseline')}
    z = torch.randn([COLUMNS, networks['spider'].z_dim], generator=torch.Generator().manual_seed(seed + 1))
    target = pair.target_images(settings['images'], seed)
    moved, after = to_uint8(networks['spider'].source.sample(z)), f'after {settings["iterations"]} iterations'
    return [
        (f'source: {pair.source}', before_match(pair, moved, target, settings, seed)),
        ('the same as G gets them: moved to the mean and covariance of the target', moved),
        (f'output of G for these, {after}', sample(networks['spider'], z)),
        (f'output of a G that gets noise, {after}', sample(networks['baseline'], z)),
        (f'target: {pair.target}', target[:COLUMNS]),
    ]

def draw(rows):
    """Return the rows below each other, each under its words, as an RGB image."""
    font = ImageFont.load_default(22)
    width, height = COLUMNS * (SIDE + GAP) + GAP, len(rows) * (LABEL + SIDE) + GAP
    canvas = Image.new('RGB', (width, height), PAPER)
    for i, (words, images) in enumerate(rows):
        top = i * (LABEL + SIDE)
        ImageDraw.Draw(canvas).text((GAP, top + 6), words, fill=INK, font=font)
        for j, image in enumerate(images):
            tile = Image.fromarray(image.permute(1, 2, 0).numpy()).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
            canvas.paste(tile, (GAP + j * (SIDE + GAP), top + LABEL))
    return canvas

if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('folder', type=Path, help='folder of a finished `spider demo`')
    parser.add_argument('--out', type=Path, default=PAGE, help='the PNG')
    arguments = parser.parse_args()
    try:
        draw(rows_of(arguments.folder)).save(arguments.out, optimize=True)
    except SpiderError as error:
        parser.error(error.message)

#----------------------------------------------------------------------------
