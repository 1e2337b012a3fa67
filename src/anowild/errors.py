"""The exceptions that are shown to a user as a sentence, without a traceback."""

from __future__ import annotations


class UserError(Exception):
    """Something the user can mend: the message names the file or setting, and the mend."""


class ViewUnavailable(UserError):
    """A view that cannot be used here, or whose fitting failed; a detector is made of the others."""


class NoUsableImages(UserError):
    """None of the images that a source has can be read."""


class LaterVersion(UserError):
    """A file that a later version of AnoWild wrote; it is left as it is."""
