"""``python -m anowild`` is the command ``anowild``."""

from anowild.cli import main

main()
