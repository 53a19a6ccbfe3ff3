"""Image sources at run time: any z, exact and uniform choice, classes, noise, pickling, generators."""

import copy
import json
import math
import os
import pickle

import numpy as np
import pytest
import torch

from spider_plugin.portable.source.bank import GeneratorSource, ImageBank, SourceLost, open_source

IDENTITY = {'name': 'test', 'sha256': '0' * 64, 'transform': 'none', 'licence': 'CC0'}

#----------------------------------------------------------------------------

def marked_images(n=16, channels=3, res=8):
    """Image i has the constant value 10 i."""
    return (torch.arange(n, dtype=torch.uint8) * 10).reshape(n, 1, 1, 1).repeat(1, channels, res, res)

def which(images):
    return ((images.mean(dim=[1, 2, 3]) + 1) * 127.5 / 10).round().long()

def write_bank(path, images, labels=None):
    path.mkdir(exist_ok=True)
    np.save(path / 'images.npy', images.numpy())
    (path / 'bank.json').write_text(json.dumps({'format': 1, 'identity': IDENTITY, 'labels': labels}))
    return str(path)

class TinyGenerator(torch.nn.Module):
    """Brightness = tanh of the first latent; red is the class."""

    def __init__(self, z_dim, c_dim=0):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones([]))
        self.z_dim, self.c_dim = z_dim, c_dim

    def forward(self, z, c, noise_mode='random'):
        image = (z[:, 0] * self.scale * 3)[:, None, None, None].repeat(1, 3, 16, 16)
        if self.c_dim:
            image[:, 0] = c.argmax(dim=1)[:, None, None] * 0.1
        return image

def write_generator(path, declare_generator, z_dim=12, c_dim=0):
    write_bank(path, marked_images())
    info = {'format': 1, 'identity': IDENTITY, 'class_name': declare_generator(TinyGenerator), 'z_dim': z_dim,
            'init_kwargs': {'z_dim': z_dim, 'c_dim': c_dim}, 'c_dim': c_dim, 'resolution': 8, 'channels': 3}
    (path / 'generator.json').write_text(json.dumps(info))
    torch.save(TinyGenerator(z_dim, c_dim).state_dict(), path / 'weights.pt')
    return str(path)

#----------------------------------------------------------------------------

@pytest.mark.parametrize('noise', [0.0, 0.25])
def test_any_z_gives_a_valid_image(noise):
    bank = ImageBank.from_images(marked_images(), IDENTITY, noise=noise)
    z = torch.randn([6, 5])
    z[1], z[2], z[3], z[4] = math.nan, math.inf, -math.inf, 1e-42
    for z_any in [z, z.double() * 1e200, z.half(), torch.empty([3, 512]), torch.zeros([0, 5])]:
        images = bank.sample(z_any)
        assert images.shape == (len(z_any), 3, 8, 8) and images.dtype == torch.float32
        assert images.isfinite().all() and (images.abs() <= 1).all()

def test_z_decides_alone_and_uniformly():
    bank = ImageBank.from_images(marked_images(), IDENTITY)
    z = torch.randn([20000, 64], generator=torch.Generator().manual_seed(0))
    chosen = which(bank.sample(z))
    assert torch.equal(chosen[:100], torch.cat([which(bank.sample(row[None])) for row in z[:100]]))
    counts = torch.bincount(chosen, minlength=16)
    assert ((counts - 1250).abs() < 5 * math.sqrt(1250)).all()

def test_key_is_exact_integers_and_names_the_image():
    bank = ImageBank.from_images(marked_images(), IDENTITY)
    z = torch.randn([50, 64])
    key = bank.key(z)
    assert key.dtype == torch.float32 and (key == key.round()).all() and (key < 1 << 24).all() and (key >= 0).all()
    assert torch.equal(which(bank.fetch(key)), key[:, 0].long())
    assert torch.equal(bank.fetch(key), bank.sample(z))

@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')
def test_cuda_draws_what_the_cpu_draws():
    bank = ImageBank.from_images(marked_images(), IDENTITY, noise=0.1)
    z = torch.randn([4096, 512])
    z[0], z[1] = math.nan, math.inf
    for z_any in [z, z.double(), z[:, ::2]]:
        assert torch.equal(bank.key(z_any.cuda()).cpu(), bank.key(z_any))
        assert torch.allclose(bank.sample(z_any.cuda()).cpu(), bank.sample(z_any), atol=1e-5)

def test_noise_belongs_to_z():
    bank = ImageBank.from_images(marked_images(4) + 100, IDENTITY, noise=0.1)
    z = torch.randn([200, 8])
    images = bank.sample(z)
    assert torch.equal(images, bank.sample(z))
    clean = (marked_images(4) + 100)[bank.key(z)[:, 0].long()].float() / 127.5 - 1
    assert abs((images - clean).std().item() - 0.1) < 0.005
    assert not torch.equal((images - clean)[0], (images - clean)[1])

def test_classes_draw_from_their_own_images():
    labels = [i % 3 for i in range(15)] + [4]                   # class 3 is empty
    bank = ImageBank.from_images(marked_images(), IDENTITY, labels=labels)
    z = torch.randn([500, 8])
    for label in [0, 1, 2, 4]:
        c = torch.nn.functional.one_hot(torch.full([500], label), 5).float()
        assert {labels[i] for i in which(bank.sample(z, c)).tolist()} == {label}
    empty = torch.nn.functional.one_hot(torch.full([500], 3), 5).float()
    assert len(set(which(bank.sample(z, empty)).tolist())) == 16
    assert torch.equal(bank.sample(z, torch.zeros([500, 0])), bank.sample(z))
    assert torch.equal(bank.sample(z, torch.ones([500, 7])), bank.sample(z))    # labels of another kind

def test_a_class_draws_from_the_class_that_was_said():
    labels = [i % 3 for i in range(15)] + [4]
    bank = ImageBank.from_images(marked_images(), IDENTITY, labels=labels, classes=[4, -1, 4, 0])
    z, c = torch.randn([500, 8]), torch.eye(4)
    def drawn(bank, label):
        return {labels[i] for i in which(bank.sample(z, c[label].expand(500, -1))).tolist()}
    for opened in (bank, pickle.loads(pickle.dumps(bank))):
        assert [drawn(opened, label) for label in range(4)] == [{4}, {0, 1, 2, 4}, {4}, {0}]
    assert torch.equal(bank.sample(z, torch.zeros([500, 0])), bank.sample(z))
    few = pickle.loads(pickle.dumps(ImageBank.from_images(marked_images()[:12], IDENTITY, labels[:12], classes=[4, -1, 4, 0])))
    assert drawn(few, 0) == {0, 1, 2}                           # a snapshot's images may lack a class

def test_copies_share_and_hold_no_parameters(tmp_path):
    bank = ImageBank(write_bank(tmp_path / 'bank', marked_images()))
    holder = torch.nn.Module()
    holder.source = bank
    assert copy.deepcopy(holder).source is bank
    assert not list(holder.parameters()) and not list(holder.buffers())
    assert isinstance(np.load(tmp_path / 'bank' / 'images.npy', mmap_mode='r'), np.memmap)
    assert torch.equal(bank.images, marked_images())

def test_a_pickle_embeds_a_bounded_prefix(tmp_path):
    images = torch.randint(0, 256, [1000, 3, 64, 64], dtype=torch.uint8)
    bank = ImageBank(write_bank(tmp_path / 'bank', images, labels=[i % 7 for i in range(1000)]), embed=2)
    data = pickle.dumps(bank)
    assert len(data) < 2.3 * (1 << 20)
    opened = pickle.loads(data)
    n = bank.num_embedded()
    assert n == len(opened) == (2 << 20) // (3 * 64 * 64) and torch.equal(opened.images, images[:n])
    assert opened.identity == IDENTITY and torch.equal(opened.mean_image, bank.mean_image)
    assert torch.equal(pickle.loads(pickle.dumps(opened)).sample(z := torch.randn([5, 9])), opened.sample(z))

def test_nothing_embedded_draws_the_mean_and_says_so():
    bank = pickle.loads(pickle.dumps(ImageBank.from_images(marked_images(), IDENTITY, embed=0)))
    with pytest.warns(UserWarning, match='--spider-embed=0'):
        images = bank.sample(torch.randn([4, 8]))
    assert torch.equal(images, bank.mean_image.repeat(4, 1, 1, 1))

def test_a_missing_directory_names_the_option(tmp_path):
    with pytest.raises(FileNotFoundError, match='--spider-source'):
        open_source(str(tmp_path / 'gone'))

#----------------------------------------------------------------------------

def test_generator_source_is_its_generator(tmp_path, declare_generator):
    source = open_source(write_generator(tmp_path / 'g', declare_generator, z_dim=12))
    assert isinstance(source, GeneratorSource) and source.key_dim == 13
    z = torch.randn([9, 12]) * 0.1
    assert torch.allclose(source.sample(z), TinyGenerator(12)(z, None)[:, :, :8, :8].clamp(-1, 1))
    assert torch.equal(source.sample(z.double()), source.sample(z))
    assert not any(p.requires_grad for p in source.network.parameters())
    assert not source.sample(z.requires_grad_(True)).requires_grad

def test_generator_source_takes_any_z(tmp_path, declare_generator):
    source = open_source(write_generator(tmp_path / 'g', declare_generator, z_dim=12))
    bad = torch.tensor([[math.nan] * 12, [math.inf] * 12, [1e38] * 12])
    for z in [bad, torch.randn([3, 4]), torch.randn([3, 600])]:
        images = source.sample(z)
        assert images.shape == (3, 3, 8, 8) and images.isfinite().all() and (images.abs() <= 1).all()
    long = torch.randn([3, 600])
    assert torch.equal(source.sample(long), source.sample(long[:, :12]))
    short = torch.randn([3, 4])
    assert torch.equal(source.key(short)[:, :4], short) and len(source.key(short)[:, 4:12].unique()) == 24

def test_generator_source_unclamped_for_the_paper_mappings(tmp_path, declare_generator):
    source = open_source(write_generator(tmp_path / 'g', declare_generator, z_dim=12), clamp=False)
    assert source.sample(torch.full([1, 12], 2.0)).max() == 6

def test_generator_source_gets_the_class(tmp_path, declare_generator):
    source = open_source(write_generator(tmp_path / 'g', declare_generator, z_dim=12, c_dim=4))
    c = torch.nn.functional.one_hot(torch.tensor([0, 3]), 4).float()
    assert torch.allclose(source.sample(torch.zeros([2, 12]), c)[:, 0, 0, 0], torch.tensor([0.0, 0.3]))

def test_generator_source_draws_all_classes_without_a_label_that_fits(tmp_path, declare_generator):
    source = open_source(write_generator(tmp_path / 'g', declare_generator, z_dim=12, c_dim=4))
    z = torch.randn([400, 12], generator=torch.Generator().manual_seed(0))
    for c in (None, torch.zeros([400, 0]), torch.eye(3)[torch.zeros([400], dtype=torch.int64)]):
        assert (source.key(z, c)[:, -1].long().bincount(minlength=4) > 60).all()

def test_generator_source_gets_the_class_that_was_said(tmp_path, declare_generator):
    path = write_generator(tmp_path / 'g', declare_generator, z_dim=12, c_dim=4)
    source = open_source(path, classes=[3, -1])
    labels = (source.sample(torch.randn([200, 12]), torch.eye(2).repeat(100, 1))[:, 0, 0, 0] * 10).round().int()
    assert set(labels[::2].tolist()) == {3} and set(labels[1::2].tolist()) == {0, 1, 2, 3}

def test_generator_source_pickles_as_its_bank(tmp_path, declare_generator):
    source = open_source(write_generator(tmp_path / 'g', declare_generator))
    opened = pickle.loads(pickle.dumps(source))
    assert isinstance(opened, ImageBank) and torch.equal(opened.images, marked_images())

#----------------------------------------------------------------------------
# Files that are cut. Reading beyond the end of a mapped file would end the process by SIGBUS.

@pytest.mark.parametrize('size', [0, 5, 100, 500])
def test_a_cut_bank_is_refused_when_it_is_opened(tmp_path, size):
    path = write_bank(tmp_path / 'bank', marked_images())
    os.truncate(f'{path}/images.npy', size)
    with pytest.raises(SourceLost, match='images.npy or the bank.json beside it is cut or damaged .*prepares it anew') as caught:
        open_source(path)
    assert caught.value.for_user and '\n' not in str(caught.value)

@pytest.mark.parametrize('use', [lambda bank: bank.sample(torch.randn([4, 8])), pickle.dumps])
def test_a_bank_that_is_cut_while_it_is_used_is_said(tmp_path, use):
    path = write_bank(tmp_path / 'bank', marked_images(n=16, res=64))
    bank = open_source(path)
    use(bank)
    os.truncate(f'{path}/images.npy', 4096)
    with pytest.raises(SourceLost, match=r'images.npy has been cut to 4096 bytes of \d+ while it was in use'):
        use(bank)

def test_a_bank_that_is_removed_while_it_is_used_serves_on(tmp_path):
    bank = open_source(write_bank(tmp_path / 'bank', marked_images()))
    before = bank.sample(torch.ones([3, 8]))
    os.remove(tmp_path / 'bank' / 'images.npy')
    assert torch.equal(bank.sample(torch.ones([3, 8])), before)
