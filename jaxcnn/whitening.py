"""A first convolution that whitens patches of the training images.

tysam-code, 2023, hlb-CIFAR10, as Keller Jordan describes it, 2024, arXiv:2404.00498, section 3.2;
after Coates and Ng, 2012, "Learning Feature Representations with K-Means". Its filters are the
eigenvectors of the patches' covariance, each divided by the root of its eigenvalue, and their
negatives: what the filters answer has the covariance 1, and no two of the first half are
correlated.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn.data import Arrays, Files, eval_batches
from jaxcnn.data.dataset import take
from jaxcnn.data.readers import Workers
from jaxcnn.parameters import by_path, map_by_path

IMAGES = 5000
"""How many images `sample` takes."""


def whitening_kernel(images: np.ndarray, size: tuple[int, int], eps: float = 5e-4) -> np.ndarray:
    """Return the filters that whiten patches of images, and their negatives.

    Args:
        images: (N, H, W, C), floating, as the network sees them.
        size: (kh, kw) of the patches; all of an image are taken, one pixel apart.
        eps: added to the eigenvalues, so that directions without variance are not blown up.

    Returns:
        (kh, kw, C, 2 * kh * kw * C) float64: filters by descending eigenvalue, then the negative
        of each in that order. The covariance is about 0, not about the mean, as documented; the
        sign of a filter is such that its largest value is positive.

    Raises:
        ValueError: another rank or dtype, no images, images smaller than a patch, an eps below 0.
    """
    images = np.asarray(images)
    height, width = size
    if images.ndim != 4 or not np.issubdtype(images.dtype, np.floating):
        raise ValueError(
            f"whitening_kernel: images must be (N, H, W, C), floating, got {images.shape} "
            f"{images.dtype}"
        )
    if min(size) < 1 or 0 in images.shape or images.shape[1] < height or images.shape[2] < width:
        raise ValueError(
            f"whitening_kernel: no patches of {height}x{width} in images {images.shape}"
        )
    if not eps >= 0:
        raise ValueError(f"whitening_kernel: eps must be at least 0, got {eps}")
    covariance = sum(_products(images[i : i + 500], size) for i in range(0, len(images), 500))
    patches = len(images) * (images.shape[1] - height + 1) * (images.shape[2] - width + 1)
    eigenvalues, eigenvectors = np.linalg.eigh(covariance / patches)
    filters = (eigenvectors / np.sqrt(np.maximum(eigenvalues, 0) + eps))[:, ::-1]
    largest = np.take_along_axis(filters, np.abs(filters).argmax(0)[None], 0)
    filters = filters * np.sign(largest)
    return np.concatenate((filters, -filters), 1).reshape(height, width, images.shape[3], -1)


def _products(images: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return the sum over all patches of the products of any two of their values."""
    patches = np.lib.stride_tricks.sliding_window_view(images, size, (1, 2))
    rows = np.moveaxis(patches, 3, 5).reshape(-1, size[0] * size[1] * images.shape[3])
    rows = rows.astype(np.float64)
    return rows.T @ rows


def first_kernel(
    params: Any,
    layer: str,
    split: Arrays | Files,
    preprocess: Callable[[jax.Array], jax.Array],
    *,
    workers: Workers = None,
) -> np.ndarray:
    """Return the kernel of a network's convolution that whitens a split's images.

    Args:
        params: of the network, or their shapes.
        layer: the convolution's path, its kernel (kh, kw, C, 2 * kh * kw * C).
        split: training images, of which `sample` takes some.
        preprocess: images as they are stored -> what the network sees.
        workers: worker processes that decode files.

    Raises:
        ValueError: there is no such layer, or its kernel has another shape.
    """
    size = check_layer(by_path(params), layer)
    images = jax.jit(preprocess)(sample(split, workers=workers))
    return whitening_kernel(np.asarray(images), size)


def whitened(params: Any, layer: str, kernel: np.ndarray) -> Any:
    """Return parameters with another kernel of one convolution, in its dtype.

    Args:
        params: of a network.
        layer: the convolution's path.
        kernel: from `first_kernel`.
    """
    path = f"{layer}.kernel"
    return map_by_path(
        lambda name, leaf: jnp.asarray(kernel, leaf.dtype) if name == path else leaf, params
    )


def check_layer(leaves: Mapping[str, Any], layer: str) -> tuple[int, int]:
    """Return the size (kh, kw) of the kernel that is to whiten.

    Args:
        leaves: path of a parameter -> array or its shape, as `jaxcnn.parameters.by_path` gives it.
        layer: the convolution's path.

    Raises:
        ValueError: there is no such convolution, or it has not two filters for every value of a
            patch.
    """
    kernels = {name.removesuffix(".kernel"): leaf.shape for name, leaf in leaves.items()}
    fitting = [
        name
        for name, shape in kernels.items()
        if len(shape) == 4 and shape[3] == 2 * shape[0] * shape[1] * shape[2]
    ]
    if layer not in fitting:
        shape = kernels.get(layer, "none")
        raise ValueError(
            f"whiten={layer!r}: expected a convolution whose kernel is (kh, kw, C, 2 * kh * kw * "
            f"C), got {shape}; such are: {', '.join(fitting) or 'none'}"
        )
    return kernels[layer][0], kernels[layer][1]


def sample(split: Arrays | Files, *, workers: Workers = None) -> np.ndarray:
    """Return `IMAGES` images of a split as they are stored, evenly spaced in its order, or all.

    A source may be sorted by class, so that its first images would be of one.

    Args:
        split: N images, in memory or as files.
        workers: worker processes that decode files.

    Returns:
        (min(N, IMAGES), H, W, C) uint8.
    """
    count = min(len(split), IMAGES)
    chosen = take(split, np.arange(count) * len(split) // count)
    if isinstance(chosen, Arrays):
        return np.asarray(chosen.images)
    batches = eval_batches(chosen, min(count, 500), workers=workers)
    return np.concatenate([batch["images"][batch["mask"]] for batch in batches])
