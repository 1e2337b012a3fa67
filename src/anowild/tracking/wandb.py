"""Weights & Biases: files in a folder, which `wandb sync` uploads."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from anowild.arrays import Array
from anowild.libraries import require


class WandbTracker:
    """A run of the project ``anowild``; nothing is sent unless WANDB_MODE asks for it.

    What goes on without a network is a further part of the same run: `wandb sync --append` joins them.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.library = require("curves in wandb", "wandb")

    def begin(self, run: str, name: str, settings: Mapping[str, Any]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        mode = os.environ.get("WANDB_MODE", "offline")
        self.run = self.library.init(
            project="anowild", id=run, name=name, config=dict(settings), dir=str(self.folder),
            mode=mode, resume=None if mode == "offline" else "allow",
            settings=self.library.Settings(silent=True, console="off", disable_git=True, save_code=False),
        )  # fmt: skip
        # Steps of W&B only go up by one count a call; ours are images.
        self.run.define_metric("images")
        self.run.define_metric("*", step_metric="images")

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self.run.log({"images": step, **values})

    def picture(self, name: str, image: Array, step: int) -> None:
        self.run.log({"images": step, name: self.library.Image(image)})

    def end(self) -> None:
        self.run.finish()
