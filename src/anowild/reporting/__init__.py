"""The HTML page about a scored source. Imports `data`, `scoring`, `evaluation` and `views`.

`page` scores the source and writes the page (`anowild report`), `sections` makes its galleries and
tables, `samples` keeps the images that the galleries show, `charts` draws SVG, `images` makes data URLs.
"""
