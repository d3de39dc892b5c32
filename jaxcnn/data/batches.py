"""Batches of a split: shuffled for training, in order for evaluation.

A batch is a dict: "images" (B, H, W, C) uint8, "labels" (B,) int32 and, for evaluation and where
an epoch's last batch has to be filled up, "mask" (B,) bool, False for the filling: all batches have
one shape, and one compiled program serves them. The order of an epoch is a pure function of (seed,
epoch), and training can start at any batch of it: a resumed run sees exactly the batches that an
uninterrupted one would.

`Arrays` sit on the device and a jitted gather makes a batch there; only the batch's number leaves
the host. `Files` are decoded by threads or worker processes (`jaxcnn.data.readers`) and put on the
device ahead of the loop (`jaxcnn.data.prefetch`).
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxcnn import devices, processes
from jaxcnn.data.dataset import Arrays, DataError, Files
from jaxcnn.data.prefetch import Prefetched
from jaxcnn.data.readers import Workers
from jaxcnn.data.stream import Batch, Stream, decoded

Batches = Stream | Prefetched  # to be closed where it is left early


def epoch_order(n: int, *, seed: int, epoch: int) -> np.ndarray:
    """Return the order of `n` examples in epoch `epoch`: a permutation, (n,) int32."""
    return np.random.default_rng([seed, epoch]).permutation(n).astype(np.int32)


def num_batches(split_len: int, batch_size: int, drop_last: bool) -> int:
    """Return the number of batches in an epoch of `split_len` examples."""
    return split_len // batch_size if drop_last else -(-split_len // batch_size)


def to_device(split: Arrays, device: Any = None) -> Arrays:
    """Put a split on a device once, so that epochs do not transfer it again.

    `device` is what `jax.device_put` takes: None is the default device, and leaves alone what is on
    a device already; a sharding must replicate.
    """

    def put(array: np.ndarray | jax.Array) -> jax.Array:
        if device is None and isinstance(array, jax.Array):
            return array
        return jax.device_put(array, device)

    return Arrays(put(split.images), put(split.labels))


def train_batches(
    split: Arrays | Files,
    batch_size: int,
    *,
    seed: int,
    epoch: int,
    start: int = 0,
    drop_last: bool = True,
    workers: Workers = 0,
    mesh: Mesh | None = None,
) -> Batches:
    """Iterate over the batches of one epoch, from batch number `start` on.

    Every example comes once an epoch; a last, partial batch is dropped or, with `drop_last=False`,
    filled up with its last example, and then all batches have a mask. `workers` decode `Files`: so
    many processes (0: threads of this one, None: a process a core), which closing or dropping the
    iterator ends, or readers that their owner closes (`jaxcnn.data.readers.Readers`). On a `mesh`
    (`jaxcnn.devices`) they are divided over its devices; each process decodes what its own hold.

    Raises:
        DataError: a size or `start` out of range, at once; a damaged image file, when it is met.
    """
    _check_sizes(batch_size, workers)
    total = num_batches(len(split), batch_size, drop_last)
    if total == 0:
        raise DataError(
            f"batch_size={batch_size}: the split has {len(split)} images, not one full batch"
        )
    if not 0 <= start <= total:
        raise DataError(f"start={start}: expected 0 to {total}, the batches of an epoch")
    order = epoch_order(len(split), seed=seed, epoch=epoch)[: total * batch_size]
    masked = len(order) % batch_size > 0
    if isinstance(split, Files):
        return _streamed(split, order, batch_size, workers, mesh, start=start, masked=masked)
    return _gathered(to_device(split), order, batch_size, start, masked)


def eval_batches(
    split: Arrays | Files, batch_size: int, *, workers: Workers = 0, mesh: Mesh | None = None
) -> Batches:
    """Iterate over a split in order, every example once, all batches of the same shape.

    "mask" is True for real examples; the last batch is filled up with its last one.
    `workers` and `mesh` as in `train_batches`.

    Raises:
        DataError: a batch size below 1 or an empty split, at once; a damaged image file, when met.
    """
    _check_sizes(batch_size, workers)
    total = num_batches(len(split), batch_size, drop_last=False)
    if total == 0:
        raise DataError("the split has no images")
    positions = np.arange(len(split), dtype=np.int32)
    if isinstance(split, Files):
        return _streamed(split, positions, batch_size, workers, mesh, start=0, masked=True)
    return _gathered(to_device(split), positions, batch_size, 0, masked=True)


def _check_sizes(batch_size: int, workers: Workers) -> None:
    if batch_size < 1:
        raise DataError(f"batch_size={batch_size}: expected 1 or more")
    if isinstance(workers, int) and workers < 0:
        raise DataError(f"workers={workers}: expected 0 or more")


def filled(order: np.ndarray, batch_size: int) -> np.ndarray:
    """Fill an order (..., N) up with its last example to whole batches."""
    missing = -order.shape[-1] % batch_size
    return np.pad(order, [(0, 0)] * (order.ndim - 1) + [(0, missing)], mode="edge")


def gather(
    images: jax.Array,
    labels: jax.Array,
    order: jax.Array,
    number: Any,
    examples: Any,
    *,
    batch_size: int,
    masked: bool,
) -> Batch:
    """Gather batch `number` (from 0) of a split on the device, by a `filled` order.

    Args:
        images: (N, ...) of the split.
        labels: (N,) of the split.
        order: whole batches of rows, int32.
        number: () int32.
        examples: () int32, those of the order that are no filling.
        batch_size: rows of the batch.
        masked: whether it has a mask.
    """
    first = number * batch_size
    rows = jax.lax.dynamic_slice_in_dim(order, first, batch_size)
    # The rows are in bounds by construction; "clip" spares the default's masking with NaN or 0.
    batch = {
        "images": jnp.take(images, rows, axis=0, mode="clip"),
        "labels": jnp.take(labels, rows, axis=0, mode="clip"),
    }
    if masked:
        batch["mask"] = first + jnp.arange(batch_size, dtype=jnp.int32) < examples
    return batch


_gather = jax.jit(gather, static_argnames=("batch_size", "masked"))


def _gathered(
    split: Arrays, order: np.ndarray, batch_size: int, start: int, masked: bool
) -> Stream:
    """Yield batches of device arrays, by an order that travels to the device once."""
    rows, examples = jax.device_put(filled(order, batch_size)), np.int32(len(order))
    for number in range(start, num_batches(len(order), batch_size, drop_last=False)):
        yield _gather(
            split.images,
            split.labels,
            rows,
            np.int32(number),
            examples,
            batch_size=batch_size,
            masked=masked,
        )


def _streamed(
    split: Files,
    order: np.ndarray,
    batch_size: int,
    workers: Workers,
    mesh: Mesh | None,
    *,
    start: int,
    masked: bool,
) -> Prefetched:
    """Decode batches and put them on the device, or divided on a mesh, ahead of the loop."""
    if mesh is not None and processes.several():
        return Prefetched(_own(split, order, batch_size, workers, mesh, start, masked))
    batches = decoded(split, order[start * batch_size :], batch_size, workers)
    device = None if mesh is None else devices.rows(mesh)
    return Prefetched(_padded(batches, batch_size) if masked else batches, device=device)


def _own(
    split: Files,
    order: np.ndarray,
    batch_size: int,
    workers: Workers,
    mesh: Mesh,
    start: int,
    masked: bool,
) -> Stream:
    """Yield batches of several processes, of which each decodes the rows that its devices hold."""
    all_rows = filled(order, batch_size).reshape(-1, batch_size)
    own = all_rows[start:, devices.own_rows(mesh, batch_size)]
    parts = decoded(split, own.ravel(), own.shape[1], workers)
    for number, part in enumerate(parts, start):
        batch = {
            "images": devices.from_own(part["images"], mesh, batch_size),
            "labels": np.asarray(split.labels[all_rows[number]], np.int32),
        }
        if masked:
            batch["mask"] = number * batch_size + np.arange(batch_size) < len(order)
        yield batch


def _padded(batches: Stream, batch_size: int) -> Stream:
    """Add the mask and fill the short last batch up with its last example."""
    for batch in batches:
        real = len(batch["labels"])
        rows = np.minimum(np.arange(batch_size), real - 1)
        full = batch if real == batch_size else {key: batch[key][rows] for key in batch}
        yield {**full, "mask": np.arange(batch_size) < real}
