"""--spider-no-dry-run: a launch without the iteration before it (hosts/dry_run.py)."""

from spider_plugin.options.types import Option

OPTIONS = [
    Option('--spider-no-dry-run', bool, False,      None,   'Launch without the dry iteration, which runs the host\'s loop once '
           'with small networks, to find what a host asks for and an option does not have', 'Launch options'),
]
