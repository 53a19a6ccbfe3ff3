"""Pictures of the plugin's pages for docs/, by Chromium: NAME.png, 1280 pixels wide, and NAME_phone.png, 390 wide.

    python -m tools.screenshots PAGE.html docs/NAME [--height=1600] [--phone-height=1600] [--scheme=dark]
"""

import argparse
import pathlib
import shutil
import subprocess
import tempfile

import PIL.Image

WIDE, PHONE = 1280, 390     # Pixels.
COLOURS     = 256           # Of a picture: photographs in it are small.
BROWSERS    = ('chromium', 'chromium-browser', 'google-chrome')

def shoot(page, path, width, height, scheme='light'):
    """Write the first `height` pixels of an HTML file, shown `width` pixels wide, as a PNG. scheme: light or dark."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise SystemExit(f'none of {", ".join(BROWSERS)} is installed; install Chromium')
    with tempfile.TemporaryDirectory() as folder:
        frame, shot = pathlib.Path(folder, 'frame.html'), pathlib.Path(folder, 'shot.png')
        # In a frame, since a window has a least width that is larger than a phone.
        frame.write_text(f'<body style="margin: 0"><iframe src="{pathlib.Path(page).resolve().as_uri()}" scrolling="no" '
                         f'style="border: 0; width: {width}px; height: {height}px"></iframe></body>', encoding='utf-8')
        subprocess.run([browser, '--headless', '--no-sandbox', '--disable-gpu', '--hide-scrollbars',
                        f'--user-data-dir={folder}/profile', f'--window-size={max(width, 600)},{height}',
                        '--allow-file-access-from-files',
                        f'--blink-settings=preferredColorScheme={int(scheme == "light")}', '--virtual-time-budget=3000',
                        f'--screenshot={shot}', frame.as_uri()], check=True, capture_output=True, timeout=120)
        with PIL.Image.open(shot) as image:
            image = image.convert('RGB').crop((0, 0, width, height))
            image = image.quantize(COLOURS, kmeans=3, dither=PIL.Image.Dither.FLOYDSTEINBERG)   # else rare colours are lost
            image.save(path, optimize=True)

def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('page')
    parser.add_argument('out', type=pathlib.Path)
    parser.add_argument('--height', type=int, default=1600)
    parser.add_argument('--phone-height', type=int, default=1600)
    parser.add_argument('--scheme', choices=['light', 'dark'], default='light')
    args = parser.parse_args()
    for suffix, width, height in (('', WIDE, args.height), ('_phone', PHONE, args.phone_height)):
        shoot(args.page, args.out.with_name(f'{args.out.name}{suffix}.png'), width, height, args.scheme)

if __name__ == '__main__':
    main()
