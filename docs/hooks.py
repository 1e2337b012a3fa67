"""Parts of the documentation site that are made from the code when it is built, so that none goes stale.

A page says where a part goes: ``<!-- made from the code: command line -->``. Links to files of the
repository outside of ``docs`` become their paths, as the site does not hold them.
"""

from __future__ import annotations

import dataclasses
import inspect
import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import typer

import anowild
from anowild.cli import app
from anowild.presets import PRESETS
from anowild.settings import Settings

#: Warnings of it end `mkdocs build --strict`.
log = logging.getLogger("mkdocs.hooks.anowild")

DOCS = Path(__file__).parent
ROOT = DOCS.parent
MARKER = re.compile(r"^<!-- made from the code: (.+) -->$", re.MULTILINE)
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(((?:\.\./)+[^)#\s]*)(#[^)\s]*)?\)")


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Fill in what is made from the code; turn links out of the site into paths."""
    source = Path(page.file.abs_src_path)
    text = MARKER.sub(lambda marker: _made(marker[1], source), markdown)
    return LINK.sub(lambda link: _link(link, source), text)


def on_post_page(output: str, **_: Any) -> str:
    """Give the theme's dialog of the search a name for screen readers."""
    return output.replace('<div class="md-search" ', '<div class="md-search" aria-label="Search" ')


def _made(part: str, source: Path) -> str:
    if part not in PARTS:
        log.warning("%s: there is no part '%s'; take one of %s", source, part, ", ".join(PARTS))
        return ""
    return "\n".join(PARTS[part]())


def _link(link: re.Match[str], source: Path) -> str:
    """Return a link as it is if it stays within the site, else the path of its file."""
    text, target = link[1], (source.parent / link[2]).resolve()
    if target.is_relative_to(DOCS):
        return link[0]
    if not target.is_relative_to(ROOT) or not target.exists():
        log.warning("%s: links to %s, which is not there", source, link[2])
    path = target.relative_to(ROOT).as_posix() if target.is_relative_to(ROOT) else link[2]
    if path.endswith(text.strip("`")):
        return f"`{path}`"
    return f"{text} (`{path}`)"


def command_line() -> Iterator[str]:
    """Describe all commands, as `--help` does: usage, arguments, options by panel."""
    group = typer.main.get_command(app)
    yield from _command(group, typer.Context(group, info_name="anowild"))


def _command(command: Any, context: Any) -> Iterator[str]:
    if context.parent is not None:
        yield f"## `{context.command_path}`\n"
    yield _plain(command.help) + "\n"
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    yield f"```text\n{usage}\n```\n"
    yield from _parameters(command, context)
    for name in command.list_commands(context) if hasattr(command, "list_commands") else ():
        child = command.get_command(context, name)
        yield from _command(child, typer.Context(child, info_name=name, parent=context))


def _parameters(command: Any, context: Any) -> Iterator[str]:
    panels: dict[str, list[str]] = {}
    for param in command.get_params(context):
        record = param.get_help_record(context)
        if record is None:
            continue
        kind = "Arguments" if param.param_type_name == "argument" else "Options"
        title = getattr(param, "rich_help_panel", None) or kind
        name, text = record
        panels.setdefault(title, []).append(f"| `{_cell(name)}` | {_cell(_plain(text))} |")
    for title, rows in panels.items():
        yield f"| {title} | |\n|---|---|"
        yield from rows
        yield ""


def settings() -> Iterator[str]:
    """Tabulate all settings: the paper's value, what presets change, what it means."""
    names = ("laptop", "quick")
    yield f"| setting | paper's networks | {' | '.join(f'`{name}`' for name in names)} | meaning |"
    yield "|---|---|" + "---|" * (len(names) + 1)
    values = [PRESETS[name].settings() for name in names]
    defaults = Settings()
    for field in dataclasses.fields(Settings):
        first = getattr(defaults, field.name)
        others = [getattr(value, field.name) for value in values]
        cells = [_value(first), *("" if other == first else _value(other) for other in others)]
        unit = field.metadata["unit"]
        meaning = field.metadata["meaning"] + (f" [{unit}]" if unit else "")
        yield f"| `{field.name}` | {' | '.join(map(_cell, cells))} | {_cell(_plain(meaning))} |"


def _value(value: Any) -> str:
    if isinstance(value, dict):
        same = len(set(value.values())) == 1
        items = [str(one) if same else f"{side}: {one}" for side, one in value.items()]
        return ", ".join(items[:1] if same else items)
    if isinstance(value, tuple):
        return ", ".join(value)
    if value is None or isinstance(value, bool):
        return {None: "none", True: "true", False: "false"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)


def public_names() -> Iterator[str]:
    """Let mkdocstrings describe all public names, by what they are."""
    groups: dict[str, list[str]] = {
        "Jobs": [],
        "Classes": [],
        "Errors": [],
        "Types and constants": [],
    }
    for name in anowild.__all__:
        value = getattr(anowild, name)
        if inspect.isfunction(value):
            groups["Jobs"].append(name)
        elif inspect.isclass(value):
            groups["Errors" if issubclass(value, BaseException) else "Classes"].append(name)
        elif not name.startswith("_"):
            groups["Types and constants"].append(name)
    for title, names in groups.items():
        yield f"## {title}\n"
        yield from (f"::: anowild.{name}\n" for name in names)


def _plain(text: str | None) -> str:
    """Return text as Markdown: nothing of it is markup but its backticks."""
    words = inspect.cleandoc(text or "").replace("\b", "")
    parts = re.split(r"(`[^`]*`)", words)
    return "".join(
        part if part.startswith("`") else re.sub(r"([*_<>\[\]])", r"\\\1", part) for part in parts
    )


def _cell(text: str) -> str:
    return re.sub(r"\s*\n\s*", " ", text).replace("|", "\\|")


PARTS: dict[str, Callable[[], Iterator[str]]] = {
    "command line": command_line,
    "settings": settings,
    "public names": public_names,
}
