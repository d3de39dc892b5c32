"""A network as a table: a row for every block or layer, what it puts out and what it costs.

The documented networks print the shape after every block where `verbose` is set; this is that
table, for any network and input size, with the documented figures:

- output size (W - D (K - 1) - 1 + 2 P) / S + 1, rounded down (up where a pool has `ceil_mode`);
- parameters (Cin K K / groups + 1) Cout of a convolution, (in + 1) out of a Linear;
- MACs Cin K K / groups Hout Wout Cout of a convolution, in out of a Linear: the multiply-adds of
  one image times the batch, the bias, norms, pools and activations not among them. What torchvision
  publishes as a model's GFLOPS (10^9) is this number;
- FLOPs, twice the MACs: a multiplication and an addition each;
- receptive field, see `jaxcnn.layers.receptive`;
- memory of the activations: every layer's output, as a training step without recomputation may
  have to keep it, in bytes of its dtype.

The network is traced with shapes alone, so that the largest takes seconds and no memory.
"""

import inspect
import math
import re
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxcnn.layers import ConvTranspose2d, forms
from jaxcnn.layers.receptive import Field, Window, fields, window
from jaxcnn.layers.tracing import Call, record_calls


class Row(NamedTuple):
    """One layer, or the layers whose names begin alike.

    Attributes:
        name: PyTorch's name of the module, or what the names of the row's modules begin with; a
            layer called again is `relu[1]`, `relu[2]`, ...; '' for a network that is one layer.
        kind: class names of the outermost modules in the row, in order of execution, each class
            once with the number of its modules: 'Conv2d x2, MaxPool2d'.
        output_shape: (B, H, W, C) or (B, K) of the last output (of several outputs the first); None
            where the mode does not run the row, such as auxiliary heads in evaluation.
        window: of a row that is one convolution or pool; None for any other.
        parameters: learned values in the row, batch statistics not among them; 0 for a repeated
            call.
        macs: multiply-adds of the row's convolutions and Linears, of the whole batch.
        receptive_field: (h, w) in pixels of the image that an output depends on, the image's edge
            ignored; None where `output_shape` is.
        activation_bytes: of the outputs of the row's layers.
    """

    name: str
    kind: str
    output_shape: tuple[int, ...] | None
    window: Window | None
    parameters: int
    macs: int
    receptive_field: tuple[float, float] | None
    activation_bytes: int

    @property
    def flops(self) -> int:
        """Twice the MACs."""
        return 2 * self.macs


def rows(
    model: Any,
    input_shape: tuple[int, int, int],
    *,
    batch_size: int = 1,
    depth: int | None = None,
    train: bool = False,
) -> list[Row]:
    """Tabulate a network, in order of execution.

    Args:
        model: a network or block whose `__call__` takes images and, maybe, `train`.
        input_shape: (H, W, C) of one image; float32.
        batch_size: images a batch.
        depth: a row for all layers whose dotted names share so many first components: 1 makes
            `block3` one row, 2 `block3.0`; None gives every layer its row, and a layer is a module
            that calls no other or has parameters of its own.
        train: the mode. Initialised is the network always in evaluation mode, as in training.

    Returns:
        The rows; their parameters add up to the network's. What the mode does not run comes last.

    Raises:
        ValueError: a size or a depth below 1, or an input that does not fit the network, with the
            name of the layer that it does not fit.
    """
    if len(input_shape) != 3 or min(input_shape) < 1:
        raise ValueError(f"input_shape must be (H, W, C), each at least 1, got {input_shape}")
    for name, value in {"batch_size": batch_size, "depth": depth}.items():
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    traced = _trace(model, (batch_size, *input_shape), train)
    callers = {call.path[:i] for call, _ in traced.calls for i in range(len(call.path))}
    grouped: dict[str, list[_Traced]] = {}
    times = Counter()
    for call, field in traced.calls:
        components = call.name.split(".") if call.path else []
        layer = call.path not in callers or call.path in traced.parameters
        if not layer and (depth is None or len(components) < depth):
            continue
        name = ".".join(components[:depth])
        if depth is None and times[call.path]:
            name = f"{name}[{times[call.path]}]"
        times[call.path] += 1
        grouped.setdefault(name, []).append(_Traced(call, field, layer))
    return [_row(name, group, traced) for name, group in grouped.items()]


def xla_flops(
    model: Any, input_shape: tuple[int, int, int], *, batch_size: int = 1, train: bool = False
) -> float:
    """Return the floating-point operations that XLA's own analysis counts in a forward pass.

    `jax.stages.Lowered.cost_analysis`, before any optimisation. It counts every operation, those of
    norms, activations and pools too, and of a convolution only the taps inside the image, where the
    documented formula counts those in the padding as well.

    Args:
        model: as in `rows`.
        input_shape: as in `rows`.
        batch_size: as in `rows`.
        train: as in `rows`.

    Raises:
        ValueError: the platform's XLA has no cost analysis.
    """
    images = jax.ShapeDtypeStruct((batch_size, *input_shape), jnp.float32)
    init, apply = _functions(model, train)
    key = jax.random.key(0)
    with forms.prefer("xla"):  # what is not XLA's it cannot count
        lowered = jax.jit(apply).lower(images, jax.eval_shape(init, key, images), key)
    analysis = lowered.cost_analysis()
    if analysis is None:
        raise ValueError(f"XLA has no cost analysis on the platform {jax.default_backend()!r}")
    return analysis["flops"]


def parse_input(text: str) -> tuple[int, int, int]:
    """Read an image's size in PyTorch's order, '3x224x224' for C x H x W; return (H, W, C).

    Raises:
        ValueError: another form, or a size of 0.
    """
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)x([1-9]\d*)", text)
    if match is None:
        raise ValueError(f"an input is given as CxHxW, such as 3x224x224, got {text!r}")
    channels, height, width = map(int, match.groups())
    return height, width, channels


class _Traced(NamedTuple):
    """A call, the field of its output, and whether it is a layer."""

    call: Call
    field: Field | None
    layer: bool


class _Network(NamedTuple):
    """What tracing found: calls with fields; module path -> parameters, and shape of `kernel`."""

    calls: list[tuple[Call, Field | None]]
    parameters: dict[tuple[str, ...], int]
    kernels: dict[tuple[str, ...], tuple[int, ...]]


def _functions(model: Any, train: bool) -> tuple[Callable, Callable]:
    """Return `init(key, images)` and `apply(images, variables, key)` of a network or block."""
    takes_train = "train" in inspect.signature(type(model).__call__).parameters
    init = partial(model.init, **({"train": False} if takes_train else {}))
    mode = {"train": train} if takes_train else {}

    def apply(images, variables, key):
        rngs = {"dropout": key}
        return model.apply(variables, images, mutable=["batch_stats"], rngs=rngs, **mode)

    return init, apply


def _trace(model: Any, shape: tuple[int, ...], train: bool) -> _Network:
    images, key = jax.ShapeDtypeStruct(shape, jnp.float32), jax.random.key(0)
    init, apply = _functions(model, train)
    with record_calls() as initial:
        variables = jax.eval_shape(init, key, images)
    with record_calls(mark=True) as calls:
        jaxpr = jax.make_jaxpr(apply)(images, variables, key)
    found = list(zip(calls, fields(jaxpr, 0, calls), strict=True))

    called = {call.path for call in calls}
    found += [(call._replace(output=None), None) for call in initial if call.path not in called]
    called |= {call.path for call in initial}
    parameters, kernels = Counter(), {}
    for place, leaf in jax.tree.leaves_with_path(variables.get("params", {})):
        path = tuple(entry.key for entry in place[:-1])
        if place[-1].key == "kernel":
            kernels[path] = leaf.shape
        while path not in called:  # a module used by another method is part of its caller
            path = path[:-1]
        parameters[path] += math.prod(leaf.shape)
    return _Network(found, dict(parameters), kernels)


def _row(name: str, group: list[_Traced], network: _Network) -> Row:
    """Put calls into one row; their parameters are taken out, so that no other row counts them."""
    modules = {call.path: type(call.module).__name__ for call, _, _ in group}
    outermost = Counter(
        kind
        for path, kind in modules.items()
        if not any(path[:i] in modules for i in range(len(path)))
    )
    ran = [traced for traced in group if traced.call.output is not None]
    return Row(
        name=name,
        kind=", ".join(f"{kind} x{n}" if n > 1 else kind for kind, n in outermost.items()),
        output_shape=_outputs(ran[-1].call)[0].shape if ran else None,
        window=window(group[0].call.module) if len(group) == 1 else None,
        parameters=sum(network.parameters.pop(path, 0) for path in modules),
        macs=sum(_macs(call, network.kernels.get(call.path)) for call, _, _ in ran),
        receptive_field=ran[-1].field.size if ran and ran[-1].field else None,
        activation_bytes=sum(
            math.prod(output.shape) * output.dtype.itemsize
            for call, _, layer in ran
            if layer
            for output in _outputs(call)
        ),
    )


def _macs(call: Call, kernel: tuple[int, ...] | None) -> int:
    """Return the multiply-adds of a call: every weight of a kernel meets every position once.

    Positions are those of the output, or of the input that a transposed convolution spreads.
    """
    if kernel is None:
        return 0
    transposed = isinstance(call.module, ConvTranspose2d)
    positions = call.inputs[0] if transposed else _outputs(call)[0]
    return math.prod(kernel) * math.prod(positions.shape[:-1])


def _outputs(call: Call) -> list[jax.ShapeDtypeStruct]:
    return jax.tree.leaves(call.output)
