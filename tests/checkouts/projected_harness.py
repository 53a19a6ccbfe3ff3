"""Evaluates projected-gan's discriminator, in a separate process that sees only that checkout, torch and timm.

    python projected_harness.py HOST_DIR job.pt results.pt"""

import sys
from pathlib import Path

import torch

sys.path.append(str(Path(__file__).parent))
from harness import mend, mend_torchvision  # noqa: E402

def discriminator(images, labels, weight, kwargs, interp224):
    """Return the state dict before a pass, maps, logits, gradients of (logits * weight).sum(), and the state dict after it."""
    import timm
    from timm.models.efficientnet import EfficientNet
    if not hasattr(EfficientNet, 'act1'):
        EfficientNet.act1 = torch.nn.Identity()
    stock = timm.create_model
    timm.create_model = lambda name, pretrained: stock(name, pretrained=False)
    from pg_modules.discriminator import ProjectedDiscriminator
    D = ProjectedDiscriminator(diffaug=False, interp224=interp224, backbone_kwargs=kwargs).train().double()
    for name, buffer in D.feature_network.named_buffers():
        if name.endswith('running_var'):
            buffer.uniform_(0.9, 1.1)
    before = {name: tensor.clone() for name, tensor in D.state_dict().items()}
    D.feature_network.requires_grad_(False)
    images.requires_grad_()
    x = torch.nn.functional.interpolate(images, 224, mode='bilinear', align_corners=False) if interp224 else images
    maps = [tensor.detach() for tensor in D.feature_network(x).values()]
    logits = D(images, labels)
    (logits * weight[:, :logits.shape[1]]).sum().backward()
    grads = {name: p.grad for name, p in D.named_parameters() if p.grad is not None}
    return dict(before=before, maps=maps, logits=logits.detach(), image_grad=images.grad, grads=grads, after=D.state_dict())

CALLS = dict(discriminator=discriminator)

if __name__ == '__main__':
    host_dir, job_path, result_path = sys.argv[1:]
    sys.path[0] = host_dir
    mend()
    library = mend_torchvision()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    job = torch.load(job_path)
    torch.save(CALLS[job.pop('call')](**job), result_path)
