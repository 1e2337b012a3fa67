"""MLflow: a server, or a database beside the training."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from anowild.arrays import Array
from anowild.libraries import require

#: The experiment that runs are in.
EXPERIMENT = "anowild"
#: The tag of a run by which it is found again.
TAG = "anowild.run"
#: Characters of a parameter's value, at most, that every server takes.
_LONGEST = 250


class MLflowTracker:
    """A run of the experiment ``anowild``.

    Args:
        where: address of the server or database; None: ``mlflow.db`` in ``folder``, pictures beside it.
        folder: for files.
    """

    def __init__(self, where: str | None, folder: Path) -> None:
        self.artifacts: str | None = None
        if where is None:
            folder.mkdir(parents=True, exist_ok=True)
            where = f"sqlite:///{folder.absolute() / 'mlflow.db'}"
            self.artifacts = (folder.absolute() / "pictures").as_uri()
        self.library = require("curves in mlflow", "mlflow")
        self.client = self.library.MlflowClient(where)

    def begin(self, run: str, name: str, settings: Mapping[str, Any]) -> None:
        experiment = self.client.get_experiment_by_name(EXPERIMENT)
        number = (
            self.client.create_experiment(EXPERIMENT, self.artifacts)
            if experiment is None
            else experiment.experiment_id
        )
        found = self.client.search_runs([number], f"tags.`{TAG}` = '{run}'")
        if found:
            self.run = found[0].info.run_id
            self.client.update_run(self.run, status="RUNNING")
            return
        self.run = self.client.create_run(number, tags={TAG: run}, run_name=name).info.run_id
        for key, value in settings.items():
            self.client.log_param(self.run, key, str(value)[:_LONGEST])

    def log(self, step: int, values: Mapping[str, float]) -> None:
        now = int(time.time() * 1000)
        metrics = [
            self.library.entities.Metric(name, value, now, step) for name, value in values.items()
        ]
        self.client.log_batch(self.run, metrics)

    def picture(self, name: str, image: Array, step: int) -> None:
        self.client.log_image(self.run, image, f"{name}/{step:010d}.png")

    def end(self) -> None:
        self.client.set_terminated(self.run)
