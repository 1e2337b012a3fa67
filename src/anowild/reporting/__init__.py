"""The HTML page about scored images.

`page` reads and scores a source and writes the page (`anowild report`), or writes that of a review; `of_table`
writes that of a table in parts. `sections` makes its parts, `embedding` keeps its pictures few and small, `charts`
draws SVG.
"""
