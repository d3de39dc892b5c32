"""PyTorch's default initialisation by distribution, and the identity."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax.core import meta
from flax.errors import ScopeParamShapeError
from jax.typing import DTypeLike

from jaxcnn.layers import half

# (key, shape, dtype) -> array, as in `jax.nn.initializers`.
Initializer = Callable[[jax.Array, tuple[int, ...], DTypeLike], jax.Array]


def uniform_fan_in(fan_in: int) -> Initializer:
    """Draw from U(-1/sqrt(fan_in), 1/sqrt(fan_in)), PyTorch's default for weights and biases.

    `torch.nn.Conv2d` and `torch.nn.Linear` call `kaiming_uniform_(weight, a=sqrt(5))`, whose bound
    gain * sqrt(3 / fan_in) with gain = sqrt(2 / (1 + a^2)) is 1/sqrt(fan_in), the bias' bound too.

    Args:
        fan_in: values that feed one output: in / groups * kh * kw, or a Linear's inputs.

    Returns:
        A Linen initializer `(key, shape, dtype) -> array`.
    """
    bound = 1.0 / math.sqrt(fan_in)

    def init(key: jax.Array, shape: tuple[int, ...], dtype: DTypeLike) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


def dirac(rest: Initializer | None = None) -> Initializer:
    """Begin with the identity, as `torch.nn.init.dirac_`: filter i passes channel i on.

    Args:
        rest: distribution of the filters beyond the first `in`, drawn for the whole kernel; None
            makes them zero, as torch does.

    Returns:
        A Linen initializer of kernels (kh, kw, in, out), whose first min(in, out) filters are 1 at
        [kh // 2, kw // 2] of their own channel and 0 elsewhere.
    """

    def init(key: jax.Array, shape: tuple[int, ...], dtype: DTypeLike) -> jax.Array:
        height, width, channels, filters = shape
        first = min(channels, filters)
        kernel = jnp.zeros(shape, dtype) if rest is None else rest(key, shape, dtype)
        identity = jnp.zeros((height, width, channels, first), dtype)
        each = jnp.arange(first)
        identity = identity.at[height // 2, width // 2, each, each].set(1)
        return kernel.at[..., :first].set(identity)

    return init


def parameter(
    module: Any, name: str, init: Initializer, shape: tuple[int, ...], dtype: DTypeLike
) -> jax.Array:
    """Create or find a module's parameter, `module.param` of Linen.

    That traces the distribution again wherever a parameter is found, to compare shapes: a third of
    the time that tracing a network takes.

    Args:
        module: with a scope.
        name: of the parameter.
        init: distribution of its first values.
        shape: of the parameter.
        dtype: of the first values.

    Raises:
        flax.errors.ScopeParamShapeError: a parameter of another shape is there.
    """
    if not module.has_variable("params", name):
        return module.param(name, init, shape, dtype)
    value = meta.unbox(module.get_variable("params", name))
    if value.shape != shape:
        raise ScopeParamShapeError(name, f"/{'/'.join(module.path)}", value.shape, shape)
    return value


def kernel_and_bias(
    module: Any, shape: tuple[int, ...], fan_in: int, dtype: DTypeLike
) -> tuple[jax.Array, jax.Array | None]:
    """Create a layer's `kernel` and, if it has one, `bias`, by its own or PyTorch's distribution.

    Args:
        module: with `features`, `bias`, `kernel_init` and `bias_init`.
        shape: of the kernel.
        fan_in: of the default distribution of both, see `uniform_fan_in`.
        dtype: of the layer's inputs, see `jaxcnn.layers.half`.
    """
    init, kept = uniform_fan_in(fan_in), half.kept(dtype)
    kernel = parameter(module, "kernel", module.kernel_init or init, shape, kept)
    kernel = half.rounded(kernel, dtype)
    if not module.bias:
        return kernel, None
    bias = parameter(module, "bias", module.bias_init or init, (module.features,), kept)
    return kernel, half.rounded(bias, dtype)
