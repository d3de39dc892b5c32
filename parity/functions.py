"""One function or layer against PyTorch's: values, gradients, gradients of gradients.

`compare` sets both sides beside each other under `jax.jit`; `mapped` sets our function under
`jax.vmap` beside itself, an example at a time.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

from parity.compilation import compiled, precision
from parity.sides import Sides, to_nchw, to_nhwc

Arguments = Mapping[str, np.ndarray]


def compare(
    ours: Callable[..., Any],
    theirs: Callable[..., Any],
    arguments: Arguments,
    *,
    second: bool = False,
) -> Sides:
    """Return `(got, want)`: the output and the gradient of every argument, in PyTorch's layout.

    The gradients are those of the output's sum after multiplication by fixed random numbers; the
    second ones those of the gradients' sum after the same.

    Args:
        ours: takes the arguments by name, in JAX's layout, under `jax.jit`; returns an array or a
            tuple whose first is differentiated, the others (indices) only compared.
        theirs: takes the same as tensors; returns a tensor or such a tuple.
        arguments: name -> array in PyTorch's layout, all of one floating dtype. The one named
            `weight` is turned as `jaxcnn.weights` does, other 4-d ones from NCHW to NHWC.
        second: whether gradients of the gradients are compared too.
    """
    tensors = {n: torch.from_numpy(v.copy()).requires_grad_() for n, v in arguments.items()}
    result, *others = _several(theirs(**tensors))
    direction = _direction(0, tuple(result.shape), result.detach().numpy().dtype)
    directions = {n: _direction(1, v.shape, v.dtype) for n, v in arguments.items()}
    loss = (result * torch.from_numpy(direction)).sum()
    first = torch.autograd.grad(loss, list(tensors.values()), create_graph=second)
    want = {"output": result.detach().numpy()}
    want.update({f"output[{i}]": v.detach().numpy() for i, v in enumerate(others, 1)})
    want.update(_named("gradient of", tensors, [g.detach().numpy() for g in first]))
    if second:
        pairs = zip(first, directions.values(), strict=True)
        total = torch.stack([(g * torch.from_numpy(d)).sum() for g, d in pairs]).sum()
        twice = torch.autograd.grad(
            total, list(tensors.values()), allow_unused=True, materialize_grads=True
        )
        want.update(_named("second gradient of", tensors, [g.numpy() for g in twice]))

    @compiled
    def run(arrays, direction, directions):
        def gradients(arrays):
            out, pull, others = jax.vjp(split, arrays, has_aux=True)
            return pull(direction)[0], out, others

        def split(arrays):
            out, *others = _several(ours(**arrays))
            return out, others

        def inner(arrays):
            found = gradients(arrays)[0]
            return sum(jnp.vdot(found[n], directions[n]) for n in found)

        found, out, others = gradients(arrays)
        return [out, *others], found, jax.grad(inner)(arrays) if second else {}

    with precision(str(direction.dtype)):
        arrays, turned = ({n: _to_jax(n, v) for n, v in d.items()} for d in (arguments, directions))
        outs, found, twice = run(arrays, _to_jax("", direction), turned)
        names = ["output", *(f"output[{i}]" for i in range(1, len(outs)))]
        got = {n: to_nchw(v) for n, v in zip(names, outs, strict=True)}
        got.update({f"gradient of {n}": _to_torch(n, g) for n, g in found.items()})
        got.update({f"second gradient of {n}": _to_torch(n, g) for n, g in twice.items()})
    return got, want


def mapped(ours: Callable[..., Any], arguments: Arguments, *, copies: int = 3) -> Sides:
    """Return `(got, want)`: a function and its gradients under `jax.vmap`, and one at a time.

    Args:
        ours: as in `compare`.
        arguments: as in `compare`; each is mapped, the copies scaled by different random numbers.
        copies: length of the mapped axis.
    """

    @jax.jit
    def single(arrays):
        outs, pull = jax.vjp(lambda arrays: _several(ours(**arrays))[0], arrays)
        return outs, pull(jnp.ones_like(outs))[0]

    dtype = str(next(iter(arguments.values())).dtype)
    with precision(dtype):
        scales = {n: _direction(2, (copies,), v.dtype) for n, v in arguments.items()}
        stacked = {
            n: jnp.stack([_to_jax(n, v * s) for s in scales[n]]) for n, v in arguments.items()
        }
        out, gradients = jax.jit(jax.vmap(single))(stacked)
        ones = [single({n: v[i] for n, v in stacked.items()}) for i in range(copies)]
        got = {"output": np.asarray(out), **{n: np.asarray(g) for n, g in gradients.items()}}
        want = {"output": np.stack([out for out, _ in ones])}
        want.update({n: np.stack([gradient[n] for _, gradient in ones]) for n in stacked})
    return got, want


def _several(result: Any) -> tuple:
    return result if isinstance(result, tuple) else (result,)


def _direction(seed: int, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def _named(kind: str, names: Mapping[str, Any], values: list[np.ndarray]) -> dict[str, np.ndarray]:
    return {f"{kind} {n}": v for n, v in zip(names, values, strict=True)}


def _to_jax(name: str, value: np.ndarray) -> jax.Array:
    if name == "weight":
        return jnp.array(value.transpose((2, 3, 1, 0) if value.ndim == 4 else (1, 0)))
    return jnp.array(to_nhwc(value))


def _to_torch(name: str, value: jax.Array) -> np.ndarray:
    if name == "weight":
        return np.asarray(value).transpose((3, 2, 0, 1) if value.ndim == 4 else (1, 0))
    return to_nchw(value)
