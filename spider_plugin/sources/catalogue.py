"""The catalogue of named datasets: data only. `--spider-source=NAME` and `spider sources` read it (obtain.py).

Another package adds entries by an entry point (spider_plugin/registry.py), whose module contains

    from spider_plugin import registry
    from spider_plugin.sources.catalogue import Dataset, File

    registry.datasets.register('mine')(Dataset(title='Mine', files=(File('mine.zip', ...),), ...))"""

import dataclasses
from collections.abc import Callable

from spider_plugin.files.download import File
from spider_plugin.registry import datasets

#----------------------------------------------------------------------------

@dataclasses.dataclass(frozen=True)
class Dataset:
    """An entry of the catalogue. Files without an address are fetched by hand, as `how` explains."""

    title:      str
    images:     int             # in the part that is used, which is the training set where there are several
    resolution: int             # side of the images, as published or cut to a square
    channels:   int
    classes:    int             # 0 without labels
    reader:     str | Callable  # a name in spider_plugin.sources.convert.READERS, or a function like those
    files:      tuple           # of File
    licence:    str             # terms of use, in a few words
    page:       str             # the publisher's page
    options:    dict = dataclasses.field(default_factory=dict)      # keywords of the reader
    how:        str  = ''       # how to fetch the files by hand; its end says which file to give as PATH

    @property
    def download_bytes(self):
        """Size of all files, or None if the size of one is not known."""
        sizes = [file.size for file in self.files]
        return None if None in sizes else sum(sizes)

#----------------------------------------------------------------------------
# The catalogue. Sizes and digests are those that TensorFlow Datasets records. The page of Tiny ImageNet states none; its digest
# is the one on which public loaders agree. Where no digest is published, the zip's dataset.json records the one found.

_TORONTO  = 'https://www.cs.toronto.edu/~kriz'
_MNIST    = ('https://ossci-datasets.s3.amazonaws.com/mnist', 'https://storage.googleapis.com/cvdf-datasets/mnist')
_FASHION  = 'http://fashion-mnist.s3-website.eu-central-1.amazonaws.com'
_KMNIST   = 'http://codh.rois.ac.jp/kmnist/dataset/kmnist'
_EUROSAT  = 'https://huggingface.co/datasets/torchgeo/eurosat/resolve/c877bcd43f099cd0196738f714544e355477f3fd'
_IMAGENET = 'none stated; from ImageNet: non-commercial research and education, images belong to their owners'

_CATALOGUE = {
    'tinyimagenet': Dataset(
        title='Tiny ImageNet', images=100000, resolution=64, channels=3, classes=200,
        files=(File('tiny-imagenet-200.zip', ('https://cs231n.stanford.edu/tiny-imagenet-200.zip',
                                              'http://cs231n.stanford.edu/tiny-imagenet-200.zip'), 248100043,
                    '6198c8ae015e2b3e007c7841da39ec069199b9aa3bfa943a462022fe5e43c821'),),
        reader='images', options=dict(pattern=r'(^|/)train/(?P<label>n\d{8})/images/[^/]+\.JPEG$'),
        licence=_IMAGENET, page='https://cs231n.stanford.edu'),

    'cifar10': Dataset(
        title='CIFAR-10', images=50000, resolution=32, channels=3, classes=10,
        files=(File('cifar-10-binary.tar.gz', (f'{_TORONTO}/cifar-10-binary.tar.gz',), 170052171,
                    'c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd'),),
        reader='records', options=dict(pattern=r'(^|/)data_batch_\d\.bin$', side=32, label_bytes=1),
        licence='none stated; images from the web, belong to their owners', page=f'{_TORONTO}/cifar.html'),

    'cifar100': Dataset(
        title='CIFAR-100', images=50000, resolution=32, channels=3, classes=100,
        files=(File('cifar-100-binary.tar.gz', (f'{_TORONTO}/cifar-100-binary.tar.gz',), 168513733,
                    '58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec'),),
        reader='records', options=dict(pattern=r'(^|/)train\.bin$', side=32, label_bytes=2),
        licence='none stated; images from the web, belong to their owners', page=f'{_TORONTO}/cifar.html'),

    'mnist': Dataset(
        title='MNIST', images=60000, resolution=28, channels=1, classes=10,
        files=(File('train-images-idx3-ubyte.gz', tuple(f'{url}/train-images-idx3-ubyte.gz' for url in _MNIST), 9912422,
                    '440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609'),
               File('train-labels-idx1-ubyte.gz', tuple(f'{url}/train-labels-idx1-ubyte.gz' for url in _MNIST), 28881,
                    '3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c')),
        reader='idx', licence='CC BY-SA 3.0, as Keras states', page='http://yann.lecun.com/exdb/mnist'),

    'fashion-mnist': Dataset(
        title='Fashion-MNIST', images=60000, resolution=28, channels=1, classes=10,
        files=(File('train-images-idx3-ubyte.gz', (f'{_FASHION}/train-images-idx3-ubyte.gz',), 26421880,
                    '3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84'),
               File('train-labels-idx1-ubyte.gz', (f'{_FASHION}/train-labels-idx1-ubyte.gz',), 29515,
                    'a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845')),
        reader='idx', licence='MIT', page='https://github.com/zalandoresearch/fashion-mnist'),

    'kmnist': Dataset(
        title='Kuzushiji-MNIST', images=60000, resolution=28, channels=1, classes=10,
        files=(File('train-images-idx3-ubyte.gz', (f'{_KMNIST}/train-images-idx3-ubyte.gz',), 18165135,
                    '51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4'),
               File('train-labels-idx1-ubyte.gz', (f'{_KMNIST}/train-labels-idx1-ubyte.gz',), 29497,
                    'e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17')),
        reader='idx', licence='CC BY-SA 4.0', page='https://github.com/rois-codh/kmnist'),

    'svhn': Dataset(
        title='SVHN, cropped digits', images=73257, resolution=32, channels=3, classes=10,
        files=(File('train_32x32.mat', ('http://ufldl.stanford.edu/housenumbers/train_32x32.mat',), 182040794,
                    '435e94d69a87fde4fd4d7f3dd208dfc32cb6ae8af2240d066de1df7508d083b8'),),
        reader='svhn', licence='non-commercial use only', page='http://ufldl.stanford.edu/housenumbers'),

    'stl10': Dataset(
        title='STL-10, unlabelled images', images=100000, resolution=96, channels=3, classes=0,
        files=(File('stl10_binary.tar.gz', ('http://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz',), 2640397119,
                    'f31fd99273a1acb8609c8db427cebb1de3f71de77758cdc0e22956e1289b9866'),),
        reader='records', options=dict(pattern=r'(^|/)unlabeled_X\.bin$', side=96, by_columns=True),
        licence=_IMAGENET, page='https://cs.stanford.edu/~acoates/stl10'),

    'eurosat': Dataset(
        title='EuroSAT, RGB', images=27000, resolution=64, channels=3, classes=10,
        files=(File('EuroSAT.zip', (f'{_EUROSAT}/EuroSAT.zip', 'https://madm.dfki.de/files/sentinel/EuroSAT.zip'), 94280567,
                    '8ebea626349354c5328b142b96d0430e647051f26efc2dc974c843f25ecf70bd'),),
        reader='images', options=dict(pattern=r'(^|/)(?P<label>\w+)/(?P=label)_\d+\.jpg$'),
        licence='MIT', page='https://github.com/phelber/EuroSAT'),

    'celeba': Dataset(
        title='CelebA, aligned, middle square', images=202599, resolution=178, channels=3, classes=0,
        files=(File('img_align_celeba.zip', (), 1443490838,
                    '46fb89443c578308acf364d7d379fe1b9efb793042c0af734b6112e4fd3a8c74'),),
        reader='images', options=dict(pattern=r'(^|/)\d{6}\.jpg$'),
        licence='non-commercial research only, not to be passed on', page='https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html',
        how='agree to the terms on its page, download img_align_celeba.zip from the drive it links to, and give that file, or '
            'the folder it unpacks to'),

    'afhq': Dataset(
        title='AFHQ v2: cats, dogs, wild animals', images=14336, resolution=512, channels=3, classes=3,
        files=(File('afhq_v2.zip'),),
        reader='images', options=dict(pattern=r'(^|/)train/(?P<label>cat|dog|wild)/[^/]+\.(png|jpg)$'),
        licence='CC BY-NC 4.0', page='https://github.com/clovaai/stargan-v2',
        how='run `bash download.sh afhq-v2-dataset` of its repository, or download afhq_v2.zip from the address in that script, '
            'and give that file, or the folder it unpacks to'),

    'ukiyoe': Dataset(
        title='Ukiyo-e faces v2', images=5209, resolution=1024, channels=3, classes=0,
        files=(File('ukiyoe-1024-v2.tar'),),
        reader='images', options=dict(pattern=r'\.jpg$'),
        licence='CC BY-SA 4.0', page='https://www.justinpinkney.com/ukiyoe-dataset',
        how='download ukiyoe-1024-v2.tar from the drive that its page links to, and give that file, or the folder it unpacks to'),

    'metfaces': Dataset(
        title='MetFaces', images=1336, resolution=1024, channels=3, classes=0,
        files=(File('images'),),
        reader='images', options=dict(pattern=r'(^|/)\d+-\d+\.png$'),
        licence='CC BY-NC 2.0', page='https://github.com/NVlabs/metfaces-dataset',
        how='download the folder `images` from the drive that its page links to, and give that folder, or a zip of it'),
}

for _name, _dataset in _CATALOGUE.items():
    datasets.register(_name)(_dataset)

#----------------------------------------------------------------------------
