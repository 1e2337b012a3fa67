"""The review of images by people.

`app` is the web application, and `serve` the command `anowild review`. The application asks a `catalog`: either a
`session`, which holds scored `images` with all that the model says of them (`ranking`, `details`, `alike`), or the
`table` of a set of any size, whose originals are decoded `on_demand`. A `query` says which images, in which order.
`store` keeps the marks in the review's `folder`, and `rerank` learns from them; `pictures` are drawn for pages.
`export` writes the marks to a file (`anowild marks`), `clean` removes images by them (`anowild clean`), into
`quarantine` if asked to.
"""
