"""The command ``anowild``, which is also ``python -m anowild``."""

from __future__ import annotations

import sys

from anowild.process import print_error, run


def main() -> None:
    """Run the command line, of which scoring by an exported model needs no PyTorch."""
    # Only now: NumPy and the readers of images are more than a command that lists its options needs.
    if sys.argv[1:2] == ["score"] and sys.argv[2:] and sys.argv[2].lower().endswith(".onnx"):
        from anowild.portable import command

        run(command.main)
        return
    try:
        from anowild.cli import main as whole
    except ModuleNotFoundError as error:
        if (error.name or "anowild").startswith("anowild"):
            raise
        print_error(
            f"anowild: {error.name} is not installed; without it only `anowild score MODEL.onnx IMAGES` works: "
            "pip install anowild"
        )
        sys.exit(1)
    whole()


if __name__ == "__main__":
    main()
