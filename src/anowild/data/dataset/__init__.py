"""Packed data set: preprocessed images and a manifest in a folder, written once and then mapped.

`build` makes one from sources: `writer` packs the images, `quality` searches them for duplicates, `thumbnails` keeps
small pictures of the originals, and `finalize` writes the manifest and the findings. `format` reads a data set,
`summary` states in words what it holds, `contact_sheet` draws it.
"""
