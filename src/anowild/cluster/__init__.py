"""Work on many images by many processes and machines, on Ray.

`pieces` cuts sources into fixed parts, `remote` reads those behind URLs, `engine` runs a job on the parts with
Ray Data, `score` makes a table of scores in parts, and `prepare` has the images of a packed data set decoded.

Ray itself is imported where work begins, and only here.
"""
