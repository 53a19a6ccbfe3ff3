"""Losses run in a host: the reference host's modules are on the path."""

import sys

from spider_plugin.resources import resource_dir

if str(resource_dir('reference_host')) not in sys.path:
    sys.path.insert(0, str(resource_dir('reference_host')))
