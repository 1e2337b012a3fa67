"""The log of a training run, log.jsonl."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path
from typing import Any

from anowild.errors import UserError
from anowild.files import atomic_write

log = logging.getLogger("anowild")


class TickLog:
    """Appends one JSON object a line to a file.

    Args:
        path: the file; lines of an earlier run that lie beyond ``nimg`` are removed from it.
        nimg: images trained on up to the checkpoint that the run resumes from.
    """

    def __init__(self, path: Path, nimg: int) -> None:
        self.path = path
        if path.exists():
            lines = path.read_text(encoding="utf-8").splitlines()
            kept = [line for line in lines if _kimg_of(line) <= nimg / 1000]
            if kept != lines:
                with atomic_write(path) as temporary:
                    temporary.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")

    def write(self, values: dict[str, Any]) -> None:
        """Append a line, and pass it on to the logger.

        Raises:
            UserError: the file cannot be written.
        """
        log.info("  ".join(f"{name} {value}" for name, value in values.items()))
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(values) + "\n")
        except OSError as error:
            raise UserError(
                f"{self.path}: cannot be written ({error.strerror}); make room or change its "
                "permissions, then give the same command again"
            ) from error


def _kimg_of(line: str) -> float:
    try:
        return float(json.loads(line)["kimg"])
    except (ValueError, KeyError, TypeError):
        return math.inf  # the process was killed while it wrote this line
