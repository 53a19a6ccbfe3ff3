"""The plugin in a script with gin: the options are the bindings of a function that takes any, two lines.

    spider init host
    PYTHONPATH=host python examples/own_loop/train_gin.py "run.data='photos.zip'" "spider.spider_source='strokes'"
"""

import copy
import sys

import gin
import loop

import spider_plugin

spider = gin.configurable('spider')(lambda **options: options)          # the first of the two lines

@gin.configurable
def run(data=gin.REQUIRED, steps=4, out='generator.pt'):
    config = copy.deepcopy(loop.CONFIG) | dict(steps=steps, out=out)
    config['training_set_kwargs']['path'] = data
    try:
        config = spider_plugin.edit_config(config, spider())            # the second
    except spider_plugin.SpiderError as error:                          # one sentence, which names the option and the remedy
        sys.exit(f'Error: {error}')
    loop.train(config)

if __name__ == '__main__':
    files = [text for text in sys.argv[1:] if text.endswith('.gin')]
    try:
        gin.parse_config_files_and_bindings(files, [text for text in sys.argv[1:] if text not in files])
    except (ValueError, OSError) as error:      # gin's own: a name that it does not know, a file that is not there
        sys.exit(f'Error: {str(error).splitlines()[0]}')
    run()
