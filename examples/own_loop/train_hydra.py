"""The plugin in a script with hydra: the options are a group of the config, two lines.

    spider init host
    PYTHONPATH=host python examples/own_loop/train_hydra.py data=photos.zip +spider.spider_source=strokes
"""

import copy
import sys

import hydra
import loop
from omegaconf import DictConfig, OmegaConf

import spider_plugin

@hydra.main(version_base=None, config_path='conf', config_name='config')
def main(cfg: DictConfig) -> None:
    options = OmegaConf.to_container(cfg.spider, resolve=True)          # the first of the two lines
    config = copy.deepcopy(loop.CONFIG) | dict(steps=cfg.steps, batch=cfg.batch, out=cfg.out)
    config['training_set_kwargs']['path'] = cfg.data
    try:
        config = spider_plugin.edit_config(config, options)             # the second
    except spider_plugin.SpiderError as error:                          # one sentence, in place of hydra's traceback
        sys.exit(f'Error: {error}')
    loop.train(config)

if __name__ == '__main__':
    main()
