"""The arithmetic of windows that slide over an image: pairs, padding, output size."""

from collections.abc import Sequence

Pair = int | Sequence[int]


def pair(name: str, value: Pair, *, least: int) -> tuple[int, int]:
    """Return an (h, w) pair from an int or a pair of ints, as every `torch.nn` layer takes it.

    Raises:
        ValueError: if the value is neither, or below `least`; names the argument and the value.
    """
    values = (value, value) if isinstance(value, int) else tuple(value)
    if len(values) != 2 or not all(isinstance(v, int) and v >= least for v in values):
        raise ValueError(f"{name} must be an int or a pair of ints >= {least}, got {value!r}")
    return values


def output_size(
    layer: str,
    size: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: Sequence[tuple[int, int]] = ((0, 0), (0, 0)),
    dilation: tuple[int, int] = (1, 1),
    ceil_mode: bool = False,
) -> tuple[int, int]:
    """Return floor((size + padding - dilation (kernel - 1) - 1) / stride) + 1 for (h, w).

    With `ceil_mode` the quotient is rounded up, but a last window that would start behind the image
    and its leading padding is left out, as PyTorch's pools do.

    Raises:
        ValueError: if the dilated kernel is larger than the padded input; names the layer.
    """
    padded = tuple(n + sum(p) for n, p in zip(size, padding, strict=True))
    reach = tuple(d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True))
    # Rounding up accepts a window that the image fills but for less than a step.
    spare = (stride[0] - 1, stride[1] - 1) if ceil_mode else (0, 0)
    if padded[0] + spare[0] < reach[0] or padded[1] + spare[1] < reach[1]:
        raise ValueError(
            f"{layer}: kernel {reach} (dilation included) is larger than the padded input {padded}"
        )
    if not ceil_mode:
        return (padded[0] - reach[0]) // stride[0] + 1, (padded[1] - reach[1]) // stride[1] + 1
    rounded = [-(-(n - r) // s) + 1 for n, r, s in zip(padded, reach, stride, strict=True)]
    behind = [
        (count - 1) * step >= n + before
        for count, step, n, (before, _) in zip(rounded, stride, size, padding, strict=True)
    ]
    return rounded[0] - behind[0], rounded[1] - behind[1]


def check_images(layer: str, shape: tuple[int, ...]) -> None:
    """Raise ValueError unless the shape is (B, H, W, C)."""
    if len(shape) != 4:
        raise ValueError(f"{layer}: images must be (B, H, W, C), got shape {shape}")
