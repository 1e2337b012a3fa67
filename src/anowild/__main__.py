"""The command ``anowild``, which is also ``python -m anowild``."""

from __future__ import annotations

import sys

from anowild.process import run


def main() -> None:
    """Run the command line, of which scoring by an exported model needs no PyTorch."""
    from anowild.portable import command

    if command.takes(sys.argv[1:]):
        run(command.main)
        return
    from anowild.cli import main as whole

    whole()


if __name__ == "__main__":
    main()
