"""The picture at the top of README.md, from the folder of a finished `spider demo`:

    spider demo && python -m tools.readme_picture spider-demo

draws some images of the source as they are, the source images of the first latents as the Spider generator gets them, its output
for them, the output of the generator that was trained from noise, and some images of the target. Writes docs/demo.png."""

import argparse
import json
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont

from spider_plugin.demo.data import source_images, target_images
from spider_plugin.demo.run import Run, sample, to_uint8
from spider_plugin.errors import SpiderError
from spider_plugin.snapshots.rebuild import load_generator

PAGE    = Path(__file__).resolve().parents[1] / 'docs' / 'demo.png'
COLUMNS = 6
SIDE    = 96    # of an image in the picture; the demo's have 32 pixels
GAP     = 6
LABEL   = 34    # height of the words above a row
PAPER, INK = (255, 255, 255), (27, 36, 48)

#----------------------------------------------------------------------------

def rows_of(folder):
    """[(words, uint8 [COLUMNS, 3, 32, 32]), ...] of a demo's folder. Raises SpiderError where it holds no finished demo."""
    try:
        summary = json.loads((folder / 'summary.json').read_text(encoding='utf-8'))
    except (OSError, ValueError) as error:
        raise SpiderError(f'{folder} holds no finished demo; run `spider demo --outdir={folder}` first.') from error
    networks = {name: load_generator(str(list(Run(name, folder, summary['settings'], None).snapshots().values())[-1]))
                for name in ('spider', 'baseline')}
    z = torch.randn([COLUMNS, networks['spider'].z_dim], generator=torch.Generator().manual_seed(summary['seed'] + 1))
    seed, iterations = summary['seed'], summary['settings']['iterations']
    return [
        ('source: crayon digits', source_images(COLUMNS, seed)),
        ('source images as G gets them: moved to the target',
         to_uint8(networks['spider'].source.sample(z))),
        (f'output of G for these, after {iterations} iterations', sample(networks['spider'], z)),
        (f'output of a G that gets noise, after {iterations} iterations', sample(networks['baseline'], z)),
        ('target: neon digits', target_images(COLUMNS, seed)),
    ]

def draw(rows):
    """The rows below each other, each under its words: an RGB image."""
    font = ImageFont.load_default(22)
    width, height = COLUMNS * (SIDE + GAP) + GAP, len(rows) * (LABEL + SIDE) + GAP
    canvas = Image.new('RGB', (width, height), PAPER)
    for i, (words, images) in enumerate(rows):
        top = i * (LABEL + SIDE)
        ImageDraw.Draw(canvas).text((GAP, top + 6), words, fill=INK, font=font)
        for j, image in enumerate(images):
            tile = Image.fromarray(image.permute(1, 2, 0).numpy()).resize((SIDE, SIDE), Image.Resampling.NEAREST)
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
