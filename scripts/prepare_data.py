"""Download a TFDS set and prepare it in array_record form, which jaxcnn reads without TensorFlow.

    pip install 'jaxcnn[prepare]'
    python scripts/prepare_data.py cifar10

This is the only program of the project that wants TensorFlow; it is needed once a set.
"""

import importlib.util
import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import tyro

Name = Literal["mnist", "fashion_mnist", "cifar10", "cats_vs_dogs"]


def prepare(name: Annotated[Name, tyro.conf.Positional], /, data_dir: Path | None = None) -> None:
    """Download a TFDS set and prepare it in array_record form, for jaxcnn to read.

    Args:
        name: The TFDS set.
        data_dir: Where TFDS keeps its sets. Default: $TFDS_DATA_DIR, ~/tensorflow_datasets.
    """
    missing = [
        module
        for module in ("tensorflow", "tensorflow_datasets", "array_record")
        if importlib.util.find_spec(module) is None
    ]
    if missing:
        sys.exit(
            f"prepare_data: preparing {name} takes {', '.join(missing)}; "
            "run: pip install 'jaxcnn[prepare]'"
        )
    import tensorflow_datasets as tfds

    where = data_dir or os.environ.get("TFDS_DATA_DIR") or None
    builder = tfds.builder(
        name, data_dir=None if where is None else os.fspath(where), file_format="array_record"
    )
    builder.download_and_prepare(file_format="array_record")
    counts = ", ".join(f"{info.num_examples} {key}" for key, info in builder.info.splits.items())
    print(f"{name}: {counts} in {builder.data_path}")


if __name__ == "__main__":
    tyro.cli(prepare)
