"""Scoring of image files as they arrive in a folder.

`arrivals` tells which files are whole, `journal` keeps what was scored, once and for all, `table_file` writes the
table from it, `deliveries` runs a command or posts for each flagged image, and `watch` puts them together.
"""
