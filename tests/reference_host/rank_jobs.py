"""The jobs of ranks in test_ranks.py: python rank_jobs.py HOST_DIR JOB.json, alone or under torchrun.

The job is {"func": a name below, "num_ranks": int or null, "patience": seconds, "late": seconds or left out,
"timeout": seconds or left out, "kwargs": {...}}."""

import datetime
import json
import os
import signal
import sys
import time

if __name__ in ('__main__', '__mp_main__'):
    sys.path.insert(0, sys.argv[1])

import functools

import torch

from training import ranks, training_loop
from training.runtime import SpiderError

#----------------------------------------------------------------------------

def train(rank, out, **options):
    """Run training_loop(), and write this rank's final tensors and first images to OUT/rank.pt."""
    seen = {}
    def keep(name, function):
        @functools.wraps(function)
        def kept(*args, **kwargs):
            seen.setdefault(name, (args, result := function(*args, **kwargs)))
            return result
        return kept
    training_loop.setup_networks = keep('networks', training_loop.setup_networks)
    training_loop.run_phase = keep('phase', training_loop.run_phase)
    training_loop.run_rank(rank=rank, **options)
    (loss, _phase, real, gen_z, *_), _ = seen['phase']
    _, networks = seen['networks']
    torch.save(dict(real=torch.cat([img for img, _c in real]), z=torch.cat(gen_z), pl_mean=loss.pl_mean,
                    **{name: module.state_dict() for name, module in networks.items() if module is not None}),
               f'{out}/{rank}.pt')

def gradients(rank, out, shares):
    """Write the all-reduced gradients of a fixed batch of eight, of which each rank has a share, in groups of four."""
    from training.loss import StyleGAN2Loss
    from training.networks_stylegan2 import Discriminator, Generator
    torch.manual_seed(0)
    common = dict(c_dim=3, img_resolution=16, img_channels=3, channel_base=128, channel_max=8)
    G, D = Generator(z_dim=8, w_dim=8, **common).requires_grad_(False), Discriminator(**common).requires_grad_(False)
    G.synthesis.forward = functools.partial(G.synthesis.forward, noise_mode='const')
    real, z, c = torch.randn([8, 3, 16, 16]), torch.randn([8, 8]), torch.eye(3)[torch.arange(8) % 3]
    real, z, c = [t.split(8 // shares)[rank].split(4) for t in (real, z, c)]
    loss, found = StyleGAN2Loss(torch.device('cpu'), G, D, r1_gamma=1), {}
    class Opt:
        def __init__(self, module):
            self.module = module
        def zero_grad(self, set_to_none):
            self.module.zero_grad(set_to_none=True)
        def step(self):
            pass
    for name, module in (('Gmain', G), ('Dmain', D), ('Dreg', D)):
        phase = training_loop.dnnlib.EasyDict(name=name, module=module, opt=Opt(module), interval=1)
        training_loop.run_phase(loss, phase, list(zip(real, c)), z, c, cur_nimg=0)
        found.update({f'{name}.{key}': p.grad.clone() for key, p in module.named_parameters() if p.grad is not None})
    torch.save(found, f'{out}/{shares}-{rank}.pt')

def statistics(rank, out):
    """Write the ranks' reported statistics, and whether their tensors are equal, to OUT/rank.pt."""
    from torch_utils import misc, training_stats
    training_stats.init_multiprocessing(rank, torch.device('cpu'))
    collector = training_stats.Collector()
    training_stats.report('mean', [1.0] if rank == 0 else [2.0, 6.0])
    training_stats.report0('rank 0', 7 + rank)
    collector.update()
    net = torch.nn.Linear(2, 2)
    torch.nn.init.constant_(net.weight, 1)
    torch.nn.init.constant_(net.bias, rank)
    misc.check_ddp_consistency(net, ignore_regex=r'Linear\.bias')
    differs = None
    try:
        misc.check_ddp_consistency(net)
    except AssertionError as error:
        differs = str(error)
    torch.save((json.dumps(collector.as_dict()), differs), f'{out}/{rank}.pt')

def killed(rank, victim):
    """Kill one rank while the others wait for it."""
    if rank == victim:
        os.kill(os.getpid(), signal.SIGKILL)
    ranks.meet()

def raises(rank, victim, kind):
    if rank == victim:
        from training.report import Diverged
        raise dict(user=SpiderError('--data: bad; mend it'), bug=ValueError('boom'), memory=MemoryError(),
                   diverged=Diverged('--on-nan: training diverged; lower it'))[kind]
    ranks.meet()

def hangs(rank, victim, pid_file):
    """Let one rank hang, and write its process id so that the test can end it."""
    if rank == victim:
        with open(pid_file, 'w') as f:
            f.write(str(os.getpid()))
        os.kill(os.getpid(), signal.SIGSTOP)
    ranks.meet()

def waits(rank, victim):
    """Let one rank hang in Python, while its thread gives signs of life."""
    if rank == victim:
        time.sleep(600)
    ranks.meet()

def turns(rank, path):
    """Let two ranks build something that only one should build; each builder writes a line to the file."""
    with ranks.one_first():
        if not os.path.exists(path):
            time.sleep(0.5)
            with open(path, 'a') as f:
                f.write(f'{rank}\n')
    assert ranks.agree(f'said by {rank}') == 'said by 0'
    mean = [torch.full([2], float(rank)), torch.full([1, 3], 2.0 * rank)]
    ranks.average(mean)
    assert torch.equal(mean[0], torch.full([2], 0.5)) and torch.equal(mean[1], torch.full([1, 3], 1.0))

#----------------------------------------------------------------------------

@ranks.entry
def main(job):
    ranks.launch(f'rank_jobs.{job["func"]}', job['num_ranks'] or ranks.num_started(), **job['kwargs'])

if __name__ == '__main__':
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    with open(sys.argv[2]) as f:
        job = json.load(f)
    ranks.PATIENCE = job['patience']
    ranks.LATE = job.get('late', ranks.LATE)
    if 'timeout' in job: # What the parent bears; the exchange itself bears more.
        ranks.TIMEOUT = datetime.timedelta(seconds=job['timeout'])
    try:
        main(job)
    except SpiderError as err:
        err.show()
        sys.exit(err.exit_code)
