"""Scored images in the formats of other tools.

`share` is the job (`anowild share`); `tables` reads the scores, `marks` what people decided, `places` finds the
images in their sources, and `pictures` refers to their files or puts them into the result. `formats` has one
file for each format; to add one, write such a file: see `formats.base`.
"""
