"""The command line: thin commands that call the public functions and print what they return.

`options` has what commands share, `help` the look of their help; each other module has the commands of a theme.
"""

from __future__ import annotations

import logging
import os
from typing import Annotated

import typer

from anowild.cli import data, export, find, hub, info, model, review, serve, share, watch
from anowild.cli.data import data_app
from anowild.cli.help import Command, Group
from anowild.cli.study import study_app
from anowild.errors import UserError
from anowild.process import StderrHandler, launched_together, run
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
        find.find, review.review, model.report, model.score, watch.watch, review.clean, review.marks, model.limit,
    ),
    "Train and prepare": (model.train, data.prepare),
    "Measure": (model.evaluate, data.contaminate),
    "Use elsewhere": (serve.serve, export.export, share.share, hub.push),
    "More": (info.demo, info.settings, info.networks),
}  # fmt: skip
for panel, commands in PANELS.items():
    for command in commands:
        app.command(cls=Command, rich_help_panel=panel)(command)
app.add_typer(data_app, name="data", cls=Group, rich_help_panel="Train and prepare")
app.add_typer(study_app, name="study", cls=Group, rich_help_panel="Measure")


@app.callback(invoke_without_command=True)
def _common(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Say what is done.")] = False,
) -> None:
    if version:
        print(f"anowild {VERSION}")
        raise typer.Exit
    if launched_together():
        # Of a process that has ended we say so ourselves, in a line.
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    if launched_together() and context.invoked_subcommand != "train":
        if os.environ["RANK"] != "0":
            raise typer.Exit(1)
        raise UserError("torchrun is for `anowild train` alone; start other commands without it")
    logger = logging.getLogger("anowild")
    logger.handlers[:] = [StderrHandler()]
    logger.setLevel(logging.INFO if verbose else logging.WARNING)


def main() -> None:
    """Run the command line; a user's mistake gives one sentence and exit code 1."""
    run(app)
