"""Pieces of the plugin's HTML pages: the style sheet, notes, pictures. Each page is a self-contained file."""

import base64
import html
import io

from PIL import Image

from spider_plugin.files.theme import THEME

STYLE = '''
body { margin: 0; background: #fbfaf8; color: #1f2328; font: 16px/1.55 system-ui, sans-serif; }
main { max-width: 860px; margin: 0 auto; padding: 40px 24px 64px; }
h1 { font-size: 30px; line-height: 1.2; margin: 0 0 8px; } h2 { font-size: 20px; margin: 40px 0 8px; }
.lead { font-size: 18px; color: #57606a; margin: 0 0 24px; } small, .note { color: #57606a; font-size: 14px; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(190px, 1fr)); gap: 12px; margin: 24px 0; }
.card { background: #fff; border: 1px solid #e6e2dc; border-radius: 10px; padding: 14px 16px; }
.card b { display: block; font-size: 26px; line-height: 1.2; font-variant-numeric: tabular-nums; }
.strip { display: grid; grid-template-columns: 132px 1fr; gap: 4px 12px; align-items: center; margin: 4px 0; }
.strip span { font-size: 14px; color: #57606a; text-align: right; }
.strip img { width: 100%; display: block; border-radius: 6px; image-rendering: pixelated; }
svg { width: 100%; height: auto; background: #fff; border: 1px solid #e6e2dc; border-radius: 10px; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
td, th { text-align: right; padding: 5px 10px; border-bottom: 1px solid #e6e2dc; font-size: 15px; }
td:first-child, th:first-child { text-align: left; padding-left: 0; }
.details td { text-align: left; vertical-align: top; }
.honest { background: #fff7e6; border: 1px solid #f0dcae; border-radius: 10px; padding: 4px 20px; }
.honest ul { padding-left: 18px; } .command span { display: inline-block; max-width: 100%; }
'''

def page(title, body, style=''):
    """Return a whole page; `style` is added to STYLE and to the theme."""
    return (f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f'<style>{STYLE}{THEME}{style}</style></head><body><main>{body}</main></body></html>')

def command(words):
    """Return a command line in a box, which breaks between its words where they fit into a line."""
    spans = ' '.join(f'<span>{html.escape(word)}</span>' for word in words.split(' '))
    return f'<pre class="command">{spans}</pre>'

def honest(sentences):
    """Return a box of sentences; nothing where there are none."""
    items = ''.join(f'<li>{html.escape(sentence)}</li>' for sentence in sentences)
    return f'<div class="honest"><ul>{items}</ul></div>' if items else ''

#----------------------------------------------------------------------------
# Pictures.

def strip(label, picture):
    """Return a labelled row of images; `picture` is the result of `png`."""
    label = html.escape(label)
    return f'<div class="strip"><span>{label}</span><img alt="{label}" src="data:image/png;base64,{picture}"></div>'

def png(images, scale=2, gap=2):
    """Return uint8 images [N, 3, H, W] side by side, enlarged without interpolation, as a PNG in base64."""
    import torch  # Pages without such pictures need none of it.
    images = torch.as_tensor(images)
    n, channels, height, width = images.shape
    canvas = torch.zeros([height, n * (width + gap) - gap, channels + (n > 1)], dtype=torch.uint8)     # Gaps are transparent.
    for i, image in enumerate(images):
        place = canvas[:, i * (width + gap) : i * (width + gap) + width]
        place[..., :channels] = image.permute(1, 2, 0)
        place[..., channels:] = 255
    buffer = io.BytesIO()
    picture = Image.fromarray(canvas.numpy())
    size = (scale * picture.width, scale * picture.height)
    picture.resize(size, Image.Resampling.NEAREST).save(buffer, format='PNG')
    return base64.b64encode(buffer.getvalue()).decode()

#----------------------------------------------------------------------------
