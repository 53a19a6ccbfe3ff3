"""Peak memory of one training step at 1024^2, batch 1, in float32 on a CPU: G and D at published widths with their regularisers
and Adam, each phase in a fresh process.

    python benchmarks/memory_1024.py --out=benchmarks/results/memory_1024.json [--cases=stylegan2,stylegan3-t] [--plain]

peak_gib is ru_maxrss of the process; --plain also runs the cases without --recompute, where the machine has
the memory (a case that is killed is recorded as such). Both networks and the states of both optimizers are there in every
process."""

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
PHASES = ['Greg', 'Gmain', 'Dmain', 'Dreg']      # Greg: path length
SHAPE  = dict(c_dim=0, img_resolution=1024, img_channels=3)

#----------------------------------------------------------------------------
# One phase, in its own process.

def run_case(name, phase, recompute):
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
    z, c, images = torch.randn([1, 512]), torch.zeros([1, 0]), torch.rand([1, 3, 1024, 1024]) * 2 - 1
    optimizers = {network: torch.optim.Adam(network.parameters(), lr=2e-3, betas=(0.0, 0.99)) for network in (G, D)}
    for network, optimizer in optimizers.items():   # states, as after a first step
        for p in network.parameters():
            p.grad = torch.zeros_like(p)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        network.requires_grad_(False)
    built, start, network = peak(), time.process_time(), G if phase.startswith('G') else D
    network.requires_grad_(True)
    loss.accumulate_gradients(phase=phase, real_img=images, real_c=c, gen_z=z, gen_c=c, gain=1, cur_nimg=0)
    grads = [p.grad for p in network.parameters() if p.grad is not None]
    optimizers[network].step()
    return dict(parameters=dict(G=count(G), D=count(D)), built_gib=built, peak_gib=peak(), finite=all(
        bool(grad.isfinite().all()) for grad in grads), gradients=len(grads), cpu_seconds=round(time.process_time() - start, 1))

def count(network):
    return sum(p.numel() for p in network.parameters())

def peak():
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2 ** 20, 2)

#----------------------------------------------------------------------------

def in_process(name, phase, recompute):
    command = [sys.executable, __file__, '--case', name, '--phase', phase, *(['--recompute'] if recompute else [])]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout) if done.returncode == 0 else dict(failed=f'ended with {done.returncode}')

def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--cases', default=','.join(CASES))
    parser.add_argument('--plain', action='store_true')
    parser.add_argument('--out', type=Path)
    parser.add_argument('--case', help=argparse.SUPPRESS)
    parser.add_argument('--phase', default='', help='only this one')
    parser.add_argument('--recompute', action='store_true', help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.case:
        print(json.dumps(run_case(args.case, args.phase, args.recompute)))
        return
    import torch
    results = json.loads(args.out.read_text())['cases'] if args.out and args.out.is_file() else {}
    for name in args.cases.split(','):
        for recompute in (True, False) if args.plain else (True,):
            phases = results.setdefault(name, {}).setdefault('recompute' if recompute else 'plain', {})
            for phase in [args.phase] if args.phase else PHASES if CASES[name]['pl'] else PHASES[1:]:
                phases[phase] = in_process(name, phase, recompute)
                print(name, recompute, phase, phases[phase], file=sys.stderr, flush=True)
            text = json.dumps(dict(
                what='peak of ru_maxrss, one training step, batch 1, 1024x1024, float32, CPU, one thread, seed 0',
                versions=dict(torch=torch.__version__, python=platform.python_version()), device=platform.processor() or
                platform.machine(), cases=results), indent=2)
            if args.out:
                args.out.write_text(text + '\n')
    print(text)

if __name__ == '__main__':
    main()
