"""Puts the reference host's modules on the path, because losses run in a host."""

import sys

from spider_plugin.resources import resource_dir

if str(resource_dir('reference_host')) not in sys.path:
    sys.path.insert(0, str(resource_dir('reference_host')))
