"""Models on the Hugging Face Hub: saving for it, uploading, and loading from there.

What leaves the machine is the description and the weights of a model, a limit that is kept with it, and a
model card; never a training state, and training images or their hashes only where that is asked for. What
is loaded is checked as a model of one's own is, and nothing in it is run. The library ``huggingface_hub`` is
imported when the Hub is used.

`names` tells names of models on the Hub from folders, `download` gets one, `upload` makes a folder and uploads it with
the model card of `card`, and `failures` says what went wrong.
"""

from anowild.hub.download import from_pretrained, load_model, model_folder
from anowild.hub.names import is_hub_copy, snapshot_name
from anowild.hub.upload import Uploaded, push_to_hub, read_evaluation, save_pretrained

__all__ = [
    "Uploaded",
    "from_pretrained",
    "is_hub_copy",
    "load_model",
    "model_folder",
    "push_to_hub",
    "read_evaluation",
    "save_pretrained",
    "snapshot_name",
]
