"""Curves and pictures of a training in other tools: TensorBoard, MLflow, Weights & Biases.

A training knows nothing of this: :func:`following` reads what it writes into its folder, in a thread of its
own. So a tracker that fails, or hangs, neither stops nor changes a training. One file has the adapter of each
tool, which is imported only where it is asked for.
"""

from anowild.tracking.base import Tracker, TrackerChoice, parse_choice
from anowild.tracking.follower import following

__all__ = ["Tracker", "TrackerChoice", "following", "parse_choice"]
