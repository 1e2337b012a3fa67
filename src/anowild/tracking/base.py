"""What a tracker does, and the choice of one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from anowild.arrays import Array
from anowild.errors import UserError
from anowild.libraries import require


class Tracker(Protocol):
    """A run in another tool. Any error that a method raises ends the tracking, with a warning."""

    def begin(self, run: str, name: str, settings: Mapping[str, Any]) -> None:
        """Start a run, or go on with it where it is there already.

        Args:
            run: its identifier, small letters and digits.
            name: for people.
            settings: of the training, JSON values.
        """

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Add a point to each curve, and see to it that it is kept if the process is killed afterwards.

        Args:
            step: images that the networks were trained on.
            values: finite or not.
        """

    def picture(self, name: str, image: Array, step: int) -> None:
        """Add a picture, uint8 [H, W, 3]."""

    def end(self) -> None:
        """Close the run; it can be gone on with."""


#: Trackers, by the names of their libraries.
TOOLS = ("tensorboard", "mlflow", "wandb")


@dataclass(frozen=True)
class TrackerChoice:
    """A tool, and where its runs go: a folder or an address; None: into the folder of the training."""

    tool: str
    where: str | None = None

    def make(self, folder: Path) -> Tracker:
        """Return the tracker.

        Args:
            folder: for its files where no place was given.
        """
        if self.tool == "tensorboard":
            from anowild.tracking.tensorboard import TensorBoardTracker

            return TensorBoardTracker(Path(self.where or folder))
        if self.tool == "mlflow":
            from anowild.tracking.mlflow import MLflowTracker

            return MLflowTracker(self.where, folder)
        from anowild.tracking.wandb import WandbTracker

        return WandbTracker(Path(self.where or folder))


def parse_choice(text: str) -> TrackerChoice:
    """Return the tracker that ``tensorboard``, ``mlflow`` or ``wandb`` names, with ``:WHERE`` if wanted.

    Raises:
        UserError: there is no such tracker, or its library is not installed.
    """
    tool, colon, where = text.partition(":")
    if tool not in TOOLS or (colon and not where):
        raise UserError(f"--track {text}: give {', '.join(TOOLS)}, or one of them with :WHERE")
    require(f"curves in {tool}", tool)
    return TrackerChoice(tool, where or None)
