"""One function or layer against PyTorch's: value, and gradient with regard to every argument."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
import torch

from parity.compilation import compiled, precision
from parity.sides import Sides, to_nchw, to_nhwc


def compare(
    ours: Callable[..., jax.Array],
    theirs: Callable[..., torch.Tensor],
    arguments: Mapping[str, np.ndarray],
) -> Sides:
    """Return `(got, want)`: the output and the gradient of every argument, in PyTorch's layout.

    The gradients are those of the output's sum after multiplication by fixed random numbers.

    Args:
        ours: takes the arguments by name, in JAX's layout, under `jax.jit`.
        theirs: takes the same as tensors.
        arguments: name -> array in PyTorch's layout, all of one floating dtype. The one named
            `weight` is turned as `jaxcnn.weights` does, other 4-d ones from NCHW to NHWC.
    """
    tensors = {n: torch.from_numpy(v.copy()).requires_grad_() for n, v in arguments.items()}
    result = theirs(**tensors)
    direction = np.random.default_rng(0).normal(size=tuple(result.shape))
    direction = direction.astype(result.detach().numpy().dtype)
    (result * torch.from_numpy(direction)).sum().backward()
    want = {"output": result.detach().numpy()}
    want.update({f"gradient of {n}": t.grad.numpy() for n, t in tensors.items()})

    @compiled
    def run(arrays, direction):
        out, pull = jax.vjp(lambda arrays: ours(**arrays), arrays)
        return out, pull(direction)[0]

    with precision(str(direction.dtype)):
        arrays = {n: jnp.array(_from_torch(n, v)) for n, v in arguments.items()}
        out, gradients = run(arrays, jnp.array(_from_torch("", direction)))
        got = {"output": to_nchw(out)}
        got.update({f"gradient of {n}": _to_torch(n, g) for n, g in gradients.items()})
    return got, want


def _from_torch(name: str, value: np.ndarray) -> np.ndarray:
    if name == "weight":
        return value.transpose((2, 3, 1, 0) if value.ndim == 4 else (1, 0))
    return to_nhwc(value)


def _to_torch(name: str, value: jax.Array) -> np.ndarray:
    if name == "weight":
        return np.asarray(value).transpose((3, 2, 0, 1) if value.ndim == 4 else (1, 0))
    return to_nchw(value)
