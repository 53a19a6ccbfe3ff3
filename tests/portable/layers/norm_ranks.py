"""A rank of test_spectral_norm.py: python norm_ranks.py RANK RANKS STORE OUT.pt

A network with every kind of layer trains for a few steps as in hosts. It runs first on rank 0 alone, for the table of its
layers, then on all ranks from equal tensors with different images, in its phase and in another network's phase."""

import sys

import torch

from spider_plugin.portable.layers.norms import RankBatchNorm2d
from spider_plugin.portable.layers.spectral_norm import SpectralConv2d, SpectralConvTranspose2d, SpectralLinear

rank, ranks, store, out = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
torch.set_num_threads(1)
torch.distributed.init_process_group('gloo', init_method=f'file://{store}', rank=rank, world_size=ranks)
torch.manual_seed(rank)
net = torch.nn.Sequential(SpectralConv2d(3, 6, 3), RankBatchNorm2d(6), SpectralConvTranspose2d(6, 4, 3), RankBatchNorm2d(4),
                          torch.nn.Flatten(), SpectralLinear(4 * 64, 2)).train().requires_grad_(False)
opt = torch.optim.Adam(net.parameters(), lr=0.01)
if rank == 0:
    net(torch.randn([4, 3, 8, 8]))
for tensor in [*net.parameters(), *net.buffers()]:
    torch.distributed.broadcast(tensor, src=0)

start, means = [x.clone() for x in net.buffers()], []
for _ in range(3):
    net.requires_grad_(True)
    x = torch.randn([4, 3, 8, 8])
    means.append(net[0](x).mean(dim=[0, 2, 3]).detach())    # a separate pass, equal steps of u and v in all ranks
    net(x).square().mean().backward()
    net.requires_grad_(False)
    for p in net.parameters():
        torch.distributed.all_reduce(p.grad)
    opt.step()
    opt.zero_grad()
    before = [x.clone() for x in net.buffers()]
    net(torch.randn([4, 3, 8, 8], requires_grad=True)).mean().backward()
    still = all(map(torch.equal, before, net.buffers()))
moved = [not torch.equal(a, b) for a, b in zip(start, net.buffers())]
torch.save(dict(state=net.state_dict(), means=means, still=still, moved=moved), out)
