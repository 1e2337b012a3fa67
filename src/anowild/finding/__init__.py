"""The main job: from a folder of images to a page of the odd ones.

`job` reads the images, ranks them by quick views, trains the rest, and writes what is left behind;
`serve` shows the page meanwhile, and `worker` is the process that trains.
"""
