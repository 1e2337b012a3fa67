"""The formats that scored images are shared in, one module for each, of the same name.

Each module but `base` has a ``FORMAT``. The names are listed without importing anything.
"""

from __future__ import annotations

import pkgutil
from importlib import import_module
from typing import TYPE_CHECKING

from anowild.errors import UserError

if TYPE_CHECKING:
    from anowild.exchange.formats.base import Format


def format_names() -> list[str]:
    """Return the names of all formats."""
    names = (module.name.replace("_", "-") for module in pkgutil.iter_modules(__path__))
    return sorted(name for name in names if name != "base")


def format_of(name: str) -> Format:
    """Return a format by its name.

    Raises:
        UserError: there is no such format.
    """
    if name not in format_names():
        raise UserError(f"there is no format '{name}'; take one of {', '.join(format_names())}")
    found: Format = import_module(f"{__name__}.{name.replace('-', '_')}").FORMAT
    return found
