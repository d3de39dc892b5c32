"""Data: sources by name -> a `Dataset` of uint8 images -> batches -> the network's input."""

from jaxcnn.data.batches import (
    epoch_order,
    eval_batches,
    num_batches,
    to_device,
    train_batches,
)
from jaxcnn.data.catalog import load, sources
from jaxcnn.data.dataset import Arrays, DataError, Dataset, Files
from jaxcnn.data.preprocess import (
    NORMALIZATIONS,
    make_preprocess,
    read_image,
    standardize,
    unstandardize,
)

__all__ = [
    "NORMALIZATIONS",
    "Arrays",
    "DataError",
    "Dataset",
    "Files",
    "epoch_order",
    "eval_batches",
    "load",
    "make_preprocess",
    "num_batches",
    "read_image",
    "sources",
    "standardize",
    "to_device",
    "train_batches",
    "unstandardize",
]
