"""A small network with every kind of state, and a small data set, for tests of training."""

import numpy as np
from flax import linen as nn

from jaxcnn.data import Arrays, Dataset
from jaxcnn.layers import BatchNorm2d, Conv2d, Dropout, Linear, MaxPool2d, ReLU, flatten


class SmallNet(nn.Module):
    """Convolution, batch norm, dropout, Linear: statistics and random keys included."""

    num_classes: int = 3

    @nn.compact
    def __call__(self, images, *, train):
        x = Conv2d(4, 3, padding=1, name="conv")(images)
        x = ReLU(name="relu")(BatchNorm2d(name="bn")(x, train=train))
        x = Dropout(0.3, name="drop")(MaxPool2d(2, name="pool")(x), train=train)
        return Linear(self.num_classes, name="fc")(flatten(x))


def small_dataset(train=50, test=17, seed=0):
    """Noisy blobs: class k is bright in quarter k of an 8x8 image."""
    rng = np.random.default_rng(seed)

    def split(n):
        labels = rng.integers(0, 3, n).astype(np.int32)
        images = rng.integers(0, 120, (n, 8, 8, 1)).astype(np.uint8)
        for image, label in zip(images, labels, strict=True):
            row, column = divmod(int(label), 2)
            image[4 * row : 4 * row + 4, 4 * column : 4 * column + 4] += 100
        return Arrays(images, labels)

    return Dataset("small", ("a", "b", "c"), split(train), split(test))
