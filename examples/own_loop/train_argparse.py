"""The plugin in a script with argparse: what argparse does not know goes to edit_config, two lines.

    spider init host
    PYTHONPATH=host python examples/own_loop/train_argparse.py --data=photos.zip --spider-source=strokes
"""

import argparse
import copy
import sys

import loop

import spider_plugin

def main():
    parser = argparse.ArgumentParser(allow_abbrev=False, epilog='Options of spider-plugin follow: docs/options.md lists them.')
    parser.add_argument('--data', required=True)
    parser.add_argument('--steps', type=int, default=4)
    parser.add_argument('--out', default='generator.pt')
    args, rest = parser.parse_known_args()                              # the first of the two lines
    config = copy.deepcopy(loop.CONFIG) | dict(steps=args.steps, out=args.out)
    config['training_set_kwargs']['path'] = args.data
    try:
        config = spider_plugin.edit_config(config, rest)                # the second
    except spider_plugin.SpiderError as error:                          # one sentence, which names the option and the remedy
        sys.exit(f'Error: {error}')
    loop.train(config)

if __name__ == '__main__':
    main()
