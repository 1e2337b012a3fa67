"""Help that names values in words (N, SCORE, FOLDER) in the place of Python's types."""

from __future__ import annotations

from typing import Any

from typer.core import TyperArgument, TyperCommand, TyperGroup


class _PlainHelp:
    """Mixin of commands: no types of arguments and flags, no ranges, no braces in the help."""

    def get_params(self, ctx: Any) -> list[Any]:
        params: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        for param in params:
            if isinstance(param, TyperArgument) or param.is_flag:
                vars(param)["display_type_rich"] = _nothing
            vars(param)["_get_number_range_help_str"] = _nothing
        return params

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        pieces: list[str] = super().collect_usage_pieces(ctx)  # type: ignore[misc]
        return [piece.replace("{", "").replace("}", "") for piece in pieces]


class Command(_PlainHelp, TyperCommand):
    """A command with plain help."""


class Group(_PlainHelp, TyperGroup):
    """A group of commands with plain help."""


def _nothing(ctx: Any = None) -> None:
    """Return nothing to show."""
