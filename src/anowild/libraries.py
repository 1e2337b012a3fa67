"""Libraries that may not be installed, and the one sentence that says how to get them."""

from __future__ import annotations

import importlib
from typing import Any

from anowild.errors import UserError

#: The extra of the package that brings a library; unless listed it is ``formats``, which brings what
#: every installation has as well.
_EXTRAS = {
    "duckdb": "large", "fastapi": "serve", "huggingface_hub": "hub", "matplotlib": "study", "mlxtend": "demo", "onnxruntime": "export",
    "onnxscript": "export", "openvino": "openvino", "prometheus_client": "serve", "python_multipart": "serve",
    "fsspec": "ray", "ray": "ray", "tensorboard": "tensorboard",
}  # fmt: skip
#: Libraries that no extra brings: large, and in as many versions as there are servers of them.
_BY_ITSELF = ("mlflow", "wandb")


class MissingLibrary(UserError):
    """A library that is not installed; ``need`` says which, without the file that needs it."""

    def __init__(self, source: object, name: str) -> None:
        self.need = f"reading it needs {_install(name)}"
        super().__init__(f"{source}: {self.need}")


def library(name: str, source: object) -> Any:
    """Import a library that a source is read with.

    Args:
        name: of the module.
        source: what is read, for the message.

    Raises:
        MissingLibrary: it is not installed; the message says how to install it.
    """
    try:
        return importlib.import_module(name)
    except ImportError:
        raise MissingLibrary(source, name) from None


def require(what: str, name: str) -> Any:
    """Import a library that a kind of output or work needs; called before the work begins.

    Args:
        what: needs the library, in the plural, for the message.
        name: of the module.

    Raises:
        UserError: it is not installed; the message says how to install it.
    """
    try:
        return importlib.import_module(name)
    except ImportError:
        raise UserError(f"{what} need {_install(name)}") from None


def parquet_library() -> tuple[Any, Any]:
    """Return ``pyarrow`` and ``pyarrow.parquet``, for tables in Parquet.

    Raises:
        UserError: they are not installed; the message says how to install them.
    """
    what = "tables in Parquet"
    return require(what, "pyarrow"), require(what, "pyarrow.parquet")


def _install(name: str) -> str:
    package = name.partition(".")[0]
    if package in _BY_ITSELF:
        return f"{package}: pip install {package}"
    return f"{package}: pip install 'anowild[{_EXTRAS.get(package, 'formats')}]'"
