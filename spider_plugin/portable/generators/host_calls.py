"""What some hosts' loops ask of any generator, where it has no part in the plugin's networks.

This module is portable: it travels inside snapshots and imports nothing."""

class HostCalls:
    """A part of a generator: methods that a loop calls, and their state, without an effect on the network.

    epochs, update_epochs(): the share of training that is done, in percent, by which the loss of stylegan2-ada-pytorch's forks
    with top-k training picks the samples that it counts. The loss alone reads it."""

    epochs = 0.0

    def update_epochs(self, epoch):
        self.epochs = epoch
