"""SID in a host checkout, through the hook: python sid_harness.py HOST_DIR job.pt results.pt. See harness.py.

Only this process sees both the checkout and the plugin; its feature network is a toy."""

import json
import os
import pathlib
import sys

import harness
import torch

class Pooled(torch.nn.Module):
    """A detector of twelve features, the image pooled to 2x2."""

    calls = 0

    def forward(self, img, return_features):
        Pooled.calls += len(img)
        return torch.nn.functional.adaptive_avg_pool2d(img.to(torch.float32) / 128, 2).flatten(1)

def scores(data, run_dir, detector=''):
    """Return the host's results of kid50k_full, for 100 images, and of sid1k, and the number of images that each one used."""
    os.environ['DNNLIB_CACHE_DIR'] = f'{run_dir}/cache'
    os.environ['SPIDER_DETECTOR'] = detector
    sys.path.append(str(pathlib.Path(__file__).parents[2]))
    import spider_plugin.hosts.hook  # noqa: F401
    from metrics import kernel_inception_distance, metric_main, metric_utils
    urls = []
    def get_feature_detector(url, **kwargs):
        urls.append(url)
        return Pooled()
    metric_utils.get_feature_detector = get_feature_detector
    from training.networks_stylegan2 import Generator
    G = Generator(z_dim=8, c_dim=0, w_dim=8, img_resolution=16, img_channels=3, channel_base=64, channel_max=8)
    kwargs = dict(G=G.eval(), device=torch.device('cpu'), dataset_kwargs=dict(
        class_name='training.dataset.ImageFolderDataset', path=data, use_labels=False, max_size=None, xflip=False))
    kernel_inception_distance.compute_kid(metric_utils.MetricOptions(**kwargs), max_real=1000000, num_gen=100, num_subsets=1,
                                          max_subset_size=50)
    looks = [Pooled.calls]
    result = metric_main.calc_metric(metric='sid1k', **kwargs)
    looks.append(Pooled.calls - looks[0])
    metric_main.report_metric(result, run_dir=run_dir, snapshot_pkl=f'{run_dir}/network-snapshot-000001.pkl')
    lines = {name: json.loads(pathlib.Path(run_dir, name).read_text()) for name in ('metric-sid1k.jsonl', 'curve-sid1k.jsonl')}
    return dict(looks=looks, urls=sorted(set(urls)), metrics=metric_main.list_valid_metrics(), label=result.get('label'), **lines)

def together(data, run_dir):
    """Return for each of several metrics the images drawn and looked at, and the images that one draws without the others."""
    os.environ['DNNLIB_CACHE_DIR'] = f'{run_dir}/cache'
    sys.path.append(str(pathlib.Path(__file__).parents[2]))
    import spider_plugin.hosts.hook  # noqa: F401
    from metrics import (
        frechet_inception_distance,
        kernel_inception_distance,
        metric_main,
        metric_utils,
        precision_recall,
    )
    from spider_plugin.hosts import passes
    metric_utils.get_feature_detector = lambda url, **kwargs: Pooled()
    @metric_main.register_metric
    def fid_small(opts):
        return dict(fid_small=frechet_inception_distance.compute_fid(opts, max_real=None, num_gen=1000))
    @metric_main.register_metric
    def kid_small(opts):
        return dict(kid_small=kernel_inception_distance.compute_kid(opts, max_real=1000000, num_gen=1000, num_subsets=2,
                                                                    max_subset_size=50))
    @metric_main.register_metric
    def pr_small(opts):
        return dict(zip('pr', precision_recall.compute_pr(opts, max_real=200, num_gen=1000, nhood_size=3, row_batch_size=500,
                                                          col_batch_size=500)))
    drawn = []
    class Colours(torch.nn.Module):
        z_dim, c_dim, img_resolution, img_channels = 3, 0, 16, 3
        def forward(self, z, c, **kwargs):
            drawn.append(len(z))
            return (z * 0.2)[:, :, None, None].expand(-1, -1, 16, 16)
    kwargs = dict(G=Colours(), device=torch.device('cpu'), dataset_kwargs=dict(
        class_name='training.dataset.ImageFolderDataset', path=data, use_labels=False, max_size=None, xflip=False))
    names = ['fid_small', 'kid_small', 'pr_small', 'sid1k']
    passes.prepare(names)
    found = dict(drawn=[], looks=[], values=[])
    for name in names:
        before = sum(drawn), Pooled.calls
        result = metric_main.calc_metric(metric=name, **kwargs)
        found['drawn'].append(sum(drawn) - before[0])
        found['looks'].append(Pooled.calls - before[1])
        found['values'] += result['results'].values()
    passes.prepare(names[:2])       # None of the plugin: as without it.
    before = sum(drawn)
    metric_main.calc_metric(metric='kid_small', **kwargs)
    return dict(found, apart=sum(drawn) - before)

if __name__ == '__main__':
    host_dir, job_path, result_path = sys.argv[1:]
    sys.path.insert(0, host_dir)
    harness.mend()
    torch.manual_seed(0)
    job = torch.load(job_path)
    call = dict(scores=scores, together=together)[job.pop('call')]
    torch.save(call(**job), result_path)
