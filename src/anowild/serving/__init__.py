"""Scoring over HTTP: the command `anowild serve`.

`app` has the routes and `answers` their schema; `uploads` finds the images in a request's body, `scorer` scores
the images of many requests together, `heatmap` draws, `limits` refuses, `access` says who may ask, `metrics`
counts, and `serve` runs it all until it is stopped.
"""
