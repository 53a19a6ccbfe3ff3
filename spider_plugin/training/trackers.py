"""Trackers of a run: TensorBoard, Weights & Biases. Each gets the numbers of a tick and pictures, at a number of images shown.

Packages are imported when a tracker is opened. What a tracker raises is for the caller to catch: it must not stop a run."""

import importlib
import os
from typing import Any

class TensorBoard:
    """Events in the run folder, below the names that stats.jsonl has; metrics below Metrics/."""

    def __init__(self, run_dir: str, options: dict[str, Any], nimg: int) -> None:
        writer = importlib.import_module('torch.utils.tensorboard').SummaryWriter
        self._writer = writer(run_dir, purge_step=nimg + 1 if nimg else None)   # What a resumed run does again goes.

    def numbers(self, values: dict[str, float], nimg: int, seconds: float | None = None) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, global_step=nimg, walltime=seconds)
        self._writer.flush()

    def picture(self, name: str, image: Any, nimg: int) -> None:
        np = importlib.import_module('numpy')
        self._writer.add_image(name, np.asarray(image), global_step=nimg, dataformats='HWC')

    def close(self) -> None:
        self._writer.close()

class WandB:
    """A run of Weights & Biases with the name of the run folder, whose files are in it; offline unless the user is known."""

    def __init__(self, run_dir: str, options: dict[str, Any], nimg: int) -> None:
        self._wandb = importlib.import_module('wandb')
        mode = os.environ.get('WANDB_MODE') or ('online' if os.environ.get('WANDB_API_KEY') else 'offline')
        self._run = self._wandb.init(project=os.environ.get('WANDB_PROJECT') or 'spider', name=os.path.basename(run_dir),
                                     dir=run_dir, config=options, mode=mode,
                                     settings=self._wandb.Settings(silent=True, console='off'))

    def numbers(self, values: dict[str, float], nimg: int, seconds: float | None = None) -> None:
        self._run.log(dict(values, nimg=nimg), step=nimg)

    def picture(self, name: str, image: Any, nimg: int) -> None:
        self._run.log({name: self._wandb.Image(image)}, step=nimg)

    def close(self) -> None:
        self._run.finish()

OPENERS = dict(tensorboard=TensorBoard, wandb=WandB)
