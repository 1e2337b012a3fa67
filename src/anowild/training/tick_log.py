"""The log of a training run, log.jsonl."""

from __future__ import annotations

import errno
import json
import logging
import math
from pathlib import Path
from typing import Any

from anowild.errors import UserError
from anowild.files import LARGEST_JSON, atomic_write, check_regular

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
            lines = read_lines(path)
            kept = [line for line in lines if _kimg_of(line) <= nimg / 1000]
            # The process may have been killed while it wrote the last line.
            damaged = sum(_kimg_of(line) == math.inf for line in lines[:-1])
            if damaged:
                log.warning("%s: %d lines cannot be read and are dropped", path, damaged)
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


def read_lines(path: Path) -> list[str]:
    """Return the lines of a log; bytes that are no text are replaced.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        check_regular(path)
        if path.stat().st_size > LARGEST_JSON:
            raise OSError(errno.EFBIG, "it is larger than any log")
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror or error}); delete it and give the same command again"
        ) from error


def _kimg_of(line: str) -> float:
    try:
        return abs(float(json.loads(line)["kimg"]))
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return math.inf
