"""Peak memory of one training step at 1024^2, batch 1, in float32 on a CPU: G and D at published widths with their regularisers
and Adam, each case in a fresh process.

    python benchmarks/memory_1024.py --out=benchmarks/results/memory_1024.json [--cases=stylegan2,stylegan3-t] [--plain]

peak_gib is ru_maxrss of the process, after each phase; --plain also runs the cases without --recompute, where the machine has
the memory (a case that is killed is recorded as such)."""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path

os.environ.setdefault('OMP_NUM_THREADS', '1')
ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / 'reference_host')]

WIDE   = dict(channel_base=32768, channel_max=512)  # config F of StyleGAN2
CASES  = {
    'stylegan2':   dict(G='training.networks_stylegan2.Generator', mapping=8, pl=2.0, kwargs=dict(WIDE)),
    'stylegan3-t': dict(G='training.networks_stylegan3.Generator', mapping=2, pl=0.0, kwargs=dict(WIDE)),
    'stylegan3-r': dict(G='training.networks_stylegan3.Generator', mapping=2, pl=0.0, kwargs=dict(
        channel_base=65536, channel_max=1024, conv_kernel=1, use_radial_filters=True)),
}
SHAPE  = dict(c_dim=0, img_resolution=1024, img_channels=3)

#----------------------------------------------------------------------------
# One case, in its own process.

def run_case(name, recompute):
    import torch

    from spider_plugin.networks.recompute import recomputing
    torch.set_num_threads(1)
    torch.manual_seed(0)
    case = CASES[name]
    def build(class_name, **kwargs):
        if recompute:
            return recomputing(class_name, **kwargs)
        import dnnlib
        return dnnlib.util.construct_class_by_name(class_name=class_name, **kwargs)
    G = build(case['G'], z_dim=512, w_dim=512, mapping_kwargs=dict(num_layers=case['mapping']), num_fp16_res=0, conv_clamp=None,
              **case['kwargs'], **SHAPE)
    D = build('training.networks_stylegan2.Discriminator', num_fp16_res=0, conv_clamp=None, **WIDE, **SHAPE)
    from training.loss import StyleGAN2Loss
    loss = StyleGAN2Loss(device=torch.device('cpu'), G=G, D=D, augment_pipe=None, r1_gamma=10, pl_weight=case['pl'],
                         style_mixing_prob=0, pl_batch_shrink=1)
    result = dict(parameters=dict(G=count(G), D=count(D)), phases={}, built_gib=peak())
    z, c, images = torch.randn([1, 512]), torch.zeros([1, 0]), torch.rand([1, 3, 1024, 1024]) * 2 - 1
    for network, phases in ((G, ['Gmain'] + ['Greg'] * (case['pl'] > 0)), (D, ['Dmain', 'Dreg'])):
        network.requires_grad_(True)
        optimizer = torch.optim.Adam(network.parameters(), lr=2e-3, betas=(0.0, 0.99))
        other = D if network is G else G
        other.requires_grad_(False)
        for phase in phases:
            start = time.process_time()
            optimizer.zero_grad(set_to_none=True)
            loss.accumulate_gradients(phase=phase, real_img=images, real_c=c, gen_z=z, gen_c=c, gain=1, cur_nimg=0)
            finite = all(bool(p.grad.isfinite().all()) for p in network.parameters() if p.grad is not None)
            optimizer.step()
            result['phases'][phase] = dict(peak_gib=peak(), cpu_seconds=round(time.process_time() - start, 1), finite=finite)
            print(name, 'recompute' if recompute else 'plain', phase, result['phases'][phase], file=sys.stderr, flush=True)
    result['peak_gib'] = peak()
    return result

def count(network):
    return sum(p.numel() for p in network.parameters())

def peak():
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2 ** 20, 2)

#----------------------------------------------------------------------------

def in_process(name, recompute):
    command = [sys.executable, __file__, '--case', name, *(['--recompute'] if recompute else [])]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout) if done.returncode == 0 else dict(failed=f'ended with {done.returncode}')

def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--cases', default=','.join(CASES))
    parser.add_argument('--plain', action='store_true')
    parser.add_argument('--out', type=Path)
    parser.add_argument('--case', help=argparse.SUPPRESS)
    parser.add_argument('--recompute', action='store_true', help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.case:
        print(json.dumps(run_case(args.case, args.recompute)))
        return
    import torch
    results = json.loads(args.out.read_text())['cases'] if args.out and args.out.is_file() else {}
    for name in args.cases.split(','):
        for recompute in (True, False) if args.plain else (True,):
            results.setdefault(name, {})['recompute' if recompute else 'plain'] = in_process(name, recompute)
            text = json.dumps(dict(
                what='peak of ru_maxrss, one training step, batch 1, 1024x1024, float32, CPU, one thread, seed 0',
                versions=dict(torch=torch.__version__, python=platform.python_version()), device=platform.processor() or
                platform.machine(), cases=results), indent=2)
            if args.out:
                args.out.write_text(text + '\n')
    print(text)

if __name__ == '__main__':
    main()
