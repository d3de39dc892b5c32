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
from jaxcnn.data.decode import read_image
from jaxcnn.data.preprocess import (
    NORMALIZATIONS,
    Normalization,
    make_preprocess,
    standardize,
    unstandardize,
)
from jaxcnn.data.readers import Readers
from jaxcnn.data.split import split_folder
from jaxcnn.data.statistics import cached_statistics, channel_statistics

__all__ = [
    "NORMALIZATIONS",
    "Normalization",
    "Arrays",
    "DataError",
    "Dataset",
    "Files",
    "Readers",
    "cached_statistics",
    "channel_statistics",
    "epoch_order",
    "eval_batches",
    "load",
    "make_preprocess",
    "num_batches",
    "read_image",
    "sources",
    "split_folder",
    "standardize",
    "to_device",
    "train_batches",
    "unstandardize",
]
