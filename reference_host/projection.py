"""Projection of an image into W, and into what else the images of a network depend on. The method is that of appendix D of Karras
et al., "Analyzing and Improving the Image Quality of StyleGAN" (2020), called [SG2] here."""

import copy
import math

import numpy as np
import torch
import torch.nn.functional as F

import tool_utils

#----------------------------------------------------------------------------
# Constants of [SG2], appendix D; times are fractions of the number of steps.

W_SAMPLES       = 10000 # Latents from which the mean and the spread of w are estimated.
LEARNING_RATE   = 0.1   # Highest learning rate.
RAMP_UP         = 0.05  # Time in which it rises from zero.
RAMP_DOWN       = 0.25  # Time in which it falls to zero at the end.
W_NOISE         = 0.05  # Noise added to w at the start, in units of its spread.
W_NOISE_END     = 0.75  # Time at which that noise has fallen to zero.
NOISE_WEIGHT    = 1e5   # Weight of the regularisation of the noise inputs.

# Of networks whose images depend on more than styles, such as a source image.
STARTS          = 200   # Values of the rows that are no styles that are tried at the mean of w, or as many as there are steps.
FINALISTS       = 4     # The nearest of them are projected for
FINALIST_STEPS  = 0.1   # this share of the steps each, and the nearest one then for all.

#----------------------------------------------------------------------------
# Parts of the method.

@torch.no_grad()
def w_statistics(G, label, random, batch=100):
    """Return the mean of w [1, 1, w_dim] and its spread, the root of the mean squared distance from the mean."""
    ws = []
    for _ in range(W_SAMPLES // batch):
        z = torch.from_numpy(random.randn(batch, G.z_dim).astype(np.float32)).to(label.device)
        ws.append(G.mapping(z, label.expand(batch, -1))[:, :1].float())
    ws = torch.cat(ws)
    mean = ws.mean(dim=0, keepdim=True)
    return mean, float((ws - mean).square().sum(dim=2).mean().sqrt())

def learning_rate(t):
    """Return the learning rate at time t in [0, 1), with a linear ramp up and a cosine ramp down."""
    up = min(t / RAMP_UP, 1)
    down = 0.5 - 0.5 * math.cos(math.pi * min((1 - t) / RAMP_DOWN, 1))
    return LEARNING_RATE * up * down

def w_noise_scale(t):
    """Return the standard deviation of the noise on w at time t, in units of the spread of w."""
    return W_NOISE * max(1 - t / W_NOISE_END, 0) ** 2

def noise_regularisation(maps):
    """Return the sum of the squared correlations of noise maps [H, W] with themselves, shifted by one pixel along each axis, at
    every size down to eight pixels; 0 for no maps.

    Without this term, the noise maps would reproduce the target."""
    total = 0
    for noise in maps:
        while True:
            total = total + sum((noise * noise.roll(1, dims=axis)).mean().square() for axis in (0, 1))
            if noise.shape[0] <= 8:
                break
            noise = F.avg_pool2d(noise[None, None], 2)[0, 0] * 2 # Twice the mean of four pixels keeps unit variance.
    return total

@torch.no_grad()
def normalise(maps):
    """Normalise noise maps to zero mean and unit variance, in place."""
    for noise in maps:
        noise.sub_(noise.mean())
        noise.mul_(noise.square().mean().rsqrt())

#----------------------------------------------------------------------------

class Rows:
    """Rows of ws that are no styles, rest [1, num_ws - num_styles, w_dim], after those that are."""

    def __init__(self, G, ws):
        """ws: [1, num_ws, w_dim] with these rows."""
        self.num_styles = tool_utils.num_styles(G)
        self.rest = ws[:, self.num_styles :].float()

    def under(self, w):
        """Return ws [1, num_ws, w_dim] with the styles w [1, 1, w_dim]."""
        return torch.cat([w.expand(-1, self.num_styles, -1), self.rest], dim=1)

class Projection:
    """What projects a target with a network.

    G:          generator; noise inputs, which StyleGAN3 does not have, are also optimised, on a copy.
    distance:   function of an image [1, C, H, W] that returns a scalar.
    target:     image [1, C, R, R] in [-1, 1].
    label:      one-hot label [1, c_dim].
    seed:       seed of all random numbers, which are drawn on the CPU; on a CPU a projection repeats to the last bit."""

    def __init__(self, G, distance, target, label, seed):
        self.G, self.distance, self.target, self.label, self.seed = G, distance, target, label, seed
        self.random = np.random.RandomState(seed)
        self.w_mean, self.w_spread = w_statistics(G, label, self.random)

    def image(self, w, rows):
        return self.G.synthesis(rows.under(w), noise_mode='const')

    @torch.no_grad()
    def how_far(self, w, rows):
        """Return the distance of the image of w [w_dim] or [1, 1, w_dim], with the noise inputs that G has, a float."""
        return float(self.distance(self.image(w.to(self.label.device).reshape(1, 1, -1), rows)))

    def depends_on_w(self, rows):
        return self.image(torch.zeros_like(self.w_mean).requires_grad_(True), rows).requires_grad

    # Rows that are no styles.

    @torch.no_grad()
    def starts(self, count):
        """Return at most `count` different Rows, nearest to the target first where that is known; one if all are the same."""
        ws = None if tool_utils.rows_near is None else tool_utils.rows_near(self.G, self.target, self.label, count)
        if ws is None:
            z = torch.from_numpy(self.random.randn(count, self.G.z_dim).astype(np.float32)).to(self.label.device)
            ws = self.G.mapping(z, self.label.expand(count, -1))
        rows = [Rows(self.G, one) for one in ws.split(1)]
        return list({one.rest.cpu().numpy().tobytes(): one for one in rows}.values())

    def best_rows(self, num_steps):
        """Return the Rows whose image comes nearest to the target."""
        tried = self.starts(max(STARTS, num_steps))
        if len(tried) == 1:
            return tried[0]
        progress = tool_utils.Steps('source', len(tried), 'images')
        distances = []
        for rows in tried:
            distances.append(self.how_far(self.w_mean, rows))
            progress.step(f'distance {min(distances):.4g}')
        best = [tried[i] for i in np.argsort(distances, kind='stable')[:FINALISTS]]
        steps = round(num_steps * FINALIST_STEPS)
        return min(best, key=lambda rows: self.how_far(self.run(rows, steps, 'finalist')[-1], rows))

    # Styles.

    def run(self, rows, num_steps, tag='projection'):
        """Return the path of w from its mean to the projection, float32 [num_steps + 1, w_dim], on the CPU.

        It is shorter where no later w came nearer, and has one w where the images do not depend on w."""
        path = [self.w_mean.flatten().cpu()]
        if num_steps > 0 and self.depends_on_w(rows):
            path += self.steps(rows, num_steps, tag)
        if self.how_far(path[-1], rows) >= self.how_far(path[0], rows):
            tried = np.linspace(0, len(path) - 1, 20).round().astype(int)
            path = path[: min(tried, key=lambda step: self.how_far(path[step], rows)) + 1]
        return torch.stack(path)

    def steps(self, rows, num_steps, tag):
        """Yield w [w_dim] after each step."""
        random = np.random.RandomState(self.seed)
        def randn(shape):
            return torch.from_numpy(random.randn(*shape).astype(np.float32)).to(self.label.device)
        G = copy.deepcopy(self.G)
        maps = [buffer for name, buffer in G.synthesis.named_buffers() if name.rpartition('.')[2] == 'noise_const']
        for noise in maps:
            noise.copy_(randn(noise.shape))
            noise.requires_grad_(True)
        w = self.w_mean.clone().requires_grad_(True)
        opt = torch.optim.Adam([w, *maps], betas=(0.9, 0.999))
        progress = tool_utils.Steps(tag, num_steps, 'steps')
        for step in range(num_steps):
            t = step / num_steps
            opt.param_groups[0]['lr'] = learning_rate(t)
            noisy = w + randn(w.shape) * (self.w_spread * w_noise_scale(t))
            dist = self.distance(G.synthesis(rows.under(noisy), noise_mode='const'))
            loss = dist + noise_regularisation(maps) * NOISE_WEIGHT
            opt.zero_grad()
            loss.backward()
            opt.step()
            normalise(maps)
            progress.step(f'distance {dist.item():.4g}')
            yield w.detach().flatten().cpu()

#----------------------------------------------------------------------------
