"""A training loop of its own, as many codebases have one, with the networks of the embedded host: no train.py of NVIDIA's, no
click, no launch function. The config is a dict with the entries that such codebases share."""

import importlib

import torch

CONFIG = dict(
    training_set_kwargs = dict(class_name='training.dataset.ImageFolderDataset', path=None, use_labels=False, max_size=None),
    G_kwargs = dict(class_name='training.networks_stylegan2.Generator', z_dim=64, w_dim=64, channel_base=512, channel_max=16,
                    mapping_kwargs=dict(num_layers=2)),
    D_kwargs = dict(class_name='training.networks_stylegan2.Discriminator', channel_base=512, channel_max=16),
    steps = 4, batch = 8, out = 'generator.pt')

def build(class_name, **kwargs):
    module, _, name = class_name.rpartition('.')
    return getattr(importlib.import_module(module), name)(**kwargs)

def descend(optimizer, loss):
    """Make one step of an optimizer, and return the loss."""
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return float(loss)

def train(config):
    """Train with the non-saturating loss for config['steps'] steps, and save the tensors of G."""
    torch.manual_seed(0)
    dataset = build(**config['training_set_kwargs'])
    shape = dict(c_dim=0, img_resolution=dataset.resolution, img_channels=dataset.num_channels)
    G, D = build(**config['G_kwargs'], **shape), build(**config['D_kwargs'], **shape)
    optimizers = [torch.optim.Adam(net.parameters(), lr=0.002, betas=(0.0, 0.99)) for net in (G, D)]
    softplus, batch = torch.nn.functional.softplus, config['batch']
    for step in range(config['steps']):
        images = [torch.from_numpy(dataset[i % len(dataset)][0]) for i in range(step * batch, (step + 1) * batch)]
        reals = torch.stack(images).to(torch.float32) / 127.5 - 1
        fakes = G(torch.randn(batch, G.z_dim), None)
        descend(optimizers[0], softplus(-D(fakes, None)).mean())
        loss = descend(optimizers[1], (softplus(D(fakes.detach(), None)) + softplus(-D(reals, None))).mean())
        print(f'step {step + 1} of {config["steps"]}: {type(G).__name__}, loss of D {loss:.3f}', flush=True)
    torch.save(G.state_dict(), config['out'])
