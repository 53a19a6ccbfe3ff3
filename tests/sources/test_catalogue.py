"""The catalogue: its entries, each archive format in miniature, and the resulting files in the cache."""

import dataclasses
import gzip
import hashlib
import http.server
import io
import json
import os
import re
import struct
import tarfile
import threading
import urllib.parse
import zipfile
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import scipy.io
from click.testing import CliRunner

from spider_plugin import cli, registry
from spider_plugin.errors import SpiderError
from spider_plugin.files.download import File
from spider_plugin.sources import convert
from spider_plugin.sources.catalogue import Dataset
from spider_plugin.sources.dataset import ImageDataset
from spider_plugin.sources.obtain import resolve
from spider_plugin.sources.prepare import prepare_source

OURS = ['afhq', 'celeba', 'cifar10', 'cifar100', 'eurosat', 'fashion-mnist', 'kmnist', 'metfaces', 'mnist', 'stl10', 'svhn',
        'tinyimagenet', 'ukiyoe']

@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv('SPIDER_CACHE_DIR', str(tmp_path / 'cache'))
    return tmp_path / 'cache'

#----------------------------------------------------------------------------
# Archives in miniature, laid out as the published ones. Each is (bytes by file name, images [N, H, W(, 3)], labels or None).

def pixels(*shape, seed=0):
    return np.random.RandomState(seed).randint(0, 256, shape).astype(np.uint8)

def encoded(image, **kwargs):
    buffer = io.BytesIO()
    PIL.Image.fromarray(image).save(buffer, **kwargs)
    return buffer.getvalue()

def make_zip(files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, 'w') as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()

def make_tar(files, mode):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()

def planes(images):
    return images.transpose(0, 3, 1, 2).reshape(len(images), -1)

def cifar10():
    images, labels = pixels(20, 32, 32, 3), np.arange(20, dtype=np.uint8) % 10
    records = np.concatenate([labels[:, None], planes(images)], axis=1)
    files = {f'cifar-10-batches-bin/data_batch_{i + 1}.bin': records[i * 4 : i * 4 + 4].tobytes() for i in range(5)}
    files |= {'cifar-10-batches-bin/test_batch.bin': records[:3].tobytes(), 'cifar-10-batches-bin/readme.html': b'<html>'}
    shuffled = {name: files[name] for name in sorted(files, key=lambda name: name[::-1])}
    return {'cifar-10-binary.tar.gz': make_tar(shuffled, 'w:gz')}, images, labels.tolist()

def cifar100():
    images, labels = pixels(300, 32, 32, 3), np.arange(300, dtype=np.uint16) % 100
    records = np.concatenate([(labels % 20)[:, None].astype(np.uint8), labels[:, None].astype(np.uint8), planes(images)], axis=1)
    files = {'cifar-100-binary/train.bin': records.tobytes(), 'cifar-100-binary/test.bin': records[:3].tobytes()}
    return {'cifar-100-binary.tar.gz': make_tar(files, 'w:gz')}, images, labels.tolist()

def stl10():
    images = pixels(5, 96, 96, 3)
    by_columns = images.transpose(0, 3, 2, 1).tobytes()
    files = {'stl10_binary/train_X.bin': by_columns[: 96 * 96 * 3], 'stl10_binary/unlabeled_X.bin': by_columns}
    return {'stl10_binary.tar.gz': make_tar(files, 'w:gz')}, images, None

def mnist():
    images, labels = pixels(12, 28, 28), np.arange(12, dtype=np.uint8) % 10
    return {'train-images-idx3-ubyte.gz': gzip.compress(struct.pack('>4I', 0x803, 12, 28, 28) + images.tobytes()),
            'train-labels-idx1-ubyte.gz': gzip.compress(struct.pack('>2I', 0x801, 12) + labels.tobytes())}, \
        images, labels.tolist()

def svhn():
    images, labels, buffer = pixels(11, 32, 32, 3), np.arange(1, 12) % 10, io.BytesIO()
    digits = np.where(labels == 0, 10, labels).astype(np.uint8)[:, None]
    scipy.io.savemat(buffer, dict(X=images.transpose(1, 2, 3, 0), y=digits))
    return {'train_32x32.mat': buffer.getvalue()}, images, labels.tolist()

def decoded(files):
    return np.stack([np.asarray(PIL.Image.open(io.BytesIO(data)).convert('RGB')) for data in files])

def tinyimagenet():
    files, labels = {}, []
    for c, wnid in enumerate(['n01443537', 'n02124075', 'n09999999']):
        for i in range(2):
            image = pixels(64, 64, 3, seed=c * 2 + i)
            files[f'tiny-imagenet-200/train/{wnid}/images/{wnid}_{i}.JPEG'] = encoded(image, format='jpeg')
            labels.append(c)
    files['tiny-imagenet-200/train/n09999999/images/n09999999_1.JPEG'] = encoded(pixels(64, 64), format='jpeg')     # grey
    images = decoded(files.values())
    other = {'tiny-imagenet-200/val/images/val_0.JPEG': encoded(pixels(64, 64, 3), format='jpeg'),
             'tiny-imagenet-200/train/n01443537/n01443537_boxes.txt': b'boxes', 'tiny-imagenet-200/': b''}
    return {'tiny-imagenet-200.zip': make_zip(other | files)}, images, labels

def eurosat():
    files = {f'2750/{name}/{name}_{i}.jpg': encoded(pixels(64, 64, 3, seed=i), format='jpeg')
             for name in ('AnnualCrop', 'SeaLake') for i in (1, 2)}
    extra = {'__MACOSX/2750/AnnualCrop/._AnnualCrop_1.jpg': b'not an image'}
    return {'EuroSAT.zip': make_zip(files | extra)}, decoded(files.values()), [0, 0, 1, 1]

def celeba():
    files = {f'img_align_celeba/{i:06d}.jpg': encoded(pixels(218, 178, 3, seed=i), format='jpeg') for i in (1, 2)}
    return {'img_align_celeba.zip': make_zip(files)}, decoded(files.values())[:, 20:198], None

def afhq():
    files = {f'train/{name}/{i}.png': encoded(pixels(64, 64, 3, seed=i), format='png')
             for name in ('cat', 'dog', 'wild') for i in (1, 2)}
    other = {'test/cat/1.png': files['train/cat/1.png']}
    return {'afhq_v2.zip': make_zip(files | other)}, decoded(files.values()), [0, 0, 1, 1, 2, 2]

def ukiyoe():
    files = {f'ukiyoe-1024/{i:05d}_edo.jpg': encoded(pixels(64, 64, 3, seed=i), format='jpeg') for i in range(3)}
    return {'ukiyoe-1024-v2.tar': make_tar(files, 'w')}, decoded(files.values()), None

def metfaces():
    files = {f'images/{i}-00.png': encoded(pixels(64, 64, 3, seed=i), format='png') for i in range(3)}
    other = {'unprocessed/image-11713.png': encoded(pixels(80, 90, 3), format='png'), 'metfaces.json': b'[]'}
    return {'images': make_zip(files | other)}, decoded(files.values()), None

ARCHIVES = {'cifar10': cifar10, 'cifar100': cifar100, 'stl10': stl10, 'mnist': mnist, 'fashion-mnist': mnist, 'kmnist': mnist,
            'svhn': svhn, 'tinyimagenet': tinyimagenet, 'eurosat': eurosat, 'celeba': celeba, 'afhq': afhq, 'ukiyoe': ukiyoe,
            'metfaces': metfaces}

#----------------------------------------------------------------------------

class Quiet(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)     # before the client has all of it
        body = self.server.files.get(self.path)
        self.send_response(200 if body else 404)
        self.send_header('Content-Length', str(len(body or b'')))
        self.end_headers()
        self.wfile.write(body or b'')

    def log_message(self, *args):
        pass

@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Quiet) as server:
        server.files, server.asked, server.url = {}, [], f'http://127.0.0.1:{server.server_port}'
        thread = threading.Thread(target=server.serve_forever, args=[0.02], daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()

@pytest.fixture
def publish(server, monkeypatch):
    """publish(name) puts a small version of an entry on the server, and its address and digest into the entry."""
    def publish(name, **changes):
        contents, images, labels = ARCHIVES[name]()
        server.files |= {f'/{name}/{file}': data for file, data in contents.items()}
        files = tuple(File(file, (f'{server.url}/{name}/{file}',), len(data), hashlib.sha256(data).hexdigest())
                      for file, data in contents.items())
        entry = dataclasses.replace(registry.datasets[name], files=files, **changes)
        monkeypatch.setitem(registry.datasets._entries, name, entry)
        return images, labels
    return publish

def content(path):
    """Return images [N, H, W(, 3)], labels and dataset.json of a dataset zip."""
    dataset = ImageDataset(path)
    images = np.stack([dataset.image(i) for i in range(dataset.num_images)]).transpose(0, 2, 3, 1)
    with zipfile.ZipFile(path) as archive:
        info = json.loads(archive.read('dataset.json'))
    return images[..., 0] if dataset.channels == 1 else images, dataset.labels, info

def tree(folder):
    return sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob('*') if path.is_file())

#----------------------------------------------------------------------------
# The entries.

def test_entries_are_complete():
    assert [name for name in sorted(registry.datasets) if name in OURS] == OURS and not set(OURS) & set(registry.sources)
    assert set(ARCHIVES) == set(OURS)
    for name in OURS:
        dataset = registry.datasets[name]
        assert dataset.reader in convert.READERS and dataset.licence and dataset.page.startswith('http')
        assert bool(dataset.how) != all(file.urls for file in dataset.files), name
        for file in dataset.files:
            if file.urls:       # a download is checked
                assert file.size > 0 and re.fullmatch('[0-9a-f]{64}', file.sha256)
                assert all(urllib.parse.urlparse(url).path.endswith(f'/{file.name}') for url in file.urls)

def test_documentation_has_the_same_table():
    text = (Path(__file__).parents[2] / 'docs' / 'sources.md').read_text(encoding='utf-8')
    rows = [line for line in text.splitlines() if line.startswith('| `') and '](http' in line]
    assert rows == [document(name) for name in OURS]

def document(name):
    dataset = registry.datasets[name]
    size = f'{dataset.download_bytes / 1e6:.0f} MB' if all(file.urls for file in dataset.files) else 'by hand'
    checksum = 'sha256' if dataset.files[0].sha256 else 'none published'
    return (f'| `{name}` | [{dataset.title}]({dataset.page}) | {dataset.images} | {dataset.resolution} | '
            f'{dataset.classes or "-"} | {size} | {checksum} | {dataset.licence} |')

#----------------------------------------------------------------------------
# From name to zip.

@pytest.mark.parametrize('name', OURS)
def test_published_archive_becomes_a_dataset(publish, server, cache, name, capsys):
    images, labels = publish(name)
    path = resolve(name)
    found, found_labels, info = content(path)
    assert found.shape == images.shape and (found == images).all()
    assert (found_labels is None) if labels is None else (found_labels.tolist() == labels)
    dataset = registry.datasets[name]
    assert ImageDataset(path).name == name and ImageDataset(path).licence == dataset.licence
    assert ImageDataset(path).channels == dataset.channels
    assert info['files'] == {file.name: file.sha256 for file in dataset.files}
    assert dataset.licence in capsys.readouterr().err
    assert [file for file in tree(cache) if not file.endswith('.lock')] == [Path(path).relative_to(cache).as_posix()]
    asked = len(server.asked)
    assert resolve(name) == path and len(server.asked) == asked         # once

def test_hosts_open_it(publish):
    from spider_plugin.snapshots.rebuild import add_host_to_path
    add_host_to_path()
    from training.dataset import ImageFolderDataset
    images, labels = publish('tinyimagenet')
    dataset = ImageFolderDataset(resolve('tinyimagenet'), use_labels=True)
    assert (np.stack([dataset[i][0] for i in range(len(dataset))]).transpose(0, 2, 3, 1) == images).all()
    assert [dataset[i][1].argmax() for i in range(len(dataset))] == labels and dataset.label_dim == 3

def test_jpegs_keep_their_bytes(publish):
    publish('tinyimagenet')
    path = resolve('tinyimagenet')
    with zipfile.ZipFile(path) as archive:
        extensions = [name.rpartition('.')[2] for name in archive.namelist()]
    assert extensions == ['jpg'] * 5 + ['png', 'json']      # the grey one is made RGB

def test_equal_downloads_make_equal_zips(publish, tmp_path, monkeypatch):
    publish('cifar10')
    first = Path(resolve('cifar10')).read_bytes()
    monkeypatch.setenv('SPIDER_CACHE_DIR', str(tmp_path / 'other'))
    assert Path(resolve('cifar10')).read_bytes() == first

def test_source_is_prepared_at_its_size(publish):
    publish('svhn')
    prepared = prepare_source('svhn')
    assert (prepared.resolution, prepared.channels, prepared.num_images, prepared.num_classes) == (32, 3, 11, 10)
    assert prepared.identity['name'] == 'svhn' and prepared.identity['licence'] == 'non-commercial use only'
    assert prepare_source('covariance:svhn', bank=4).identity['name'] == 'covariance of svhn'
    publish('mnist')
    assert prepare_source('mnist').resolution == 16 and prepare_source('mnist', size=32).resolution == 32

#----------------------------------------------------------------------------
# Files that the user has.

@pytest.mark.parametrize('name', ['cifar10', 'tinyimagenet', 'celeba', 'ukiyoe'])
def test_archive_of_the_user_is_the_downloaded_dataset(publish, server, tmp_path, name):
    images, _ = publish(name)
    (file,) = registry.datasets[name].files
    (tmp_path / 'own').write_bytes(server.files[f'/{name}/{file.name}'])
    path = resolve(f'{name}:{tmp_path / "own"}')
    assert (content(path)[0] == images).all() and server.asked == [] and (tmp_path / 'own').exists()
    assert resolve(name) == path and server.asked == []

@pytest.mark.parametrize('name', ['cifar10', 'tinyimagenet', 'celeba', 'ukiyoe'])
def test_unpacked_folder(publish, server, tmp_path, name, monkeypatch):
    images, labels = publish(name)
    (file,) = registry.datasets[name].files
    data = io.BytesIO(server.files[f'/{name}/{file.name}'])
    if zipfile.is_zipfile(data):
        zipfile.ZipFile(data).extractall(tmp_path / 'own')
    else:
        tarfile.open(fileobj=io.BytesIO(data.getvalue())).extractall(tmp_path / 'own', filter='data')
    monkeypatch.setenv('HOME', str(tmp_path))
    path = resolve(f'{name}:~/own')
    assert (content(path)[0] == images).all() and server.asked == []
    assert resolve(f'{name}:{tmp_path / "own"}') == path
    victim = next(file for file in sorted((tmp_path / 'own').rglob('*')) if re.search(r'\.(jpg|JPEG|bin)$', file.name))
    os.utime(victim, (1, 1))        # another file
    assert resolve(f'{name}:{tmp_path / "own"}') != path

def test_folder_with_the_files(publish, server, tmp_path):
    images, labels = publish('mnist')
    for file in registry.datasets['mnist'].files:
        (tmp_path / file.name).write_bytes(server.files[f'/mnist/{file.name}'])
    path = resolve(f'mnist:{tmp_path}')
    assert (content(path)[0] == images).all() and content(path)[1].tolist() == labels and server.asked == []
    (tmp_path / file.name).unlink()
    with pytest.raises(SpiderError, match='lacks train-labels-idx1-ubyte.gz; give the folder'):
        resolve(f'mnist:{tmp_path}')

def test_file_of_the_user_without_published_digest_is_recorded(tmp_path):
    contents, images, _ = ukiyoe()
    (tmp_path / 'mine.tar').write_bytes(contents['ukiyoe-1024-v2.tar'])
    path = resolve(f'ukiyoe:{tmp_path / "mine.tar"}')
    found, _, info = content(path)
    digest = hashlib.sha256(contents['ukiyoe-1024-v2.tar']).hexdigest()
    assert (found == images).all() and info['files'] == {'ukiyoe-1024-v2.tar': digest}

@pytest.mark.parametrize(['spec', 'words'], [
    ('celeba', ['by hand', 'img_align_celeba.zip', '--spider-source=celeba:PATH', 'non-commercial research']),
    ('celeba:nowhere.zip', ['--spider-source=celeba:nowhere.zip does not exist']),
    ('celeba:{file}', ['--spider-source=celeba', 'is not the published img_align_celeba.zip', 'instead of 1443490838']),
    ('ukiyoe:{file}', ['--spider-source=ukiyoe', 'cannot be read', 'complete and unchanged']),
    ('ukiyoe:{empty}', ['--spider-source=ukiyoe', 'no image was found']),
    ('mnist:{empty}', ['--spider-source=mnist:', 'lacks train-images-idx3-ubyte.gz']),
], ids=['by hand', 'missing', 'other file', 'no archive', 'no images', 'no files'])
def test_refused(tmp_path, cache, spec, words):
    (tmp_path / 'file').write_bytes(b'neither zip nor tar')
    (tmp_path / 'empty').mkdir()
    with pytest.raises(SpiderError) as caught:
        prepare_source(spec.format(file=tmp_path / 'file', empty=tmp_path / 'empty'))
    message = caught.value.message
    assert all(word in message for word in words) and '\n' not in message and message.endswith('.')
    assert [file for file in tree(cache) if not file.endswith('.lock')] == []

#----------------------------------------------------------------------------
# Broken archives and disks.

BROKEN = {
    'cut tar': ('cifar10', lambda data: data[:2000]),
    'cut zip': ('tinyimagenet', lambda data: data[:2000]),
    'odd record': ('cifar10', lambda data: make_tar({'x/data_batch_1.bin': b'x' * 3000}, 'w:gz')),
    'cut gz': ('mnist', lambda data: data[:-9]),
    'no idx': ('mnist', lambda data: gzip.compress(b'x' * 100)),
    'short idx': ('mnist', lambda data: gzip.compress(gzip.decompress(data)[:-1])),
    'no mat': ('svhn', lambda data: b'x' * 1000),
    'no image': ('eurosat', lambda data: make_zip({'A/A_1.jpg': b'x' * 100})),
}

@pytest.mark.parametrize(['name', 'damage'], BROKEN.values(), ids=BROKEN)
def test_broken_archives(name, damage, publish, server, cache):
    publish(name)
    entry = registry.datasets[name]
    url = f'/{name}/{entry.files[0].name}'
    server.files[url] = damage(server.files[url])
    files = tuple(dataclasses.replace(file, size=None, sha256=None) for file in entry.files)
    registry.datasets._entries[name] = dataclasses.replace(entry, files=files)
    with pytest.raises(SpiderError) as caught:
        resolve(name)
    message = caught.value.message
    assert message.startswith(f'--spider-source={name}: ') and 'cannot be read' in message and '\n' not in message
    assert not any(file.startswith('datasets/') and not file.endswith('.lock') for file in tree(cache))

def test_full_disk_while_converting(publish, server, cache, monkeypatch):
    images, _ = publish('cifar10')
    writestr = zipfile.ZipFile.writestr
    def full(self, *args, **kwargs):
        raise OSError(28, 'No space left on device')
    monkeypatch.setattr(zipfile.ZipFile, 'writestr', full)
    with pytest.raises(SpiderError, match=r'Cannot write \S*cifar10.zip .No space left on device; .* free.; .* SPIDER_CACHE_DIR'):
        resolve('cifar10')
    assert not any(file.endswith('.zip') for file in tree(cache))
    monkeypatch.setattr(zipfile.ZipFile, 'writestr', writestr)
    assert (content(resolve('cifar10'))[0] == images).all()
    assert len(server.asked) == 1           # the downloaded file is kept

#----------------------------------------------------------------------------
# What a user sees.

def sources(*args):
    return CliRunner().invoke(cli.main, ['sources', *args])

def test_list(publish, server):
    result = sources()
    assert result.exit_code == 0
    lines = {line.split()[0]: line for line in result.stdout.splitlines() if line}
    assert set(OURS) <= set(lines) and 'covariance, noise' in lines['Drawn,']
    assert '50000   32 x 32      170 MB    sha256 c4a38c50' in lines['cifar10'] and ' no ' in lines['cifar10']
    assert 'by hand' in lines['celeba'] and 'non-commercial research only' in lines['celeba']
    publish('cifar10')
    result = sources('cifar10')
    assert result.exit_code == 0 and result.stdout == f'{resolve("cifar10")}\n'
    assert re.search(r'^cifar10 .* yes ', sources().stdout, re.MULTILINE)

def test_list_as_json():
    rows = json.loads(sources('--json').stdout)
    assert [row['name'] for row in rows if row['name'] in OURS] == OURS
    row = next(row for row in rows if row['name'] == 'cifar100')
    assert row['files'] == [dict(
        name='cifar-100-binary.tar.gz', urls=['https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz'], size=168513733,
        sha256='58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec', md5=None)]
    assert row['cached'] is None and row['download_bytes'] == 168513733 and row['classes'] == 100

def test_unknown_name_and_failure():
    result = sources('imagenet')
    assert result.exit_code == 2 and '--spider-source=imagenet is not a known dataset; choose from' in result.output
    result = sources('celeba')
    assert result.exit_code == 2 and 'by hand' in result.output

def test_plugin_adds_a_dataset(publish, server, monkeypatch, tmp_path):
    def read_pairs(paths, value):
        (path,) = paths.values()
        for label, byte in enumerate(Path(path).read_bytes()):
            yield np.full([8, 8], byte + value, np.uint8), label
    server.files['/mine.raw'] = bytes(range(5))
    monkeypatch.setattr(registry.datasets, '_entries', dict(registry.datasets))
    registry.datasets.register('mine')(Dataset(
        title='Mine', images=5, resolution=8, channels=1, classes=5, reader=read_pairs, options=dict(value=7), licence='CC0',
        page='http://127.0.0.1', files=(File('mine.raw', (f'{server.url}/mine.raw',)),)))
    prepared = prepare_source('mine')
    assert prepared.num_images == 5 and prepared.identity['licence'] == 'CC0' and prepared.num_classes == 5
    info = content(resolve('mine'))[2]
    assert info['files'] == {'mine.raw': hashlib.sha256(bytes(range(5))).hexdigest()}    # recorded if none is published
