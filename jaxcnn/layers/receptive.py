"""Receptive fields: how much of the image an output of each layer can depend on.

Araujo, Norris and Sim, 2019, Computing Receptive Fields of Convolutional Neural Networks,
doi:10.23915/distill.00021: a window of k pixels (dilation included) and stride s makes of a field
of r pixels and neighbours j pixels apart r + (k - 1) j and s j; a transposed convolution
r + (ceil(k / s) - 1) j and j / s. Where branches meet, the largest counts; the mean over an image,
or a flatten, sees what all its pixels together see; a batch norm counts as if it saw one pixel.

The network is traced, not run. Between layers anything may be computed; pixels that other functions
than layers move (a slice, a resize) are taken to stay where they are.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from jaxcnn.layers import (
    AdaptiveAvgPool2d,
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    ConvTranspose2d,
    MaxPool2d,
)
from jaxcnn.layers.keras import Conv2D, MaxPooling2D
from jaxcnn.layers.tracing import Call, enter, leave
from jaxcnn.layers.window import pair

_Sizes = tuple[int, int]


class Window(NamedTuple):
    """The window that a layer slides over its image, each (h, w)."""

    kernel: _Sizes
    stride: _Sizes
    dilation: _Sizes


class Field(NamedTuple):
    """What one pixel of a feature map depends on.

    Attributes:
        size: (h, w) of its receptive field in pixels of the image, the image's edge ignored.
        jump: (h, w), how far apart in the image the fields of two neighbours are.
        extent: (h, w) of the feature map.
    """

    size: tuple[float, float]
    jump: tuple[float, float]
    extent: _Sizes


def window(module: Any) -> Window | None:
    """Return the window of a convolution or a pool; None for any other layer."""
    if isinstance(module, Conv2D):
        kernel, stride = module.kernel_size, module.strides
    elif isinstance(module, MaxPooling2D):
        kernel, stride = module.pool_size, module.strides
    elif isinstance(module, Conv2d | ConvTranspose2d | MaxPool2d | AvgPool2d):
        kernel, stride = module.kernel_size, module.stride
    else:
        return None
    sizes = (kernel, kernel if stride is None else stride, getattr(module, "dilation", 1))
    return Window(*(pair("window", size, least=1) for size in sizes))


def fields(jaxpr: ClosedJaxpr, images: int, calls: Sequence[Call]) -> list[Field | None]:
    """Return the receptive field of every call's (first) output.

    Args:
        jaxpr: of the network, made under `record_calls(mark=True)`.
        images: which of the jaxpr's inputs is the images, (B, H, W, C).
        calls: that were recorded.

    Returns:
        A field for every call; None for what does not depend on the images.
    """
    found: dict[int, Field] = {}
    inputs: list[Field | None] = [None] * len(jaxpr.in_avals)
    extent = jaxpr.in_avals[images].shape[1:3]
    inputs[images] = Field((1, 1), (1, 1), extent)
    _follow(jaxpr.jaxpr, inputs, calls, {}, found)
    return [found.get(i) for i in range(len(calls))]


def _follow(
    jaxpr: Jaxpr,
    inputs: Sequence[Field | None],
    calls: Sequence[Call],
    entered: dict[int, Field],
    found: dict[int, Field],
) -> list[Field | None]:
    """Carry the fields of a jaxpr's inputs to its outputs; note those of calls in `found`."""
    known: dict[Any, Field | None] = dict(zip(jaxpr.invars, inputs, strict=True))

    def field(variable) -> Field | None:
        return None if isinstance(variable, Literal) else known.get(variable)

    for equation in jaxpr.eqns:
        arguments = [field(variable) for variable in equation.invars]
        inner = equation.params.get("jaxpr", equation.params.get("call_jaxpr"))
        union = _union(arguments)
        if union is None:
            continue
        if isinstance(inner, ClosedJaxpr | Jaxpr):
            body = inner.jaxpr if isinstance(inner, ClosedJaxpr) else inner
            if len(body.invars) == len(arguments):
                outputs = _follow(body, arguments, calls, entered, found)
                known.update(zip(equation.outvars, outputs, strict=True))
                continue
        if equation.primitive is enter:
            entered.setdefault(equation.params["number"], union)
        elif equation.primitive is leave:
            number, call = equation.params["number"], equation.params["call"]
            union = _through(calls[call], entered.get(number), union)
            found.setdefault(call, union)
        for variable in equation.outvars:
            known[variable] = _reshaped(union, getattr(variable.aval, "shape", ()))
    return [field(variable) for variable in jaxpr.outvars]


def _union(arguments: Sequence[Field | None]) -> Field | None:
    """Join what an equation reads: the largest field, the farthest neighbours, the larger map."""
    present = [field for field in arguments if field is not None]
    if not present:
        return None
    largest = [
        tuple(max(sizes) for sizes in zip(*values, strict=True))
        for values in zip(*present, strict=True)
    ]
    return Field(*largest)


def _reshaped(field: Field, shape: tuple[int, ...]) -> Field:
    """Return the field of a value that has no pixels of its own any more: it sees all of them."""
    if len(shape) == 4 or field.extent == (1, 1):
        return field
    return _widened(field, field.extent, (1, 1))


def _widened(field: Field, kernel: Sequence[int], extent: _Sizes) -> Field:
    sides = zip(field.size, kernel, field.jump, strict=True)
    height, width = (size + (k - 1) * jump for size, k, jump in sides)
    return Field((height, width), field.jump, extent)


def _through(call: Call, before: Field | None, after: Field) -> Field:
    """Return the field behind a layer: by its window if it has one, else what its inside gave."""
    shape = jax.tree.leaves(call.output)[0].shape
    extent = tuple(shape[1:3]) if len(shape) == 4 else (1, 1)
    slid = window(call.module)
    if before is not None and isinstance(call.module, BatchNorm2d):
        return before  # in training it sees the whole batch, which is not counted
    if before is None or (slid is None and not isinstance(call.module, AdaptiveAvgPool2d)):
        return after._replace(extent=extent)
    if slid is None:
        # Output i averages the pixels from floor(i n / m) to ceil((i + 1) n / m).
        spans = [
            max(-(-(i + 1) * n // m) - i * n // m for i in range(m))
            for n, m in zip(before.extent, extent, strict=True)
        ]
        steps = [n / m for n, m in zip(before.extent, extent, strict=True)]
    else:
        spans = [d * (k - 1) + 1 for k, d in zip(slid.kernel, slid.dilation, strict=True)]
        steps = slid.stride
        if isinstance(call.module, ConvTranspose2d):
            # The window spans outputs: an output sees every stride-th of its taps.
            spans = [-(-span // step) for span, step in zip(spans, steps, strict=True)]
            steps = [1 / step for step in steps]
    jump = tuple(j * s for j, s in zip(before.jump, steps, strict=True))
    return _widened(before, spans, extent)._replace(jump=jump)
