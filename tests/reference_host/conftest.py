"""The reference host's tree first on the path, as its scripts have it, and this folder last, for what tests share. Other hosts
run in processes of their own."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / 'reference_host'))
sys.path.append(str(pathlib.Path(__file__).parent))
