"""A process that lists every network there is to train: python every_network.py DATA.zip OUT.json.

Each --cfg of the reference host's train.py, plugin generators among them, is asked for noise and for each mapping kind, then for
each feature of layers. What it accepts is a network, as the config has it, and what it refuses ends in a sentence. A generator
or a mapping kind that is registered later is so in every test of every network. OUT.json: {cfg: [{options, refused (a sentence
or ''), G_kwargs, D_kwargs (None where an earlier network has the same)}, ...]}, images of 16^2 with 3 channels and no classes."""

import contextlib
import importlib
import io
import json
import sys

from spider_plugin.resources import resource_dir

HOST_CFGS = ('stylegan2', 'stylegan3-t', 'stylegan3-r')
SIZES     = ['--batch=4', '--gamma=1', '--cbase=256', '--cmax=16', '--workers=0', '--outdir=runs', '--dry-run']
SOURCE    = ['--spider-source=strokes', '--spider-bank=50', '--spider-size=16']
FEATURES  = (['--dsc'], ['--fast'])
PROJECTED = ['--disc=projected', '--disc-backbone=random', '--disc-heads=separable', '--disc-size=128']

def networks(ask, kinds):
    """ask(options) -> an entry of OUT.json. Noise and every kind; every feature with noise, and all of them with the first kind
    that is accepted; the projected discriminator."""
    found = [ask([]), *(ask([*SOURCE, f'--spider-mapping={kind}']) for kind in kinds), ask(PROJECTED)]
    fed = next(entry['options'] for entry in found[1:] if not entry['refused'])
    found += [ask(feature) for feature in FEATURES]
    features = [option for entry in found[-len(FEATURES):] for option in entry['options'] if not entry['refused']]
    return [*found, ask([*fed, *features])] if features else found

def config(train, arguments):
    """(config, '') as train.py prints it, or (None, the sentence that refuses it)."""
    import click
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            train.main(arguments, standalone_mode=False)
    except click.ClickException as error:
        return None, error.format_message()
    except SystemExit:
        return None, printed.getvalue()
    text = printed.getvalue()
    return json.JSONDecoder().raw_decode(text[text.index('{\n'):])[0], ''

def main(data, out):
    import spider_plugin.hosts.hook  # noqa: F401
    from spider_plugin import registry
    sys.path.insert(0, str(resource_dir('reference_host')))
    train = importlib.import_module('train')
    found, judges = {}, []
    for cfg in (*HOST_CFGS, *sorted(registry.generators)):
        fixed = [f'--cfg={cfg}', f'--data={data}', *SIZES, *(['--map-depth=2'] if cfg in HOST_CFGS else [])]
        def ask(options, fixed=fixed):
            c, refused = config(train, [*fixed, *options])
            D_kwargs = c['D_kwargs'] if c and c['D_kwargs'] not in judges else None
            judges.append(D_kwargs)
            return dict(options=options, refused=refused, G_kwargs=c and c['G_kwargs'], D_kwargs=D_kwargs)
        found[cfg] = networks(ask, list(registry.mappings))
    with open(out, 'w', encoding='utf-8') as file:
        json.dump(found, file)

if __name__ == '__main__':
    main(*sys.argv[1:])
