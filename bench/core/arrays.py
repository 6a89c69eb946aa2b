"""The array types that modules share, by what they hold."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
#: (rows, dim), as a worker returns them.
Vectors = npt.NDArray[np.float32]
