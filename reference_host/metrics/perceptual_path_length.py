"""Perceptual path length (Karras et al. 2019, "A Style-Based Generator Architecture for Generative Adversarial Networks",
section 4.1). As in Karras et al. 2020, paths are in W, lengths are taken at end points, and images are not cropped."""

import numpy as np
import torch

from metrics import detectors, metric_utils
from metrics.feature_stats import gather

#----------------------------------------------------------------------------

def pick_detector(url):
    """Return the network of a --detector value if it computes LPIPS, else the public one."""
    if url is not None:
        detector = detectors.get_feature_detector(url)
        if detectors.accepted_kwargs(detector, dict(return_lpips=True)):
            return url
    return 'vgg16'

def to_detector(img):
    """Return images in [-1, 1] as LPIPS takes them, at most 256x256, in [0, 255]."""
    factor = img.shape[-1] // 256
    if factor > 1:
        img = torch.nn.functional.avg_pool2d(img, factor)
    return (img + 1) * 127.5

def squared_speed(G, c, epsilon, detector, G_kwargs):
    """Return d(g(w), g(lerp(w, w', epsilon))) / epsilon^2, [N], for pairs of random w, w' with labels c [N, c_dim].

    This is eq. 3 with t = 0."""
    z = torch.randn([2 * len(c), G.z_dim], device=c.device)
    w, target = G.mapping(z=z, c=torch.cat([c, c])).chunk(2)
    metric_utils.renew_noise(G)
    img = G.synthesis(ws=torch.cat([w, w.lerp(target, epsilon)]), noise_mode='const', force_fp32=True, **G_kwargs)
    lpips = detectors.run_detector(detector, to_detector(img), dict(resize_images=False, return_lpips=True))
    start, end = lpips.chunk(2)
    return (start - end).square().sum(dim=1) / epsilon ** 2

def trimmed_mean(x, percent=1):
    """Return the mean of the values without the lowest and highest `percent` percent."""
    low, high = np.percentile(x, percent, method='lower'), np.percentile(x, 100 - percent, method='higher')
    return float(x[(x >= low) & (x <= high)].mean())

def compute_ppl(opts, num_samples, epsilon=1e-4, batch_size=2):
    """Return the path length at num_samples points, which the ranks share."""
    G = metric_utils.prepare_generator(opts)
    detector = detectors.get_feature_detector(opts.detector, device=opts.device)
    labels = metric_utils.iterate_random_labels(opts, batch_size)
    progress = opts.progress.sub(tag='path length', num_items=num_samples)
    values = []
    with torch.no_grad():
        for batch in metric_utils.seeded_batches(opts, num_samples, batch_size):
            speeds = squared_speed(G, next(labels), epsilon, detector, opts.G_kwargs)
            values.append(gather(speeds, opts.num_gpus))
            progress.update(min((batch + opts.num_gpus) * batch_size, num_samples))
    values = torch.cat(values)[:num_samples]
    return trimmed_mean(values.cpu().numpy())

#----------------------------------------------------------------------------
