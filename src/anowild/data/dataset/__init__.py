"""The packed data set: images and a manifest in a folder, written once and mapped afterwards.

`build` makes one from sources: `writer` packs the images, `finalize` writes the manifest and runs the
checks of `quality`. `format` reads it, `summary` says in words what it holds, `contact_sheet` draws it.
"""
