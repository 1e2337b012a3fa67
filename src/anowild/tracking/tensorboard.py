"""TensorBoard: event files in a folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from anowild.arrays import Array
from anowild.libraries import require


class TensorBoardTracker:
    """Event files in a subfolder of ``folder`` named by the run; what goes on adds a file there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def begin(self, run: str, name: str, settings: Mapping[str, Any]) -> None:
        library = require("curves in tensorboard", "torch.utils.tensorboard")
        folder = self.folder / f"{name}-{run}"
        is_new = not folder.exists()
        self.writer = library.SummaryWriter(str(folder))
        if not is_new:
            return
        rows = [f"| {key} | {value} |" for key, value in settings.items()]
        text = "\n".join(["| setting | value |", "|---|---|", *rows])
        self.writer.add_text("settings", text)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)
        self.writer.flush()

    def picture(self, name: str, image: Array, step: int) -> None:
        self.writer.add_image(name, image, step, dataformats="HWC")
        self.writer.flush()

    def end(self) -> None:
        self.writer.close()
