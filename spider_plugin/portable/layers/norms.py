"""Batch normalisation whose running statistics stay equal in all ranks.

Hosts train with several ranks, each with a part of the batch, and assert at every snapshot that all buffers are equal in all
ranks. Here a rank still normalises with the statistics of its part; the running statistics, which evaluation uses, are means
over the ranks.

Ranks run the same passes only within a training phase. Outside of it rank 0 alone prints a table of the layers, in training
mode, and would wait forever for the other ranks. A network's parameters require gradients only in the phases that train it. So
with several ranks, buffers move only in those phases; with one rank they move in every pass in training mode, as in torch.

This module is portable: it travels inside snapshots and imports only torch."""

import torch
import torch.nn.functional as F

#----------------------------------------------------------------------------

def several_ranks():
    return torch.distributed.is_available() and torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1

def buffers_move(parameter):
    """Return whether a layer in training mode may update its buffers now; `parameter` is a trainable one of the layer."""
    return parameter.requires_grad or not several_ranks()

@torch.no_grad()
def means_over_ranks(tensors):
    """Return the means of floating-point tensors over the ranks, exchanged in one message. Every rank must call it."""
    if not several_ranks():
        return tensors
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    torch.distributed.all_reduce(flat)
    flat /= torch.distributed.get_world_size()
    return [mean.reshape(t.shape) for mean, t in zip(flat.split([t.numel() for t in tensors]), tensors, strict=True)]

@torch.no_grad()
def track_statistics(running_mean, running_var, mean, var, count, momentum=0.1):
    """Update running statistics [C] in place by the batch statistics, averaged over the ranks.

    mean, var:  [C], of this rank's batch; var divides by count, which is the number of samples for each channel. The running
                variance is the unbiased one, as in torch.
    A layer that computes its statistics itself calls this if buffers_move()."""
    unbiased = var * (count / max(count - 1, 1))
    mean, unbiased = means_over_ranks([mean.to(running_mean.dtype), unbiased.to(running_var.dtype)])
    running_mean.lerp_(mean, momentum)
    running_var.lerp_(unbiased, momentum)

#----------------------------------------------------------------------------

class RankBatchNorm2d(torch.nn.BatchNorm2d):
    """torch.nn.BatchNorm2d, its state-dict keys included, with running statistics that are equal in all ranks."""

    def forward(self, x):
        if not (self.training and several_ranks()):
            return super().forward(x)
        mean, var = self.running_mean.clone(), self.running_var.clone()  # The graph keeps these, while the buffers may move.
        x = F.batch_norm(x, mean, var, self.weight, self.bias, training=True, momentum=self.momentum, eps=self.eps)
        if buffers_move(self.weight):
            mean, var = means_over_ranks([mean, var])
            self.running_mean.copy_(mean)
            self.running_var.copy_(var)
            self.num_batches_tracked += 1
        return x

#----------------------------------------------------------------------------
