"""Compares projected-gan's FastGAN with the plugin's with the same weights, in a separate process: HOST_DIR job.pt results.pt."""

import sys

import harness
import torch

def separable(G, blocks):
    """Replace the 3x3 convolutions of the blocks by projected-gan's separable convolution."""
    for name, module in list(G.synthesis.named_modules()):
        if name.startswith('feat') and isinstance(module, torch.nn.Conv2d) and module.kernel_size == (3, 3):
            parent, _, last = name.rpartition('.')
            G.synthesis.get_submodule(parent)._modules[last] = blocks.SeparableConv2d(module.in_channels, module.out_channels, 3)

def compare(lite, classes, dsc, train, resolution=128):
    """Return {name: (value of the plugin, value of projected-gan)} for output, gradients and buffers."""
    from pg_modules import blocks, networks_fastgan

    from spider_plugin.portable.generators.fastgan import FastGANGenerator
    torch.manual_seed(0)
    theirs = networks_fastgan.Generator(z_dim=32, c_dim=classes, img_resolution=resolution, ngf=8, cond=int(classes > 0),
                                        synthesis_kwargs=dict(lite=lite))
    if dsc:
        separable(theirs, blocks)
    with torch.no_grad():
        for p in theirs.parameters():
            p.add_(0.1 * torch.randn_like(p))
        for _ in range(5):      # The vectors of spectral norm follow; with those of other weights sigma may be about zero.
            theirs.train()(torch.randn(3, 32), torch.eye(classes)[:3] if classes else torch.zeros(3, 0))
    ours = FastGANGenerator(z_dim=32, c_dim=classes, img_resolution=resolution, ngf=8, lite=lite, dsc={} if dsc else None)
    first = {name: tensor[:classes] if name.endswith('embed.weight') else tensor for name, tensor in theirs.state_dict().items()}
    missing, unexpected = ours.load_state_dict(first, strict=False)
    assert missing == ['mapping.w_avg'] and all('256' in name for name in unexpected), (missing, unexpected)
    z, c = torch.randn(3, 32), torch.eye(classes)[:3] if classes else torch.zeros(3, 0)
    weight, found = torch.randn(3, 3, resolution, resolution), []
    for G in (ours.train(train), theirs.train(train)):
        torch.manual_seed(5)    # of the noise layers
        image = G(z, c)
        (image * weight).sum().backward()
        found.append(dict({'image': image.detach()}, **{name: p.grad[:classes] if name.endswith('embed.weight') else p.grad
                                                         for name, p in G.named_parameters() if p.grad is not None},
                          **{name: b.float() for name, b in G.named_buffers()}))
    return {name: (tensor, found[1][name]) for name, tensor in found[0].items() if name != 'mapping.w_avg'}

if __name__ == '__main__':
    host_dir, job_path, result_path = sys.argv[1:]
    sys.path[0] = host_dir
    harness.mend()
    torch.set_num_threads(1)
    job = torch.load(job_path)
    job.pop('call')
    torch.save(compare(**job), result_path)
