"""Station 7: verdicts -> what a person looks at.

`build` writes the page about a folder (`anowild report`), from what `collect` kept of one pass over it,
with `charts` and `pictures`.
"""
