"""Print the mean and the deviation of a training set's channels, for its normalisation.

    python scripts/channel_statistics.py idx:mnist --channels 1
    python scripts/channel_statistics.py folder:pets --size 224 --validation 0.1

Of pixels in [0, 1], over the images that train.py trains on with the same options; computed once
and kept in the cache.
"""

from pathlib import Path
from typing import Annotated, Literal

import tyro
from _cli import run

from jaxcnn import data
from jaxcnn.data.dataset import divide


def main(
    source: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE")],
    /,
    size: int = 224,
    channels: Literal[1, 3] = 3,
    split_seed: int = 0,
    holdout: float = 0.2,
    validation: float = 0.0,
    examples: int | None = None,
    stream: bool | None = None,
    skip_corrupt: bool = False,
    workers: int | None = None,
    cache_dir: Path | None = None,
    tfds_dir: Path | None = None,
) -> None:
    """Print the mean and the deviation of a training set's channels, and torchvision's line.

    Args:
        source: data source by name or as KIND:PATH; see train.py --list.
        size: pixels a side that image files are kept at; other sources keep their own size.
        channels: 1 for gray, 3 for RGB.
        split_seed: decides which examples are held out.
        holdout: share held out for testing, where the source has no test split.
        validation: share of the training set held out to choose the best epoch by.
        examples: so many examples of the training set only.
        stream: decode image files as they are needed; by default decided by size.
        skip_corrupt: leave image files out that cannot be decoded.
        workers: processes that decode streamed files; by default one a core, 0 takes threads.
        cache_dir: where decoded images and results are kept; by default ~/.cache/jaxcnn.
        tfds_dir: TFDS's data folder; by default $TFDS_DATA_DIR or ~/tensorflow_datasets.
    """
    dataset = data.load(
        source,
        (size, size, channels),
        seed=split_seed,
        holdout=holdout,
        cache_dir=cache_dir,
        stream=stream,
        tfds_dir=tfds_dir,
        skip_corrupt=skip_corrupt,
    )
    train = divide(dataset, seed=split_seed, validation=validation, examples=examples).train
    mean, std = (
        ", ".join(f"{value:.6f}" for value in values)
        for values in data.cached_statistics(train, cache_dir, workers=workers)
    )
    shape = train.images.shape[1:] if isinstance(train, data.Arrays) else train.image_shape
    print(f"{source}: {len(train)} training images of {'x'.join(map(str, shape))}")
    print(f"mean  {mean}")
    print(f"std   {std}")
    print(f"torchvision.transforms.Normalize([{mean}], [{std}])")


if __name__ == "__main__":
    run(main)
