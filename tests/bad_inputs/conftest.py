"""Puts this folder last on the path, for its modules."""

import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).parent))
