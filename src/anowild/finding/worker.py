"""The process that trains the views of a job, while another shows the page."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from anowild.errors import UserError
from anowild.settings import Settings
from anowild.training.fitting import FAILURES, failure
from anowild.training.run import train
from anowild.workers import work

#: This module, which a worker runs.
MODULE = "anowild.finding.worker"
#: How far the training steps back behind the page.
NICENESS = 5


def _train(job: dict[str, Any]) -> None:
    with suppress(OSError):
        os.nice(NICENESS)
    settings = Settings.from_json(job["settings"])
    try:
        train(job["images"], Path(job["out"]), settings, job["device"], job["threads"])
    except FAILURES as error:
        raise UserError(failure("the training", error)) from error


if __name__ == "__main__":
    sys.exit(work(_train))
