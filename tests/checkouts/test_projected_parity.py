"""The plugin's projected discriminator equals projected-gan's with its weights and random features, in maps, logits, gradients
and buffers after a pass.

Both compute in float64, because in float32 a few of ten million activations are on different sides of a kink in the two, and
then gradients of single pixels differ completely. Maps and logits are also compared in float32."""

import importlib.util
import os
import pathlib

import pytest
import torch

from spider_plugin.portable.discriminator.feature_networks import fold_lite
from spider_plugin.portable.discriminator.projected import ProjectedDiscriminator
from spider_plugin.weights import prepare_backbone, timm_names

HARNESS = pathlib.Path(__file__).with_name('projected_harness.py')
BOUND = 1e-4    # max|a-b| / max|b| of each tensor

@pytest.fixture
def projected_gan():
    path = pathlib.Path(os.environ.get('SPIDER_HOSTS') or os.devnull, 'projected-gan')
    if not path.is_dir() or importlib.util.find_spec('timm') is None:
        pytest.skip('needs a checkout of autonomousvision/projected-gan as $SPIDER_HOSTS/projected-gan, and timm')
    return path

def error(a, b):
    return float(((a - b).abs().max() / b.abs().max().clamp(min=1e-12)).detach())

@pytest.mark.parametrize('heads, cond, res', [('standard', False, 256), ('separable', False, 64), ('standard', True, 64)])
def test_agrees_with_projected_gan(run_in, projected_gan, tmp_path, heads, cond, res):
    torch.manual_seed(1)
    images, labels = torch.rand([3, 3, res, res], dtype=torch.float64) * 2 - 1, torch.eye(1000)[torch.arange(3) * 7]
    weight = torch.randn([3, 400], dtype=torch.float64)
    theirs = run_in(projected_gan, 'discriminator', harness=HARNESS, images=images, labels=labels, weight=weight,
                    interp224=res < 224, kwargs=dict(separable=heads == 'separable', cond=cond, num_discs=4, proj_type=2))
    before = theirs['before']
    torch.save(before, tmp_path / 'pg.pth')
    name, weights = prepare_backbone(f'tf_efficientnet_lite0:{tmp_path}/pg.pth')
    def ours():
        D = ProjectedDiscriminator(1000 if cond else 0, res, 3, backbone=name, weights=weights, heads=heads, augment=False)
        assert D.state_dict().keys() == {key for key in before if not key.startswith('feature_network.pretrained.')}
        D.load_state_dict({key: before[key] for key in D.state_dict()})
        return D.train()
    with torch.no_grad():
        D, x = ours(), images.float()
        assert max(map(error, D.feature_network(D._prepared(x)), theirs['maps'])) < BOUND
        assert error(D(x, labels), theirs['logits']) < BOUND

    D, images = ours().double(), images.requires_grad_()
    D.load_state_dict({key: before[key] for key in D.state_dict()})
    D.feature_network.features.tensors = fold_lite(name, timm_names(before), torch.float64)
    logits = D(images, labels)
    (logits * weight[:, :logits.shape[1]]).sum().backward()
    assert logits.shape == theirs['logits'].shape and error(logits, theirs['logits']) < 1e-9
    assert error(images.grad, theirs['image_grad']) < 1e-6
    grads, largest = {key: p.grad for key, p in D.named_parameters()}, max(float(g.abs().max()) for g in theirs['grads'].values())
    assert grads.keys() == theirs['grads'].keys()
    for key, grad in theirs['grads'].items():   # a bias before batch norm has no gradient but for rounding
        assert error(grads[key], grad) < 1e-6 or float(grad.abs().max()) < 1e-9 * largest, key
    for key, tensor in D.state_dict().items():
        assert error(tensor.double(), theirs['after'][key].double()) < 1e-6, key
