"""The command line: thin commands that call the public functions and print what they return.

`options` has what commands share, `help` the look of their help; `find`, `data`, `model`, `review`, `serve`,
`study` and `info` have the commands by theme.
"""

from __future__ import annotations

import io
import logging
import os
import sys
from typing import Annotated

import typer

from anowild.cli import data, find, info, model, review, serve
from anowild.cli.data import data_app
from anowild.cli.help import Command, Group
from anowild.cli.options import print_error
from anowild.cli.study import study_app
from anowild.errors import UserError
from anowild.signals import Interrupted
from anowild.version import VERSION

app = typer.Typer(
    name="anowild",
    help="Finds the odd images in a folder that nobody has labeled.",
    cls=Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
#: Commands by the panel of the help that lists them.
PANELS = {
    "Look": (
        find.find, review.review, model.report, model.score, review.clean, review.marks, model.limit,
    ),
    "Train and prepare": (model.train, data.prepare),
    "Measure": (model.evaluate, data.contaminate),
    "Use": (serve.serve,),
    "More": (info.demo, info.settings, info.networks),
}  # fmt: skip
for panel, commands in PANELS.items():
    for command in commands:
        app.command(cls=Command, rich_help_panel=panel)(command)
app.add_typer(data_app, name="data", cls=Group, rich_help_panel="Train and prepare")
app.add_typer(study_app, name="study", cls=Group, rich_help_panel="Measure")


@app.callback(invoke_without_command=True)
def _common(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Say what is done.")] = False,
) -> None:
    if version:
        print(f"anowild {VERSION}")
        raise typer.Exit
    handler = _StderrHandler()
    handler.setFormatter(logging.Formatter("anowild: %(message)s"))
    logger = logging.getLogger("anowild")
    logger.handlers[:] = [handler]
    logger.setLevel(logging.INFO if verbose else logging.WARNING)


class _StderrHandler(logging.Handler):
    """Writes to what sys.stderr is at the time: a progress bar puts itself in between."""

    def emit(self, record: logging.LogRecord) -> None:
        print_error(self.format(record))


def main() -> None:
    """Run the command line; a user's mistake gives one sentence and exit code 1."""
    # Names may hold bytes that are no text: shown escaped, rather than not at all.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if not (sys.stdout.isatty() and sys.stderr.isatty()):
        # Files and pipes get no codes of a terminal, whatever these ask for.
        for name in ("FORCE_COLOR", "PY_COLORS", "GITHUB_ACTIONS", "TTY_COMPATIBLE"):
            os.environ.pop(name, None)
    try:
        app()
    except UserError as error:
        print_error(f"anowild: {error}")
        sys.exit(1)
    except Interrupted as stopped:
        print_error(str(stopped))
        sys.exit(128 + stopped.signum)
    except (KeyboardInterrupt, SystemExit) as stop:
        # Typer turns Ctrl-C into an exit without a word.
        if isinstance(stop, SystemExit) and stop.code != 130:
            raise
        print_error("stopped; give the same command again")
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(141)
    except OSError as error:
        print_error(f"anowild: {error.filename or 'a file'}: {error.strerror or error}")
        sys.exit(1)
