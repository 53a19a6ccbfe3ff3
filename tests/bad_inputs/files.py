"""Makes the files that the rows name."""

from pathlib import Path

import numpy as np

def make(folder, make_zip, make_png, make_snapshot):
    """Return {name: path}; functions: fixtures of tests/conftest.py."""
    folder = Path(folder)
    files = dict(data=make_zip(folder / 'data.zip', n=16), source=make_zip(folder / 'source.zip', n=64, res=32, seed=1),
                 target=make_zip(folder / 'target.zip', n=64, res=32),
                 net=make_snapshot())
    (folder / 'image.png').write_bytes(make_png(np.zeros([16, 16, 3], np.uint8)))
    return files | dict(image=str(folder / 'image.png'))
