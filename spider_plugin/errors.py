"""The one exception for what a user can fix."""

import click

class SpiderError(click.ClickException, ValueError):
    """One sentence on stderr that names the option or file and the remedy; exit code 2."""

    exit_code = 2
