"""The review of images by people. Imports `data`, `scoring` and `reporting`.

`session` holds the scored images, `store` keeps the marks, `rerank` learns from them, `app` is the web
application, `security` its access control, `limits` and `listening` its server, and `serve` the command
`anowild review`. `export` writes the marks to a file (`anowild marks`), and `clean` removes images by
them (`anowild clean`).
"""
