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
) -> tuple[int, int]:
    """Return floor((size + padding - dilation (kernel - 1) - 1) / stride) + 1 for (h, w).

    Raises:
        ValueError: if the dilated kernel is larger than the padded input; names the layer.
    """
    padded = tuple(n + sum(p) for n, p in zip(size, padding, strict=True))
    reach = tuple(d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True))
    if padded[0] < reach[0] or padded[1] < reach[1]:
        raise ValueError(
            f"{layer}: kernel {reach} (dilation included) is larger than the padded input {padded}"
        )
    return (padded[0] - reach[0]) // stride[0] + 1, (padded[1] - reach[1]) // stride[1] + 1


def check_images(layer: str, shape: tuple[int, ...]) -> None:
    """Raise ValueError unless the shape is (B, H, W, C)."""
    if len(shape) != 4:
        raise ValueError(f"{layer}: images must be (B, H, W, C), got shape {shape}")
