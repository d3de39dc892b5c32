"""Image files -> batches of decoded images on the host, some of them begun ahead."""

from collections import deque
from collections.abc import Generator
from concurrent.futures import Future
from typing import Any

import numpy as np

from jaxcnn.data.dataset import Files
from jaxcnn.data.readers import PART, Readers, Workers, reading

Batch = dict[str, Any]
Stream = Generator[Batch, None, None]


def decoded(split: Files, order: np.ndarray, batch_size: int, workers: Workers) -> Stream:
    """Yield batches of NumPy arrays, decoded in `order` ((N,) integers), the last one short.

    Some are decoded ahead, by readers that `jaxcnn.data.readers.reading` lends or makes.

    Raises:
        DataError: a damaged image file, where its batch would have come.
    """
    with reading(workers) as readers:
        # Every thread or process has a part to decode and one that waits for it.
        ahead = max(1, -(-2 * readers.parallel * PART // batch_size))
        begun: deque[tuple[Batch, list[Future]]] = deque()
        try:
            for first in range(0, len(order), batch_size):
                begun.append(_begun(split, order[first : first + batch_size], readers))
                if len(begun) > ahead:
                    yield _finished(*begun.popleft())
            while begun:
                yield _finished(*begun.popleft())
        finally:
            for _, parts in begun:
                for part in parts:
                    part.cancel()


def _begun(split: Files, rows: np.ndarray, readers: Readers) -> tuple[Batch, list[Future]]:
    """Return a batch and what is done once its images are there."""
    images = np.empty((len(rows), *split.image_shape), np.uint8)
    parts = [
        readers.read(
            [split.paths[row] for row in rows[first : first + PART]],
            split.image_shape,
            images[first : first + PART],
        )
        for first in range(0, len(rows), PART)
    ]
    return {"images": images, "labels": np.asarray(split.labels[rows], np.int32)}, parts


def _finished(batch: Batch, parts: list[Future]) -> Batch:
    for part in parts:
        part.result()
    return batch
