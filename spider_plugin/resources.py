"""Finds the trees that are shipped as data: reference_host, patches, configs."""

from pathlib import Path

def resource_dir(name):
    """Return directory `name` as a Path, inside the installed package, else beside it in a source checkout.

    Raises FileNotFoundError if the installation lacks it."""
    package = Path(__file__).resolve().parent
    for candidate in (package / name, package.parent / name):
        if candidate.is_dir():
            return candidate
    raise FileNotFoundError(f'{name}/ is missing from this installation of spider-plugin; install it again')
