"""The review of images by people.

`session` holds the scored images, `store` keeps the marks, `rerank` learns from them, `app` is the web
application, and `serve` the command `anowild review`. `export` writes the marks to a file (`anowild marks`), and
`clean` removes images by them (`anowild clean`).
"""
