"""The collapse alarm: signs that a GAN's training has gone wrong while all numbers are finite.

Three things are looked at, for which nothing new is trained. The variance over images, at 8x8 pixels, of a few generated images
from fixed latents against that of real ones falls when G draws the same image from every latent. The mean signs of D saturate
when D no longer teaches G anything. The recall of a metric falls when G leaves out parts of the data. A warning is one line, and
comes again only after the sign has passed."""

import numpy as np
import torch
import torch.nn.functional as F

from training import runtime

IMAGES    = 32      # Generated images that are looked at in a tick.
SIDE      = 8       # Pixels of their side.
TICKS     = 3       # Ticks in a row in which images must look bad,
D_TICKS   = 8       # and in which D must be saturated.
CONSTANT  = 0.001   # Share of the real variance below which images are all the same,
LIVELY    = 0.25    # share that they must have had,
FALLEN    = 0.05    # and share below which they then have fallen.
SATURATED = 0.995   # Mean sign of D at real images, and its negative at generated ones, from which on D is certain of each.
RECALL    = 0.3     # Share of the best recall below which it has fallen,
RECALLED  = 0.05    # where the best was at least so large.
REMEDY    = 'look at the newest fakes*.png, and go back to an earlier snapshot with a lower --glr and --dlr or a higher --gamma'

#----------------------------------------------------------------------------

def variance(images):
    """Mean over pixels of the variance over images; images: float [N, C, H, W]."""
    small = F.adaptive_avg_pool2d(images.to(torch.float32), SIDE)
    return float(small.var(dim=0, unbiased=False).mean())

class CollapseWatch:
    """The alarm of one run; see_tick() and see_metric() return the words of a warning or None.

    reals: uint8 [N, C, H, W]. z, c: latents and labels of the images to look at, lists of tensors for one call of G each."""

    def __init__(self, reals, z, c):
        self.real = variance(torch.from_numpy(np.asarray(reals)) / 127.5 - 1)
        self.z, self.c = z, c
        self.best = 0.0     # Largest share of the real variance so far.
        self.recall = {}    # Metric -> best recall so far.
        self.bad = dict(images=0, signs=0)  # Ticks in a row with the sign.
        self.said = set()

    def state_dict(self):
        return dict(best=self.best, recall=dict(self.recall), bad=dict(self.bad), said=sorted(self.said))

    def load_state_dict(self, state):
        self.best, self.recall, self.bad, self.said = state['best'], state['recall'], state['bad'], set(state['said'])

    def see_tick(self, signs_real, signs_fake, G):
        """signs_real, signs_fake: mean signs of D in the tick, NaN where the loss reports none. G: the generator that trains."""
        return self.see_images(self.share(G)) or self.see_signs(signs_real, signs_fake)

    @torch.no_grad()
    def share(self, G):
        """Variance of generated images as a share of that of real ones. Random numbers and G are left as they are."""
        if self.real == 0:
            return float('nan')
        training, device = G.training, self.z[0].device
        G.eval()
        try:
            with runtime.seeded(0, device):
                images = [G(z=z, c=c, noise_mode='const').clamp(-1, 1) for z, c in zip(self.z, self.c, strict=True)]
        finally:
            G.train(training)
        return variance(torch.cat(images)) / self.real

    def see_images(self, share):
        fallen = share < CONSTANT or share < FALLEN and self.best >= LIVELY
        self.best = max(self.best, share) if share == share else self.best
        return self.alarm('images', fallen, TICKS, f'generated images hardly differ any more: their variance is {share:.2g} of '
                          f'that of real ones in {TICKS} ticks, at best it was {self.best:.2g}; G has collapsed')

    def see_signs(self, real, fake):
        saturated = min(abs(real), abs(fake)) > SATURATED
        meaning = 'is certain of every image' if real > 0 > fake else 'does not tell them apart'
        return self.alarm('signs', saturated, D_TICKS, f'the signs of D are saturated, {real:+.3f} at real images and '
                          f'{fake:+.3f} at generated ones in {D_TICKS} ticks: D {meaning}, and G learns nothing from it')

    def see_metric(self, results):
        """results: {name: value} of a metric."""
        words = None
        for name, value in results.items():
            if name.endswith('_recall'):
                best = self.recall[name] = max(self.recall.get(name, 0.0), value)
                words = self.alarm(name, best >= RECALLED and value < RECALL * best, 1,
                                   f'{name} has fallen to {value:.3f} from {best:.3f}; G leaves out parts of the data') or words
        return words

    def alarm(self, name, bad, patience, words):
        self.bad[name] = self.bad.get(name, 0) + 1 if bad else 0
        if not bad:
            self.said.discard(name)
        if self.bad[name] < patience or name in self.said:
            return None
        self.said.add(name)
        return f'{words}; {REMEDY}'

#----------------------------------------------------------------------------
