"""Resizing with the conventions of `torch.nn.functional.interpolate` (PyTorch 2.13) on NHWC images.

Every mode is separable: along one axis an output is a weighted sum of a few inputs, whose positions
and weights depend on sizes alone. NumPy computes them while the program is traced, in PyTorch's
order of operations and precision: float64 for float64 images and float32 for others, so that a
coordinate that falls between two pixels falls to the same side. The nearest pixel is found in
float32 for all images, as PyTorch's gradient and its kernel of small images do (its forward kernel
of larger float64 images, H' + W' > 128, finds it in float64). Where a scale factor leaves a size as
it is (5 x 1.1), PyTorch's gradients of 'bicubic' and of `antialias` are not those of its outputs;
ours are.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxcnn.layers.avg_pool import adaptive_avg_pool2d
from jaxcnn.layers.weighted_sum import Taps, weighted_sum
from jaxcnn.layers.window import Pair, check_images, pair

MODES = ("nearest", "nearest-exact", "bilinear", "bicubic", "area")
_SMOOTH = ("bilinear", "bicubic")
Scale = float | Sequence[float]


def interpolate(
    images: jax.Array,
    size: Pair | None = None,
    scale_factor: Scale | None = None,
    mode: str = "nearest",
    *,
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> jax.Array:
    """Resize images as `torch.nn.functional.interpolate` does.

    Args:
        images: (B, H, W, C), floating; 'nearest' and 'nearest-exact' take any dtype.
        size: H', W' of the result, int or (h, w).
        scale_factor: in place of `size`, a number or (h, w): H' = floor(H scale). Coordinates are
            computed with it as given, not with H' / H.
        mode: 'nearest' (OpenCV's: the pixel floor(i H / H')), 'nearest-exact' (the pixel under the
            centre: floor((i + 1/2) H / H')), 'bilinear', 'bicubic' (Keys, 1981, a = -0.75, as
            OpenCV; a = -0.5 with `antialias`, as Pillow) or 'area' (adaptive average).
        align_corners: for 'bilinear' and 'bicubic': whether the centres of the corner pixels
            stay where they are, rather than the corners of the image; default False.
        recompute_scale_factor: whether coordinates are computed with H' / H after all; 'area'
            does in any case.
        antialias: for 'bilinear' and 'bicubic': whether the filter is widened where the image
            shrinks, so that every pixel counts.

    Returns:
        (B, H', W', C) of the images' dtype.

    Raises:
        ValueError: wrong rank or dtype, an unknown mode, an option the mode has not, both or
            neither of `size` and `scale_factor`, a bad one, or an empty result.
    """
    check_images("interpolate", images.shape)
    _check_options(images.dtype, mode, align_corners, antialias)
    image = (images.shape[1], images.shape[2])
    sizes, scales = _target(image, size, scale_factor, recompute_scale_factor)
    if mode == "area":
        return adaptive_avg_pool2d(images, sizes)
    for axis, length, count, scale in zip((1, 2), image, sizes, scales, strict=True):
        if mode in _SMOOTH:
            images = _smooth(images, axis, count, scale, mode, bool(align_corners), antialias)
        else:
            positions = _nearest(length, count, scale, exact=mode == "nearest-exact")
            images = jnp.take(images, positions, axis=axis, mode="clip")
    return images


class Upsample(nn.Module):
    """`torch.nn.Upsample` on (B, H, W, C) images; see `interpolate`."""

    size: Pair | None = None
    scale_factor: Scale | None = None
    mode: str = "nearest"
    align_corners: bool | None = None
    recompute_scale_factor: bool | None = None

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """Map (B, H, W, C) to (B, H', W', C)."""
        return interpolate(
            images,
            self.size,
            self.scale_factor,
            self.mode,
            align_corners=self.align_corners,
            recompute_scale_factor=self.recompute_scale_factor,
        )


def _check_options(dtype: np.dtype, mode: str, align_corners: bool | None, antialias: bool) -> None:
    if mode not in MODES:
        raise ValueError(f"interpolate: mode must be one of {', '.join(MODES)}, got {mode!r}")
    if mode not in _SMOOTH and align_corners is not None:
        raise ValueError(
            f"interpolate: align_corners goes with {' and '.join(_SMOOTH)}, got "
            f"align_corners={align_corners} with mode {mode!r}"
        )
    if mode not in _SMOOTH and antialias:
        raise ValueError(
            f"interpolate: antialias goes with {' and '.join(_SMOOTH)}, got mode {mode!r}"
        )
    if not mode.startswith("nearest") and not jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(f"interpolate: mode {mode!r} needs floating images, got {dtype}")


def _target(
    image: tuple[int, int], size: Pair | None, scale_factor: Scale | None, recompute: bool | None
) -> tuple[tuple[int, int], tuple[float | None, float | None]]:
    """Return the output's (h, w), and the factors for its coordinates, None for the sizes'."""
    if (size is None) == (scale_factor is None):
        raise ValueError(
            "interpolate: give one of size and scale_factor, "
            f"got size={size} and scale_factor={scale_factor}"
        )
    if scale_factor is None:
        if recompute:
            raise ValueError(
                f"interpolate: recompute_scale_factor needs a scale_factor, got {size=}"
            )
        assert size is not None
        return pair("interpolate: size", size, least=1), (None, None)
    several = isinstance(scale_factor, Sequence)
    factors = tuple(scale_factor) if several else (scale_factor, scale_factor)
    if len(factors) != 2 or not all(
        isinstance(f, int | float) and math.isfinite(f) and f > 0 for f in factors
    ):
        raise ValueError(
            "interpolate: scale_factor must be a number or a pair of numbers > 0, "
            f"got {scale_factor!r}"
        )
    height, width = (int(n * float(f)) for n, f in zip(image, factors, strict=True))
    if height < 1 or width < 1:
        raise ValueError(
            f"interpolate: scale_factor {scale_factor} leaves nothing of images {image}: "
            f"{(height, width)}"
        )
    scales = (None, None) if recompute else (float(factors[0]), float(factors[1]))
    return (height, width), scales


def _step(
    length: int, count: int, scale: float | None, align_corners: bool, real: type[np.floating]
) -> np.floating:
    """Return how many inputs lie between two outputs."""
    if align_corners:
        return real(length - 1) / real(count - 1) if count > 1 else real(0)
    return real(length) / real(count) if scale is None else real(1.0 / scale)


def _nearest(length: int, count: int, scale: float | None, *, exact: bool) -> np.ndarray:
    """Return the position of every output's pixel."""
    step = _step(length, count, scale, False, np.float32)
    if exact:
        # PyTorch adds 0.5 and multiplies in float64, then rounds to float32.
        source = ((np.arange(count) + 0.5) * np.float64(step)).astype(np.float32)
    elif count == length:
        return np.arange(count)
    elif count == 2 * length:
        return np.arange(count) // 2
    else:
        source = np.arange(count, dtype=np.float32) * step
    return np.minimum(np.floor(source).astype(np.int64), length - 1)


def _smooth(
    images: jax.Array,
    axis: int,
    count: int,
    scale: float | None,
    mode: str,
    align_corners: bool,
    antialias: bool,
) -> jax.Array:
    """Resize one axis by weighted sums."""
    length = images.shape[axis]
    # PyTorch copies an axis that keeps its size, whatever the factor; not so the plain bicubic.
    if count == length and (antialias or mode == "bilinear"):
        return images
    real = np.float64 if images.dtype == jnp.float64 else np.float32
    step = _step(length, count, scale, align_corners, real)
    if antialias:
        taps = _wide_taps(mode, length, count, step, real)
    else:
        taps = _taps(mode, length, count, step, align_corners, real)
    return weighted_sum(images, axis, taps)


def _taps(
    mode: str,
    length: int,
    count: int,
    step: np.floating,
    align_corners: bool,
    real: type[np.floating],
) -> Taps:
    """Return the 2 or 4 taps of every output of plain bilinear or bicubic interpolation."""
    outputs = np.arange(count, dtype=real)
    if align_corners:
        source = step * outputs
    else:
        source = step * (outputs + real(0.5)) - real(0.5)
        if mode == "bilinear":
            source = np.maximum(source, real(0))
    # PyTorch rounds down in float32 whatever the dtype.
    low = np.minimum(np.floor(source.astype(np.float32)).astype(np.int64), length - 1)
    share = np.clip(source - low.astype(real), real(0), real(1))
    if mode == "bilinear":
        weights = np.stack([real(1) - share, share], axis=1)
        positions = np.minimum(low[:, None] + np.arange(2), length - 1)
    else:
        distances = np.stack([share + 1, share, 1 - share, 2 - share], axis=1).astype(real)
        weights = _cubic(distances, real(-0.75))
        positions = np.clip(low[:, None] + np.arange(-1, 3), 0, length - 1)
    return Taps(positions, weights, np.full(weights.shape, True))


def _wide_taps(
    mode: str, length: int, count: int, step: np.floating, real: type[np.floating]
) -> Taps:
    """Return the taps of a filter as wide as the image shrinks."""
    width = max(step, real(1))
    support = width if mode == "bilinear" else real(2) * width
    centers = (np.float64(step) * (np.arange(count) + 0.5)).astype(real)
    start = np.maximum(((centers - support).astype(np.float64) + 0.5).astype(np.int64), 0)
    end = np.minimum(((centers + support).astype(np.float64) + 0.5).astype(np.int64), length)
    end = np.minimum(end, start + 2 * math.ceil(support) + 1)
    positions = start[:, None] + np.arange(max(np.max(end - start), 1))
    distances = (positions.astype(real) - centers[:, None]).astype(np.float64) + 0.5
    distances = np.abs(distances * np.float64(real(1.0 / width))).astype(real)
    if mode == "bilinear":
        weights = np.maximum(real(1) - distances, real(0))
    else:
        weights = _cubic(distances, real(-0.5))
    inside = positions < end[:, None]
    weights = np.where(inside, weights, real(0))
    total = weights.sum(axis=1, keepdims=True)
    return Taps(positions, weights / np.where(total == 0, 1, total), inside)


def _cubic(distances: np.ndarray, a: np.floating) -> np.ndarray:
    """Return Keys' cubic convolution kernel at distances >= 0, 0 from 2 on."""
    near = ((a + 2) * distances - (a + 3)) * distances * distances + 1
    far = ((a * distances - 5 * a) * distances + 8 * a) * distances - 4 * a
    return np.where(distances <= 1, near, np.where(distances < 2, far, 0)).astype(distances.dtype)
