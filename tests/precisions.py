"""The precisions of a grid of comparisons: float64 proves, float32 repeats it and is slow."""

import pytest

PRECISIONS = ["float64", pytest.param("float32", marks=pytest.mark.slow)]
