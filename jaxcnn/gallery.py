"""The documented demonstrations on a photograph: kernels, pools, filters, feature maps.

Each returns panels, which `draw` puts into one picture. Convolutions and pools are those of
`jaxcnn.layers`.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn import canvas, summary
from jaxcnn.layers import avg_pool2d, conv2d, max_pool2d

EDGE_KERNEL = ((-1, -1, -1), (-1, 8, -1), (-1, -1, -1))
"""The documented edge detector: zero on a plain surface."""

# ITU-R 601, as Pillow's and OpenCV's conversion to gray.
_LUMA = (0.299, 0.587, 0.114)


class Panel(NamedTuple):
    """One image of a picture.

    Attributes:
        image: (H, W) drawn gray from its smallest to its largest value, or (H, W, 3) in [0, 1].
        caption: below it.
        signed: whether the colours shall tell negative from positive values.
    """

    image: np.ndarray
    caption: str
    signed: bool = False


def edges(photo: np.ndarray) -> list[Panel]:
    """Convolve a photograph with the edge kernel: its luma, and every colour by itself.

    Args:
        photo: (H, W, 3) uint8.
    """
    pixels = _pixels(photo)
    gray = pixels @ jnp.asarray(_LUMA)
    kernel = jnp.asarray(EDGE_KERNEL, jnp.float32)[:, :, None, None]
    found = conv2d(gray[None, :, :, None], kernel)[0, :, :, 0]
    # Every colour is a group of its own.
    colours = conv2d(pixels[None], jnp.tile(kernel, (1, 1, 1, 3)), groups=3)[0]
    return [
        Panel(np.asarray(pixels), _size("photograph", photo)),
        Panel(np.asarray(gray), "gray"),
        Panel(_clip(jnp.abs(found)), _size("edges of the gray image", found)),
        Panel(_clip(jnp.abs(colours)), "edges of each colour"),
    ]


def random_kernels(photo: np.ndarray, key: jax.Array, count: int = 6) -> list[Panel]:
    """Convolve a photograph's luma with kernels of 3x3 random numbers, beside each kernel.

    Args:
        photo: (H, W, 3) uint8.
        key: of the random numbers, drawn from N(0, 1).
        count: kernels.
    """
    gray = (_pixels(photo) @ jnp.asarray(_LUMA))[None, :, :, None]
    kernels = jax.random.normal(key, (3, 3, 1, count))
    responses = conv2d(gray, kernels)[0]
    panels = []
    for i in range(count):
        panels.append(Panel(np.asarray(kernels[:, :, 0, i]), f"kernel {i}", signed=True))
        panels.append(Panel(np.asarray(responses[:, :, i]), f"response {i}"))
    return panels


def rectangular_kernel(photo: np.ndarray, key: jax.Array) -> list[Panel]:
    """Convolve a photograph's luma with one (4, 3) kernel, at stride 1 and at stride (4, 3).

    Args:
        photo: (H, W, 3) uint8.
        key: of the kernel's numbers, drawn from N(0, 1).
    """
    gray = (_pixels(photo) @ jnp.asarray(_LUMA))[None, :, :, None]
    kernel = jax.random.normal(key, (4, 3, 1, 1))
    panels = [
        Panel(np.asarray(gray[0, :, :, 0]), _size("gray", gray[0])),
        Panel(np.asarray(kernel[:, :, 0, 0]), "(4, 3) kernel", signed=True),
    ]
    for stride in ((1, 1), (4, 3)):
        found = conv2d(gray, kernel, stride=stride)[0, :, :, 0]
        panels.append(Panel(np.asarray(found), _size(f"stride {stride}", found)))
    return panels


def pooling(photo: np.ndarray, sizes: Sequence[int] = (2, 4, 8, 16)) -> list[Panel]:
    """Pool a photograph by maxima and by means: the photograph, then a row of each.

    Args:
        photo: (H, W, 3) uint8, at least as large as the largest window.
        sizes: of the square windows, which are the strides too.
    """
    pixels = _pixels(photo)[None]
    panels = []
    for name, pool in {"maximum": max_pool2d, "mean": avg_pool2d}.items():
        panels.append(Panel(np.asarray(pixels[0]), _size("photograph", photo)))
        for size in sizes:
            pooled = pool(pixels, size)[0]
            panels.append(Panel(_clip(pooled), _size(f"{name} of {size}x{size}", pooled)))
    return panels


def filters(variables: Mapping[str, Any], limit: int = 64) -> tuple[str, list[Panel]]:
    """Return the name of a network's first convolution and its filters as panels.

    Filters on three channels are drawn as colours, each scaled to its own range; of others the
    first channel is drawn.

    Args:
        variables: of the network, as `weights.load` returns them.
        limit: filters at most.

    Raises:
        ValueError: a network without convolutions.
    """
    found = [
        (".".join(entry.key for entry in path[:-1]), np.asarray(leaf, np.float32))
        for path, leaf in jax.tree.leaves_with_path(variables["params"])
        if leaf.ndim == 4
    ]
    if not found:
        raise ValueError("the network has no convolution, so no filters to draw")
    # The one that sees the image has the fewest input channels.
    name, kernel = min(found, key=lambda item: item[1].shape[2])
    panels = []
    for i, values in enumerate(np.moveaxis(kernel, -1, 0)[:limit]):
        if values.shape[2] == 3:
            span = float(np.ptp(values)) or 1.0
            panels.append(Panel((values - values.min()) / span, f"{i}"))
        else:
            panels.append(Panel(values[:, :, 0], f"{i}", signed=True))
    return name, panels


def feature_maps(
    model: Any, variables: Mapping[str, Any], images: jax.Array, *, layers: int = 5, maps: int = 6
) -> list[Panel]:
    """Return the feature maps of some layers for one image, early layers first.

    The layers are evenly spread over those that put out maps larger than one pixel; of each the
    channels of the largest deviation are shown.

    Args:
        model: the network.
        variables: its variables.
        images: (1, H, W, C), preprocessed for the network.
        layers: how many layers.
        maps: channels of each.

    Raises:
        ValueError: a network without feature maps.
    """
    _, found = model.apply(
        variables, images, train=False, capture_intermediates=True, mutable=["intermediates"]
    )
    outputs = {
        ".".join(entry.key for entry in path[:-2]): leaf
        for path, leaf in jax.tree.leaves_with_path(found["intermediates"])
        if path[-2].key == "__call__" and leaf.ndim == 4 and leaf.shape[1] > 1
    }
    height, width, channels = images.shape[1:]
    order = [row.name for row in summary.rows(model, (height, width, channels))]
    names = [name for name in order if name in outputs]
    if not names:
        raise ValueError("the network has no feature maps to draw")
    chosen = np.unique(np.linspace(0, len(names) - 1, layers).round().astype(int))
    panels = []
    for name in (names[i] for i in chosen):
        values = np.asarray(outputs[name][0], np.float32)  # (H, W, C)
        strongest = np.argsort(-values.std(axis=(0, 1)), kind="stable")[:maps]
        panels += [Panel(values[:, :, k], f"channel {k}") for k in strongest]
        caption = f"{_size(canvas.shorten(name, 22), values)}, {panels[-len(strongest)].caption}"
        panels[-len(strongest)] = panels[-len(strongest)]._replace(caption=caption)
        # Every layer begins a row of its own.
        panels += [Panel(np.zeros((0, 0)), "")] * (maps - len(strongest))
    return panels


def draw(
    panels: Sequence[Panel],
    path: str | os.PathLike,
    *,
    columns: int,
    title: str | None = None,
    inches: float = 2.4,
) -> None:
    """Draw panels in rows, as one PNG.

    Args:
        panels: the images; one of no pixels leaves its place empty.
        path: the PNG.
        columns: panels in a row.
        title: above the picture.
        inches: width of a panel.

    Raises:
        ModuleNotFoundError: Matplotlib is not installed.
        ValueError: no panels, or fewer than one column.
    """
    if not panels or columns < 1:
        raise ValueError(f"draw: expected panels and columns >= 1, got {len(panels)} and {columns}")
    rows = -(-len(panels) // columns)
    shapes = [panel.image.shape for panel in panels if panel.image.size]
    tallest = max(shape[0] / shape[1] for shape in shapes)
    figure = canvas.make_figure(inches * columns, (inches * tallest + 0.3) * rows + 0.4, title)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, panel in zip(grid.flat, panels, strict=False):
        if not panel.image.size:
            continue
        options: dict[str, Any] = {"cmap": "gray"}
        if panel.signed:
            largest = float(np.abs(panel.image).max()) or 1.0
            options = {"cmap": "RdBu", "vmin": -largest, "vmax": largest}
        axes.imshow(panel.image, interpolation="nearest", **options)
        axes.set_title(panel.caption, fontsize=8, pad=3, parse_math=False)
    canvas.save(figure, path)


def _pixels(photo: np.ndarray) -> jax.Array:
    """Return (H, W, 3) float32 in [0, 1].

    Raises:
        ValueError: another shape or dtype.
    """
    if photo.ndim != 3 or photo.shape[2] != 3 or photo.dtype != np.uint8:
        got = f"{photo.shape} {photo.dtype}"
        raise ValueError(f"a photograph must be (H, W, 3) uint8, got {got}")
    return jnp.asarray(photo, jnp.float32) / 255


def _clip(image: jax.Array) -> np.ndarray:
    return np.asarray(jnp.clip(image, 0, 1))


def _size(name: str, image: Any) -> str:
    return f"{name}, {image.shape[0]}x{image.shape[1]}"
