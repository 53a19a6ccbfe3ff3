"""Puts the modules beside these tests on the path: pairs of sets, and reference implementations."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))
