"""PyTorch `state_dict`s to Linen variables and back, without PyTorch.

A parameter path joined with dots is the PyTorch key; `kernel` and `scale` are `weight`, `mean` and
`var` are `running_mean` and `running_var`. A 4-d weight (out, in, kh, kw) is transposed to
(kh, kw, in, out), a 2-d one (out, in) to (in, out); nothing else changes, so both directions are
exact to the bit.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn.files import atomic_file

_TORCH_NAMES = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
    "num_batches_tracked": "num_batches_tracked",
}
_TO_TORCH = {4: (3, 2, 0, 1), 2: (1, 0)}
_FROM_TORCH = {4: (2, 3, 1, 0), 2: (1, 0)}


def from_torch(state_dict: Mapping[str, Any], template: Mapping[str, Any]) -> dict[str, Any]:
    """Turn a PyTorch `state_dict` into a network's variables.

    Args:
        state_dict: PyTorch key -> array or tensor (any device), in PyTorch's layout.
        template: what `model.init` returns, or `jax.eval_shape` of it.

    Returns:
        Variables of the template's structure and shapes. Floating values keep the state_dict's
        dtype (float64 needs JAX's x64 mode, without which they become float32); batch counters
        take the template's.

    Raises:
        ValueError: one error that lists every missing, unexpected and wrongly shaped key.
    """
    found = {key: as_numpy(value) for key, value in state_dict.items()}
    wanted = _keys(template)
    problems = [f"missing: {key}" for key in wanted if key not in found]
    problems += [f"unexpected: {key}" for key in found if key not in wanted]
    leaves = {}
    for key, (path, leaf) in wanted.items():
        if key not in found:
            continue
        value = found[key]
        expected = _torch_shape(leaf)
        if value.shape != expected:
            problems.append(f"wrong shape: {key} is {value.shape}, expected {expected}")
            continue
        if value.ndim in _FROM_TORCH:
            value = value.transpose(_FROM_TORCH[value.ndim])
        floating = jnp.issubdtype(value.dtype, jnp.floating)
        if floating != jnp.issubdtype(leaf.dtype, jnp.floating):
            problems.append(f"wrong dtype: {key} is {value.dtype}, expected {leaf.dtype}")
            continue
        dtype = jax.dtypes.canonicalize_dtype(value.dtype) if floating else leaf.dtype
        leaves[path] = jnp.array(value, dtype)  # a copy: never a view of torch's memory
    if problems:
        raise ValueError("state_dict does not fit the network:\n  " + "\n  ".join(problems))
    return jax.tree_util.tree_map_with_path(lambda path, _: leaves[path], dict(template))


def to_torch(variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Turn a network's variables into a PyTorch `state_dict` of NumPy arrays.

    `torch.from_numpy` of each value loads with `load_state_dict`; `num_batches_tracked` is int64 as
    in PyTorch, everything else keeps its dtype.

    Raises:
        ValueError: a leaf that PyTorch has no name for.
    """
    state_dict = {}
    for key, (_, leaf) in _keys(variables).items():
        value = np.asarray(leaf)
        if value.ndim in _TO_TORCH:
            value = value.transpose(_TO_TORCH[value.ndim])
        if key.endswith("num_batches_tracked"):
            value = value.astype(np.int64)
        state_dict[key] = np.array(value, order="C")  # a copy: never a view of device memory
    return state_dict


def shapes(variables: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Return PyTorch key -> shape, in PyTorch's layout, of variables or a template of them.

    Raises:
        ValueError: a leaf that PyTorch has no name for.
    """
    return {key: _torch_shape(leaf) for key, (_, leaf) in _keys(variables).items()}


def save(path: str | os.PathLike, variables: Mapping[str, Any]) -> None:
    """Write variables under PyTorch's keys and layout to a `.safetensors` or `.npz` file.

    The file is written whole or not at all.

    Raises:
        ValueError: another suffix, or bfloat16 values for `.npz`, which has no name for them.
    """
    path = Path(path)
    _check_suffix(path)
    arrays = to_torch(variables)
    if path.suffix == ".npz" and any(a.dtype == jnp.bfloat16 for a in arrays.values()):
        raise ValueError(f"{path}: .npz cannot hold bfloat16; use .safetensors or convert first")
    with atomic_file(path) as file:
        if path.suffix == ".npz":
            np.savez(file, allow_pickle=False, **arrays)
        else:
            import safetensors.numpy

            file.write(safetensors.numpy.save(arrays))


def load(path: str | os.PathLike, template: Mapping[str, Any]) -> dict[str, Any]:
    """Read a `.safetensors` or `.npz` file of PyTorch keys into a network's variables.

    Args:
        path: a file that `save` wrote, or any other with the same keys and layout.
        template: what `model.init` returns, or `jax.eval_shape` of it.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another suffix, an unreadable file, or keys and shapes that do not fit.
    """
    try:
        return from_torch(read(path), template)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def read(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Read a `.safetensors` or `.npz` file as a PyTorch `state_dict` of NumPy arrays.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another suffix or an unreadable file.
    """
    path = Path(path)
    _check_suffix(path)
    if not path.is_file():
        raise FileNotFoundError(f"weights: no such file: {path}")
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                return dict(arrays)
        import safetensors.numpy

        return safetensors.numpy.load_file(path)
    except Exception as error:  # zipfile, NumPy and safetensors each raise their own
        raise ValueError(f"unreadable weights ({type(error).__name__}: {error})") from error


def _check_suffix(path: Path) -> None:
    if path.suffix not in (".safetensors", ".npz"):
        raise ValueError(f"weights: expected a .safetensors or .npz file, got {str(path)!r}")


def _torch_shape(leaf: Any) -> tuple[int, ...]:
    axes = _TO_TORCH.get(len(leaf.shape), range(len(leaf.shape)))
    return tuple(leaf.shape[axis] for axis in axes)


def _keys(variables: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return PyTorch key -> (tree path, leaf) of params and batch_stats."""
    keys = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(dict(variables))[0]:
        collection, *modules, name = (entry.key for entry in path)
        if collection not in ("params", "batch_stats") or name not in _TORCH_NAMES:
            raise ValueError(f"no PyTorch name for variable {[collection, *modules, name]}")
        keys[".".join([*modules, _TORCH_NAMES[name]])] = path, leaf
    return keys


def as_numpy(value: Any) -> np.ndarray:
    """Return an array or a torch tensor, wherever it lives, as a NumPy array of its dtype."""
    if hasattr(value, "detach"):  # a torch.Tensor, without importing torch
        value = value.detach().cpu()
        if str(value.dtype) == "torch.bfloat16":  # NumPy has none; float32 holds it exactly
            return np.asarray(value.float()).astype(jnp.bfloat16)
    return np.asarray(value)
