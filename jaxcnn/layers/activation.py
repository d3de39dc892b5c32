"""Activations as modules, so that each has its twin's name among a network's activations.

Their formulas are PyTorch's (2.13), also where the slope jumps: at 0 the gradient is that of the
negative side, and none overflows or turns to NaN for large |x| or an infinity.
"""

import math
from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from jaxcnn.layers import half


class ReLU(nn.Module):
    """`torch.nn.ReLU`: max(x, 0) of any shape; the gradient at 0 is 0, as PyTorch's is."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Return max(x, 0), of x's shape and dtype."""
        # `jax.nn.relu` has this gradient too, by a rule of its own, which takes longer to trace
        # than a convolution; that of `jnp.maximum` is 1/2 at 0.
        zero = lax.full_like(x, 0)
        return lax.select(lax.le(x, zero), zero, x)


class LeakyReLU(nn.Module):
    """`torch.nn.LeakyReLU`: x where x > 0, else negative_slope * x; so is the slope at 0.

    Maas, Hannun and Ng, 2013, "Rectifier nonlinearities improve neural network acoustic models".

    Attributes:
        negative_slope: factor of what is not above 0.
    """

    negative_slope: float = 0.01

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Return x or negative_slope * x, of x's shape and dtype."""
        # `jax.nn.leaky_relu` has the slope 1 at 0.
        return jnp.where(x > 0, x, self.negative_slope * x)


class ELU(nn.Module):
    """`torch.nn.ELU`: x where x > 0, else alpha * (exp(x) - 1); the slope at 0 is alpha.

    Clevert, Unterthiner and Hochreiter, 2015, arXiv:1511.07289.

    Attributes:
        alpha: minus the value that large negative x approach.
    """

    alpha: float = 1.0

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Return x or alpha * (exp(x) - 1), of x's shape and dtype."""
        # The branch not taken is computed all the same: at large x its infinite slope times 0 would
        # be a NaN.
        negative = jnp.where(x > 0, jnp.zeros((), x.dtype), x)
        return jnp.where(x > 0, x, self.alpha * jnp.expm1(negative))


class GELU(nn.Module):
    """`torch.nn.GELU`: x times the share of a standard normal distribution below x.

    Hendrycks and Gimpel, 2016, arXiv:1606.08415.

    Attributes:
        approximate: "none" is exact, by the error function; "tanh" the paper's approximation.
    """

    approximate: Literal["none", "tanh"] = "none"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Return x * Phi(x), of x's shape and dtype.

        Raises:
            ValueError: `approximate` is neither.
        """
        if self.approximate not in ("none", "tanh"):
            raise ValueError(
                f"GELU {self.name!r}: approximate must be none or tanh, got {self.approximate!r}"
            )
        # In float32 at least: a bfloat16 loses every digit of 1 + erf where x is well below 0.
        wide = x.astype(half.kept(x.dtype))
        if self.approximate == "tanh":
            return jax.nn.gelu(wide, approximate=True).astype(x.dtype)
        # As PyTorch has it; `jax.nn.gelu` takes erfc, which costs more.
        return (0.5 * wide * (1 + jax.lax.erf(wide * math.sqrt(0.5)))).astype(x.dtype)


class Sigmoid(nn.Module):
    """`torch.nn.Sigmoid`: 1 / (1 + exp(-x)) of any shape."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Return 1 / (1 + exp(-x)), of x's shape and dtype."""
        return jax.nn.sigmoid(x)


class Tanh(nn.Module):
    """`torch.nn.Tanh`: the hyperbolic tangent of any shape."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Return tanh(x), of x's shape and dtype."""
        return jnp.tanh(x)


class Softmax(nn.Module):
    """`torch.nn.Softmax`: exp(x) over its sum along one axis; -inf gives 0.

    Attributes:
        dim: the axis, counted as ours are: -1 are the channels (or classes), which PyTorch's images
            have at 1.
    """

    dim: int = -1

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Return values in [0, 1] that sum to 1 along `dim`, of x's shape and dtype.

        Raises:
            ValueError: x has no such axis.
        """
        if not -x.ndim <= self.dim < x.ndim:
            raise ValueError(
                f"Softmax {self.name!r}: dim={self.dim} is no axis of an array of shape {x.shape}"
            )
        return jax.nn.softmax(x, axis=self.dim)
