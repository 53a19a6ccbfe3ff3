"""Fuzzes the readers of datasets: python fuzz/dataset_reader.py [CORPUS] [-max_total_time=1800]   (needs `pip install atheris`)

The first byte says what the rest is: a whole zip, or the members of one (members.py). The zip is read as --spider-source and
`spider neighbors` read it, as the reference host's train.py does, and as its dataset_tool.py does."""

import contextlib
import io
import json

import atheris
from harness import FOLDER, check_message, fuzz

with atheris.instrument_imports(include=['spider_plugin.sources', 'spider_plugin.files', 'training.dataset', 'training.reading',
                                         'training.pictures', 'dataset_tool', 'zipfile', 'PIL']):
    import PIL.Image

    import dataset_tool
    from spider_plugin.files.pictures import decode
    from spider_plugin.sources.dataset import ImageDataset
    from training import reading
    from training.dataset import ImageFolderDataset
    from training.pictures import decode as host_decode
    PIL.Image.init()    # imports a module for each format
from members import image, images, joined, split, zipped

from spider_plugin.errors import SpiderError
from training.runtime import SpiderError as HostError

decode.MOST_DECODED = host_decode.MOST_DECODED = reading.MOST_DECODED   # photographs take more memory than a target may

PATH, MADE   = FOLDER / 'fuzzed.zip', FOLDER / 'made.zip'
WHOLE, PARTS = b'Z', b'M'

#----------------------------------------------------------------------------

def plugin(path):
    dataset = ImageDataset(path)
    dataset.digest([0])
    assert len(dataset.sha256) == 64 and dataset.num_classes >= 0
    for index in range(dataset.num_images):
        assert dataset.image(index).shape == (dataset.channels, dataset.resolution, dataset.resolution)

def host(path):
    dataset = ImageFolderDataset(path, use_labels=True)
    try:
        dataset.check_images()
        assert dataset.label_dim >= 0 and dataset.fingerprint
        for index in range(len(dataset)):
            dataset[index]
    finally:
        dataset.close()

def tool(path):
    MADE.unlink(missing_ok=True)
    with contextlib.redirect_stderr(io.StringIO()):     # lines of progress
        dataset_tool.convert_dataset.callback(str(path), str(MADE), None, 'center-crop', (8, 8), 'drop')

def read(data):
    PATH.write_bytes(data[1:] if data[:1] == WHOLE else zipped(split(data[1:])))
    for reader in (plugin, host, tool):
        try:
            reader(PATH)
        except (SpiderError, HostError) as error:
            check_message(error)

def seeds():
    grey, colour = image(mode='L'), image()
    labels = lambda labels: json.dumps(dict(labels=labels, licence='x')).encode()
    sets = [{name: content} for name, content in images().items()]
    sets += [{'a.png': colour, 'b.png': colour, 'dataset.json': labels([['a.png', 1], ['b.png', 0]])},
             {'a.png': grey, 'b/c.png': grey, 'dataset.json': labels([['a.png', [0.5, 1]], ['b/c.png', [1, 2]]])},
             {'a.png': grey, 'b.png': image(16), 'dataset.json': labels(None)},
             {'images/a.png': colour, 'images/dataset.json': labels([['A.jpg', 70000]]), '.b.png': b'x', 'c': grey},
             {'a.jpg': image(format='jpeg', exif=PIL.Image.Exif().tobytes()), 'b.jpg': grey}]
    return [PARTS + joined(members) for members in sets] + [WHOLE + zipped(members.items()) for members in sets[-4:]]

if __name__ == '__main__':
    fuzz(read, seeds, SpiderError, 'archives.dict')
