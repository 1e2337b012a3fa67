"""The type of every NumPy array in this package; shapes, types and ranges stand in docstrings."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
