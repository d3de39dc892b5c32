"""The two sides of `benchmark.py`: one network, its weights, a batch and an optimizer.

Each side writes what it computed into the job's folder before it is timed: in float64, where the
two must be equal up to rounding, and in the timed number type. Dropouts drop nothing there, for the
sides' random numbers are not the same; where they are timed they do.
"""

import ctypes
import gc
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import _turns
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxcnn import models, optim, train, weights
from jaxcnn.layers import Dropout, Dropout2d

LEARNING_RATE, MOMENTUM, WEIGHT_DECAY = 0.01, 0.9, 5e-4
WEIGHTS, LOGITS = "weights.npz", "logits of evaluation mode"
EXACT_BATCH = 4  # images in float64
TORCH_FORMS = ("nchw", "channels_last", "compile")
PEAK_SIZE = 2048
Calls = dict[str, Callable[[], Any]]


def batch(job: dict[str, Any], size: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw images (size, H, W, C), float64, and labels (size,) int32."""
    rng = np.random.default_rng(0)
    images = rng.normal(size=(size, *job["input_shape"]))
    return images, rng.integers(0, job["num_classes"], size).astype(np.int32)


def jax_side(job: dict[str, Any]) -> Calls:
    """Return our forward pass and train step, and what they need besides time."""
    if job["device"] == "cpu":
        jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_x64", True)
    with _undropped():
        _write(job, "jax", "float64", *_jax_numbers(job, "float64", EXACT_BATCH))
    jax.config.update("jax_enable_x64", job["dtype"] == "float64")
    with _undropped():
        _write(job, "jax", job["dtype"], *_jax_numbers(job, job["dtype"], job["batch_size"]))
    jax.clear_caches()
    before = _begin()
    calls, facts = _jax_calls(job)

    def tell() -> dict[str, Any]:
        device = jax.local_devices()[0]
        stats = device.memory_stats() or {}
        found = stats.get("peak_bytes_in_use") or _largest() - before
        return facts | {"peak_bytes": found, "device": device.device_kind}

    return calls | {_turns.FACTS: tell}


def _jax_parts(job: dict[str, Any], dtype: str, size: int) -> tuple[Any, Any, Any, Any]:
    """Return the train step, the forward function, the state and the batch."""
    model = models.create(job["network"], num_classes=job["num_classes"])
    images, labels = batch(job, size)
    data = {"images": jnp.asarray(images, dtype), "labels": jnp.asarray(labels)}
    key = jax.random.key(0)
    template = jax.eval_shape(partial(model.init, train=False), key, data["images"])
    kept = weights.read(Path(job["folder"]) / WEIGHTS)
    kept = {n: a.astype(dtype) if a.dtype.kind == "f" else a for n, a in kept.items()}
    variables = jax.tree.map(jnp.asarray, weights.from_torch(kept, template))
    tx = optim.create("sgd", LEARNING_RATE, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
    step = train.make_train_step(model, tx)

    @jax.jit
    def forward(state, images):
        variables = {"params": state.params, "batch_stats": state.batch_stats}
        return model.apply(variables, images, train=False)

    return step, forward, train.state_from(variables, tx), data


def _jax_numbers(job, dtype: str, size: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    step, forward, state, data = _jax_parts(job, dtype, size)
    logits = np.asarray(forward(state, data["images"]))
    state, _ = step(state, data, jax.random.key(1))
    return logits, weights.to_torch({"params": state.params, "batch_stats": state.batch_stats})


def _jax_calls(job: dict[str, Any]) -> tuple[Calls, dict[str, Any]]:
    step, forward, state, data = _jax_parts(job, job["dtype"], job["batch_size"])
    key = jax.random.key(1)
    square = jnp.ones((PEAK_SIZE, PEAK_SIZE), job["dtype"])
    product = jax.jit(jnp.dot)
    kept = [state]
    resting = jax.tree.map(jnp.copy, state)

    def train_call():
        kept[0], metrics = step(kept[0], data, key)
        jax.block_until_ready((kept[0], metrics))

    calls = {
        "forward": lambda: jax.block_until_ready(forward(resting, data["images"])),
        "train": train_call,
        "peak": lambda: jax.block_until_ready(product(square, square)),
    }
    calls = {name: calls[name] for name in (*job["what"], "peak")}
    return calls, {"first_s": {name: _seconds(calls[name]) for name in job["what"]}}


def torch_side(job: dict[str, Any]) -> Calls:
    """Return the twin's forward pass and train step in one of PyTorch's forms."""
    import torch

    name = f"torch {job['form']}"
    _write(job, name, "float64", *_torch_numbers(job, "float64", EXACT_BATCH))
    _write(job, name, job["dtype"], *_torch_numbers(job, job["dtype"], job["batch_size"]))
    before = _begin()
    _, forward, step = _torch_parts(job, job["dtype"], job["batch_size"])
    square = torch.ones(PEAK_SIZE, PEAK_SIZE, dtype=getattr(torch, job["dtype"]))
    square = square.to(job["device_torch"])

    def synchronised(call: Callable[[], Any]) -> None:
        call()
        if square.is_cuda:
            torch.cuda.synchronize()

    calls = {"forward": forward, "train": step, "peak": lambda: square @ square}
    calls = {n: partial(synchronised, calls[n]) for n in (*job["what"], "peak")}
    first = {n: _seconds(calls[n]) for n in job["what"]}

    def tell() -> dict[str, Any]:
        used = torch.cuda.max_memory_allocated() if square.is_cuda else _largest() - before
        return {"first_s": first, "peak_bytes": used, "torch": torch.__version__}

    return calls | {_turns.FACTS: tell}


def _torch_parts(job: dict[str, Any], dtype: str, size: int, *, drop: bool = True) -> tuple:
    """Return the module, its forward function and its train step."""
    import torch

    from parity import reference
    from parity.sides import training_loss

    layout = torch.contiguous_format if job["form"] == "nchw" else torch.channels_last
    module = reference.create(job["network"], job["num_classes"])
    kept = weights.read(Path(job["folder"]) / WEIGHTS)
    module.load_state_dict({name: torch.from_numpy(array) for name, array in kept.items()})
    place = {"dtype": getattr(torch, dtype), "device": job["device_torch"]}
    module = module.to(**place).to(memory_format=layout).train()
    for layer in module.modules():
        if not drop and isinstance(layer, torch.nn.modules.dropout._DropoutNd):
            layer.p = 0.0
    images, labels = batch(job, size)
    x = torch.from_numpy(images.transpose(0, 3, 1, 2).copy()).to(**place)
    x = x.to(memory_format=layout)
    y = torch.from_numpy(labels).long().to(job["device_torch"])
    optimizer = torch.optim.SGD(
        module.parameters(),
        lr=LEARNING_RATE,
        momentum=MOMENTUM,
        weight_decay=WEIGHT_DECAY,
        fused=True,
    )
    function = torch.compile(module) if job["form"] == "compile" else module

    def forward():
        module.eval()
        with torch.no_grad():
            logits = function(x)
        module.train()
        return logits

    def step():
        optimizer.zero_grad()
        training_loss(function(x), y).backward()
        optimizer.step()

    return module, forward, step


def _torch_numbers(job, dtype: str, size: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    plain = job | {"form": "channels_last" if job["form"] == "compile" else job["form"]}
    module, forward, step = _torch_parts(plain, dtype, size, drop=False)
    logits = weights.as_numpy(forward())
    step()
    return logits, {n: weights.as_numpy(v) for n, v in module.state_dict().items()}


@contextmanager
def _undropped() -> Iterator[None]:
    """Trace networks whose dropouts drop nothing."""

    def pass_by(following, args, kwargs, context):
        dropout = isinstance(context.module, Dropout | Dropout2d)
        return args[0] if dropout else following(*args, **kwargs)

    with nn.intercept_methods(pass_by):
        yield


def _write(job, name: str, dtype: str, logits: np.ndarray, state: dict[str, np.ndarray]) -> None:
    path = Path(job["folder"]) / f"{name} {dtype}.npz"
    np.savez(path, **{LOGITS: logits}, **{n: a for n, a in state.items() if a.dtype.kind == "f"})


def _seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _begin() -> int:
    """Start to watch the process's largest memory; return the bytes that it has now."""
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
    except (AttributeError, OSError):
        return _largest()  # what was freed before counts as had
    return _status("VmRSS")


def _largest() -> int:
    """Return the most bytes of memory that the process has had since `_begin`."""
    if Path("/proc/self/status").exists():
        return _status("VmHWM")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return 1024 * int(line.split()[1])
    raise ValueError(f"/proc/self/status has no {name}")
