"""A network as a table: a row for every block or layer, its output's shape and its parameters.

The documented networks print the shape after every block where `verbose` is set; this is that
table, for any network and input size. The network is traced with shapes alone
(`jax.eval_shape`), so that the largest takes a second and no memory.
"""

import inspect
import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

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
        parameters: learned values in the row, batch statistics not among them; 0 for a repeated
            call.
    """

    name: str
    kind: str
    output_shape: tuple[int, ...] | None
    parameters: int


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
    calls, parameters = _trace(model, (batch_size, *input_shape), train)
    callers = {call.path[:i] for call in calls for i in range(len(call.path))}
    grouped: dict[str, list[Call]] = {}
    times = Counter()
    for call in calls:
        components = call.name.split(".") if call.path else []
        layer = call.path not in callers or call.path in parameters
        if not layer and (depth is None or len(components) < depth):
            continue
        name = ".".join(components[:depth])
        if depth is None and times[call.path]:
            name = f"{name}[{times[call.path]}]"
        times[call.path] += 1
        grouped.setdefault(name, []).append(call)
    return [_row(name, group, parameters) for name, group in grouped.items()]


def as_text(table: Sequence[Row]) -> str:
    """Format rows as an aligned table, the total of the parameters below it."""
    cells = [[form(row) for _, form in _COLUMNS] for row in table]
    total = ["total", *[""] * (len(_COLUMNS) - 2), f"{sum(row.parameters for row in table):,}"]
    headings = [heading for heading, _ in _COLUMNS]
    widths = [max(map(len, column)) for column in zip(headings, *cells, total, strict=True)]
    rule = ["-" * width for width in widths]

    def line(row: list[str]) -> str:
        left = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        return "  ".join([*left[:-1], row[-1].rjust(widths[-1])])

    return "\n".join(map(line, [headings, rule, *cells, rule, total]))


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


# What the table shows: heading, row -> text. The last column is set to the right.
_COLUMNS: list[tuple[str, Callable[[Row], str]]] = [
    ("name", lambda row: row.name),
    ("kind", lambda row: row.kind),
    ("output", lambda row: "-" if row.output_shape is None else _times(row.output_shape)),
    ("parameters", lambda row: f"{row.parameters:,}"),
]


def _times(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _trace(
    model: Any, shape: tuple[int, ...], train: bool
) -> tuple[list[Call], dict[tuple[str, ...], int]]:
    """Return the calls of a network, and module path -> number of its parameters."""
    takes_train = "train" in inspect.signature(type(model).__call__).parameters
    images, key = jax.ShapeDtypeStruct(shape, jnp.float32), jax.random.key(0)
    with record_calls() as initial:
        init = partial(model.init, **({"train": False} if takes_train else {}))
        variables = jax.eval_shape(init, key, images)
    with record_calls() as calls:
        mode = {"train": train} if takes_train else {}
        apply = partial(model.apply, mutable=["batch_stats"], **mode)
        jax.eval_shape(lambda v, x, k: apply(v, x, rngs={"dropout": k}), variables, images, key)

    called = {call.path for call in calls}
    calls += [call._replace(output=None) for call in initial if call.path not in called]
    called |= {call.path for call in initial}
    parameters = Counter()
    for place, leaf in jax.tree.leaves_with_path(variables.get("params", {})):
        path = tuple(entry.key for entry in place[:-1])
        while path not in called:  # a module used by another method is part of its caller
            path = path[:-1]
        parameters[path] += math.prod(leaf.shape)
    return calls, dict(parameters)


def _row(name: str, group: list[Call], parameters: dict[tuple[str, ...], int]) -> Row:
    """Put calls into one row; the parameters are taken out, so that no other row counts them."""
    modules = {call.path: type(call.module).__name__ for call in group}
    outermost = Counter(
        kind
        for path, kind in modules.items()
        if not any(path[:i] in modules for i in range(len(path)))
    )
    outputs = [jax.tree.leaves(call.output)[0] for call in group if call.output is not None]
    return Row(
        name=name,
        kind=", ".join(f"{kind} x{n}" if n > 1 else kind for kind, n in outermost.items()),
        output_shape=outputs[-1].shape if outputs else None,
        parameters=sum(parameters.pop(path, 0) for path in modules),
    )
