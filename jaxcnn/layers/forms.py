"""Which form of a computation a layer takes: our own CPU code, or XLA's operations.

The forms give the same numbers up to rounding; they differ in speed. Measured on two AVX-512 cores
with jaxlib 0.10 (`scripts/benchmark_convolutions.py`, `scripts/benchmark.py`):

- XLA's float32 convolutions with their gradients take 1.2-3 times PyTorch's time, ours 0.8-1.1
  times, 0.3-0.8 on images of 2x2 to 4x4 pixels; XLA's float64 convolutions 5-58 times, as a matrix
  product of windows 0.8-2.1 times.
- XLA's convolution of a 3x3 kernel with 512 channels on 2x2 images takes 330 ms (it leaves the fast
  path), as a matrix product 5; a 1x1 kernel from 256 to 64 channels on (16, 56, 56) with its
  gradients 275 and 55 ms.
- XLA writes down the images less their mean for a batch norm's variance, and a product for every
  sum of its gradient; `moments` and `normalised` write nothing, and compile no kernel.
- XLA computes the gradients of features that a DenseNet joins in kernels of up to 195 arrays; where
  `joined` writes them down, `densenet_cifar`'s step compiles in 4.5 s in place of 12.
- Depthwise 3x3 on (16, 56, 56, 64) takes 174 ms as XLA's one convolution and 1.2 as a sum of taps;
  3x3 in 32 groups on (1, 28, 28, 256) takes 4.7 ms, with gradients 2,200, as one convolution, and
  3.3 and 20 as one a group; XLA has nothing faster, our own code has.
- A product of 32 rows with a Linear's kernel of (784, 500) takes XLA 0.23 ms and us 0.13, its two
  gradients 0.23 and 0.27, and 0.11 and 0.15; products of few numbers take both as long as a call.

On a GPU a convolution is XLA's, which cuDNN computes. Where a batch is divided over several devices
(`jaxcnn.devices`) each convolves its own images; what is of the whole batch is left to XLA, which
cannot divide our own code.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import jax
import jax.numpy as jnp

from jaxcnn import devices
from jaxcnn import native as library
from jaxcnn.layers import direct

Conv = Literal["direct", "convolution", "matrix_product", "depthwise", "split"]
"""`direct`: our CPU code; `convolution`: XLA's; `matrix_product`: of the windows, side by side, and
the kernel; `depthwise`: a sum of shifted images; `split`: one convolution a group."""

_MOST_TAPS = 64
_MOST_ROWS, _LEAST_PRODUCTS = 256, 2**20
_preferred = jax.make_user_context(default_value="native")


@contextmanager
def prefer(form: Literal["native", "xla"]) -> Iterator[None]:
    """Choose, for what is traced inside, our own CPU code where there is some, or XLA's operations.

    A jitted function that is called under another choice is traced anew.

    Args:
        form: "native" (as without this) or "xla".

    Raises:
        ValueError: another form.
    """
    if form not in ("native", "xla"):
        raise ValueError(f"form={form!r}: expected 'native' or 'xla'")
    with _preferred(form):
        yield


def native(dtype: str, rows: int | None = None) -> bool:
    """Return whether our own CPU code for a number type is wanted, and there is some.

    Args:
        dtype: the number type's name.
        rows: length of the arrays' first axis where it may be divided over devices
            (`jaxcnn.devices.each`), None where it may not.
    """
    wanted = jax.default_backend() == "cpu" and _preferred.value == "native"
    divisible = devices.count() == 1 or (rows is not None and devices.divides(rows))
    return wanted and divisible and library.available(dtype)


def native_for(*arrays: jax.Array | None) -> bool:
    """Return whether our own CPU code is wanted for arrays of one number type, and there is some.

    Args:
        *arrays: None stands for no array.
    """
    dtypes = {array.dtype.name for array in arrays if array is not None}
    return len(dtypes) == 1 and native(dtypes.pop())


def widened() -> bool:
    """Return whether convolutions of bfloat16 numbers are computed in float32 and then rounded.

    A CPU without instructions for them does so anyway, in XLA's way; so it is done in ours.
    """
    return jax.default_backend() == "cpu"


def conv(images: jax.Array, kernel: jax.Array, groups: int) -> Conv:
    """Choose the form of a convolution that runs fast.

    Args:
        images: (B, H, W, C).
        kernel: (kh, kw, C / groups, features).
        groups: the channels fall into so many independent groups.

    Returns:
        The form's name.
    """
    if jax.default_backend() != "cpu":
        return "convolution" if groups > 1 else _of_xla(images, kernel)
    if (direct.able(kernel, groups) or kernel.shape[2] == 1) and native(
        images.dtype.name, images.shape[0]
    ):
        return "direct"
    if groups == 1:
        pointwise = kernel.shape[:2] == (1, 1)
        return "matrix_product" if pointwise else _of_xla(images, kernel)
    if kernel.shape[2] > 1:
        return "split"
    # Large depthwise kernels make long programs of their taps.
    return "depthwise" if kernel.shape[0] * kernel.shape[1] <= _MOST_TAPS else "convolution"


def linear(x: jax.Array, kernel: jax.Array) -> Literal["direct", "product"]:
    """Choose the form of a Linear's product: our CPU code, or XLA's.

    Args:
        x: (..., in).
        kernel: (in, features), of its dtype.
    """
    rows = math.prod(x.shape[:-1])
    few = isinstance(rows, int) and 0 < rows <= _MOST_ROWS  # and no symbol of `jax.export`
    pays = few and rows * kernel.size >= _LEAST_PRODUCTS
    return "direct" if pays and native(x.dtype.name, rows) else "product"


def _of_xla(images: jax.Array, kernel: jax.Array) -> Conv:
    smaller = images.shape[1] < kernel.shape[0] or images.shape[2] < kernel.shape[1]
    return "matrix_product" if images.dtype == jnp.float64 or smaller else "convolution"
