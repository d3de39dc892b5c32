"""The 8x8 digits that scikit-learn carries: `digits`, real handwriting without a download.

Source: Alpaydin and Kaynak 1998, the test part of "Optical recognition of handwritten digits" at
UCI: 1,797 images, gray values 0 to 16. (N, 8, 8, C) uint8 after loading, 16 becomes 255.
"""

from typing import Any

import numpy as np

from jaxcnn.data.dataset import Arrays, hold_out, to_channels


def load_digits(
    channels: int, *, seed: int, holdout: float
) -> tuple[tuple[str, ...], Arrays, Arrays]:
    """Load class names, train split, test split; `hold_out` divides (by default 1,438 and 359)."""
    from sklearn import datasets  # a second to import

    digits: Any = datasets.load_digits()
    names = tuple(str(name) for name in digits.target_names)
    pixels = np.round(digits.images * (255 / 16)).astype(np.uint8)
    split = Arrays(to_channels(pixels[..., None], channels), digits.target.astype(np.int32))
    return names, *hold_out("digits", split, names, seed=seed, holdout=holdout)
