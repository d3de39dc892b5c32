"""Our side of `benchmark.py`: one network, its weights, a batch and an optimizer.

It writes what it computed into the job's folder before it is timed: in float64, where it must equal
PyTorch up to rounding, and in the timed precision. Dropouts drop nothing there, for the sides'
random numbers are not the same; where they are timed they do.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import _benchmark_job as shared
import _turns
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxcnn import models, optim, precision, train, weights
from jaxcnn.data.batches import gather
from jaxcnn.layers import Dropout, Dropout2d
from jaxcnn.steps import repeated


def side(job: dict[str, Any]) -> shared.Calls:
    """Return our forward pass, train step and epoch, and what they need besides time."""
    if job["device"] == "cpu":
        jax.config.update("jax_platforms", "cpu")
    for name, size in shared.compared(job):
        jax.config.update("jax_enable_x64", name == "float64")
        with _undropped():
            shared.write(job, "jax", name, *_numbers(job, name, size))
    jax.config.update("jax_enable_x64", job["precision"] == "float64")
    jax.clear_caches()
    before = shared.begin()
    calls, facts = _calls(job)

    def tell() -> dict[str, Any]:
        device = jax.local_devices()[0]
        stats = device.memory_stats() or {}
        found = stats.get("peak_bytes_in_use") or shared.largest() - before
        return facts | {"peak_bytes": found, "device": device.device_kind}

    return calls | {_turns.FACTS: tell}


def _parts(job: dict[str, Any], name: str, size: int) -> tuple[Any, Any, Any, Any]:
    """Return the train step, the forward function, the state and the batch."""
    model = models.create(job["network"], num_classes=job["num_classes"])
    images, labels = shared.batch(job, size)
    dtype = shared.stored(name)
    data = {"images": jnp.asarray(images, dtype), "labels": jnp.asarray(labels)}
    key = jax.random.key(0)
    template = jax.eval_shape(partial(model.init, train=False), key, data["images"])
    kept = weights.read(Path(job["folder"]) / shared.WEIGHTS)
    kept = {n: a.astype(dtype) if a.dtype.kind == "f" else a for n, a in kept.items()}
    variables = jax.tree.map(jnp.asarray, weights.from_torch(kept, template))
    tx = optim.create(
        "sgd", shared.LEARNING_RATE, momentum=shared.MOMENTUM, weight_decay=shared.WEIGHT_DECAY
    )
    asked: Any = None if name == "float64" else name
    step = train.make_train_step(model, tx, precision=asked)

    @jax.jit
    def forward(state, images):
        variables = {"params": state.params, "batch_stats": state.batch_stats}
        with precision.products(asked):
            logits = model.apply(variables, precision.inputs(images, asked), train=False)
        return precision.outputs(logits, asked)

    return step, forward, train.state_from(variables, tx), data


def _numbers(job, name: str, size: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    step, forward, state, data = _parts(job, name, size)
    logits = np.asarray(forward(state, data["images"]))
    state, _ = step(state, data, jax.random.key(1))
    return logits, weights.to_torch({"params": state.params, "batch_stats": state.batch_stats})


def _calls(job: dict[str, Any]) -> tuple[shared.Calls, dict[str, Any]]:
    step, forward, state, data = _parts(job, job["precision"], job["batch_size"])
    key = jax.random.key(1)
    square = jnp.ones((shared.PEAK_SIZE, shared.PEAK_SIZE), data["images"].dtype)
    with precision.products(None if job["precision"] == "float64" else job["precision"]):
        square = precision.inputs(square, job["precision"])
        product = jax.jit(jnp.dot).lower(square, square).compile()
    kept, copied = [state], partial(jax.tree.map, jnp.copy)
    resting = copied(state)

    def train_call():
        kept[0], metrics = step(kept[0], data, key)
        jax.block_until_ready((kept[0], metrics))

    calls = {
        "forward": lambda: jax.block_until_ready(forward(resting, data["images"])),
        "train": train_call,
        "epoch": _epoch(job, step, copied(state), key) if "epoch" in job["what"] else None,
        "peak": lambda: jax.block_until_ready(product(square, square)),
    }
    first = {name: shared.seconds(calls[name]) for name in job["first"]}
    return {name: calls[name] for name in (*job["what"], "peak")}, {"first_s": first}


def _epoch(job: dict[str, Any], step: Any, state: Any, key: jax.Array) -> Callable[[], None]:
    """Return an epoch in one call of one program, the data shuffled on the device."""
    count, size = job["epoch_steps"], job["batch_size"]
    images, labels = shared.batch(job, count * size)
    images, labels = jnp.asarray(images, shared.stored(job["precision"])), jnp.asarray(labels)

    def one(state, number, images, labels, order, key):
        examples = np.int32(len(labels))
        batch = gather(images, labels, order, number, examples, batch_size=size, masked=False)
        return step(state, batch, key)

    program, kept, epochs = repeated(one, most=count), [state], iter(range(2**30))

    def call():
        order = np.random.default_rng(next(epochs)).permutation(len(labels)).astype(np.int32)
        numbers = np.int32(0), np.int32(count)
        kept[0], metrics = program(kept[0], *numbers, images, labels, order, key)
        np.asarray(metrics["loss"])

    return call


@contextmanager
def _undropped() -> Iterator[None]:
    """Trace networks whose dropouts drop nothing."""

    def pass_by(following, args, kwargs, context):
        dropout = isinstance(context.module, Dropout | Dropout2d)
        return args[0] if dropout else following(*args, **kwargs)

    with nn.intercept_methods(pass_by):
        yield
