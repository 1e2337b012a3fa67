"""Ways of looking at an image.

`base` has what every view offers, its cues and the registry; `gaussian` the reference distribution that
distances are measured from; `batches` batches of one size; `features` the networks and vectors of the view
`pretrained`; `loading` their networks from files. One module is one view: `pixels`, `transforms`, `pretrained` and
`gan`, the paper's detector. Fitting a view to images is a function of the module of the same name in `training`.
"""

from anowild.views.base import (
    Cue,
    Explanation,
    View,
    features_of,
    register_view,
    view_class,
    view_names,
)

__all__ = [
    "Cue",
    "Explanation",
    "View",
    "features_of",
    "register_view",
    "view_class",
    "view_names",
]
