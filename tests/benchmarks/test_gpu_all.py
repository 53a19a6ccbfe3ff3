"""benchmarks/gpu_all.sh: as one command where there is no GPU, and its figures beside what is expected of one."""

import json
import os
import subprocess
from pathlib import Path

import pytest
import torch

from benchmarks.common import expected

ROOT = Path(__file__).resolve().parents[2]

@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason='a rehearsal, which is for machines without a GPU')
def test_it_is_rehearsed_without_a_gpu(tmp_path, kernel_cache):
    env = {key: value for key, value in os.environ.items() if not key.startswith('SPIDER_')}
    done = subprocess.run(['bash', ROOT / 'benchmarks' / 'gpu_all.sh', tmp_path], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-5000:]
    steps = json.loads((tmp_path / 'steps.json').read_text())['steps']
    ran, skipped = ({step['step'] for step in steps if ('skipped' in step) == want} for want in (False, True))
    assert ran >= {'build', 'test_kernels', 'test_ops', 'kernel_bandwidth', 'dsc_layers', 'dsc_step', 'train', 'images',
                   'metrics', 'expected'}
    assert all('CUDA' in step['skipped'] for step in steps if 'skipped' in step) and 'sanitizer_memcheck' in skipped
    assert (tmp_path / 'expected.txt').read_text().startswith('No figure of a GPU')

def test_figures_stand_beside_what_is_expected(tmp_path):
    assert expected.lines(tmp_path) == ['No figure of a GPU is here to compare with what is expected of one.']
    rows = [dict(kernel=kernel, shape=[8, 32, side, side], of_copy=dict(median=0.6))
            for kernel, side in (('depthwise', 256), ('up2', 128), ('affine_glu', 128), ('depthwise', 64), ('copy', 128))]
    (tmp_path / 'kernel_bandwidth.json').write_text(json.dumps(dict(rows=rows)))
    step = dict(rows={'dense': dict(seconds=0.02), 'fast': dict(seconds=1), 'DSC depthwise first': dict(seconds=0.02)})
    (tmp_path / 'dsc_step.json').write_text(json.dumps(dict(cases={'64x64 batch 32': step, '16x16_batch_2': step})))
    assert expected.lines(tmp_path) == [
        'depthwise 8x32x256x256, of a copy: 0.60, expected 0.8 to 0.95: BELOW what was expected',
        'up2 8x32x128x128, of a copy: 0.60, expected 0.8 to 1: BELOW what was expected',
        'affine_glu 8x32x128x128, of a copy: 0.60, expected 0.6 to 0.9: as expected',
        'StyleGAN2 64x64 batch 32, dense, ms: 20.00, expected 17 to 22: as expected',
        'StyleGAN2 64x64 batch 32, DSC depthwise first, ms: 20.00, expected 6 to 8: ABOVE what was expected']
