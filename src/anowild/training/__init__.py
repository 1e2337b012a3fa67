"""Station 4: batches and networks -> trained networks. Imports `data` and `networks`.

`step` is one iteration of the paper's algorithm, with `losses` and `optimiser`; `schedule` says
what is done when; `loop` runs it, `checkpoint` saves it, `signals` and `pictures` help.
"""

from anowild.training.loop import Trained, train
from anowild.training.signals import Interrupted

__all__ = ["Interrupted", "Trained", "train"]
