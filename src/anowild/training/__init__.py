"""Station 4: batches and networks -> trained networks. Imports `data` and `networks`.

`step` is one iteration of the paper's algorithm, with `losses` and `optimizer`; `schedule` says
what is done when; `loop` runs it, `checkpoint` saves it, `pictures` shows it.
"""

from anowild.training.loop import Trained, train

__all__ = ["Trained", "train"]
