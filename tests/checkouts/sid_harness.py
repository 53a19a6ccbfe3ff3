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
    return dict(looks=looks, urls=sorted(set(urls)), metrics=metric_main.list_valid_metrics(), **lines)

if __name__ == '__main__':
    host_dir, job_path, result_path = sys.argv[1:]
    sys.path.insert(0, host_dir)
    harness.mend()
    torch.manual_seed(0)
    job = torch.load(job_path)
    job.pop('call')
    torch.save(scores(**job), result_path)
