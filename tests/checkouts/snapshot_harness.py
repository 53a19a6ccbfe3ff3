"""Draws from a snapshot in a checkout: python snapshot_harness.py with|without HOST SNAPSHOT OUT [OTHER_SOURCE].

Runs the checkout's generation script, edited in memory to use the cpu; then draws from G_ema with its source, and with another
prepared source. With `without`, nothing of the plugin can be imported."""

import os
import pickle
import sys

import harness
import torch

def forbid():
    class Forbidden:
        def find_spec(self, name, path=None, target=None):
            assert name.split('.')[0] not in ('spider_plugin', 'torch_utils_ext'), name
    sys.meta_path.insert(0, Forbidden())

def generate(host, snapshot, out):
    script = next(name for name in ('gen_images.py', 'generate.py') if os.path.isfile(os.path.join(host, name)))
    with open(os.path.join(host, script), encoding='utf-8') as file:
        text = file.read().replace("torch.device('cuda')", "torch.device('cpu')")
    torch.manual_seed(0)
    sys.argv = [script, f'--network={snapshot}', '--seeds=0-2', f'--outdir={out}']
    try:
        exec(compile(text, script, 'exec'), {'__name__': '__main__'})
    except SystemExit as end:
        assert not end.code, end.code

def draw(G):
    z = torch.randn([6, G.z_dim], generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0) # FastGAN's layers always draw noise.
    with torch.no_grad():
        return G(z, torch.zeros([6, G.c_dim]), noise_mode='const').cpu()

if __name__ == '__main__':
    how, host, snapshot, out, *other = sys.argv[1:]
    sys.path[0] = host
    harness.mend()
    library = harness.mend_torchvision()
    if how == 'without':
        forbid()
    else:
        import spider_plugin.hosts.hook  # noqa: F401
    torch.set_num_threads(1)
    generate(host, snapshot, out)
    with open(snapshot, 'rb') as file:
        G = pickle.load(file)['G_ema'].eval()
    results = dict(images=draw(G), spider_modules=[name for name in sys.modules if name.startswith('spider_plugin')],
                   num_ws=getattr(G, 'num_ws', None))
    if other:
        from spider_plugin.portable.source.bank import open_source
        for module in (G, G.mapping, G.synthesis):
            if hasattr(module, 'source'):
                module.source = open_source(other[0])
        results['other'] = draw(G)
    torch.save(results, f'{out}/results.pt')
