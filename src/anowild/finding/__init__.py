"""The main job: from a folder of images to a page of the odd ones.

`job` reads the images, ranks them by quick views, trains the rest, and writes what is left behind;
`serve` shows the page meanwhile, `worker` is the process that trains, and `time_left` says how long it will take.
"""
