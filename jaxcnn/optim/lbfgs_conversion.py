"""L-BFGS states to and from `torch.optim.LBFGS`'s `state_dict`, so that a run goes on in the other.

PyTorch's vectors hold the parameters in the module's order and PyTorch's layouts, those here in
the tree's; names and layouts are those of `jaxcnn.weights`. Only NumPy is needed.
"""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn import weights
from jaxcnn.optim.lbfgs import lbfgs
from jaxcnn.optim.lbfgs_state import LbfgsState

_VECTORS = ("d", "prev_flat_grad")
_SCALARS = ("t", "H_diag", "prev_loss")
_LISTS = ("old_dirs", "old_stps", "ro")


def lbfgs_to_torch(
    state: LbfgsState, params: Any, param_group: Mapping[str, Any]
) -> dict[str, Any]:
    """Turn a state into what `state_dict()` of `torch.optim.LBFGS` returns.

    With its arrays turned into tensors it loads with `load_state_dict`. It lacks "al", which
    PyTorch only calculates in and makes anew.

    Args:
        state: what `Lbfgs.init` or `Lbfgs.step` returned.
        params: the parameters, or a tree of their shapes.
        param_group: "params", the PyTorch keys of the parameters in the order of the module; "lr",
            the learning rate of the next step; the arguments that differ from PyTorch's defaults.

    Returns:
        "state": {0: {torch's name: a NumPy array, a list of them or a number}}, {} before the
        first step; "param_groups", of one, with indices for names and every argument filled in.

    Raises:
        ValueError: an unknown or lacking entry of the group or a bad one, a history_size that is
            not the state's, names that are not those of the parameters.
    """
    known = [name for name in inspect.signature(lbfgs).parameters if name != "learning_rate"]
    if unknown := sorted(set(param_group) - {"params", "lr", *known}):
        raise ValueError(f"lbfgs_to_torch: param_group has unknown {', '.join(unknown)}")
    if lacking := [key for key in ("params", "lr") if key not in param_group]:
        raise ValueError(f"lbfgs_to_torch: param_group lacks {', '.join(lacking)}")
    names = list(param_group["params"])
    given = {key: value for key, value in param_group.items() if key in known}
    optimizer = lbfgs(param_group["lr"], **given)
    group = {
        "params": list(range(len(names))),
        "lr": param_group["lr"],
        **{name: getattr(optimizer, name) for name in known},
    }
    rows = len(state.ro)
    if optimizer.history_size != rows:
        raise ValueError(
            f"lbfgs_to_torch: history_size must be the state's, {rows}, "
            f"got {optimizer.history_size}"
        )
    order = _order("lbfgs_to_torch", params, names)
    if not int(state.func_evals):
        return {"state": {}, "param_groups": [group]}
    slots: dict[str, Any] = {"func_evals": int(state.func_evals), "n_iter": int(state.n_iter)}
    if int(state.n_iter):
        stored = int(state.stored)
        kept = [k % rows for k in range(max(stored - rows, 0), stored)]
        dirs, stps, ro = (np.asarray(getattr(state, name)) for name in _LISTS)
        slots |= {
            "d": np.asarray(state.d)[order],
            "t": float(state.t),
            "old_dirs": [dirs[row][order] for row in kept],
            "old_stps": [stps[row][order] for row in kept],
            "ro": [np.array(ro[row]) for row in kept],
            "H_diag": np.array(state.H_diag),
            "prev_flat_grad": np.asarray(state.prev_flat_grad)[order],
            "prev_loss": float(state.prev_loss),
        }
    return {"state": {0: slots}, "param_groups": [group]}


def lbfgs_from_torch(
    state_dict: Mapping[str, Any],
    template: LbfgsState,
    params: Any,
    names: Sequence[str],
    *,
    step: int,
) -> LbfgsState:
    """Turn `state_dict()` of `torch.optim.LBFGS` into a state here.

    Args:
        state_dict: of tensors or NumPy arrays.
        template: what `init` of `lbfgs`, built with the same history_size, returns.
        params: the parameters, or a tree of their shapes.
        names: the PyTorch keys of the parameters in the order of the module.
        step: calls of PyTorch's `step` done, which it does not count; learning rate schedules do.

    Returns:
        A state of the template's shapes and dtypes.

    Raises:
        ValueError: names that are not those of the parameters, or of another number than the
            state_dict's; another history_size; missing, unexpected or wrongly shaped entries; a
            step that does not fit to them.
    """
    call = "lbfgs_from_torch"
    (group,) = state_dict["param_groups"]
    if len(group["params"]) != len(names):
        raise ValueError(
            f"{call}: {len(group['params'])} parameters in the state_dict, {len(names)} names"
        )
    rows = len(template.ro)
    if group["history_size"] != rows:
        raise ValueError(
            f"{call}: history_size must be the template's, {rows}, got {group['history_size']}"
        )
    order = _order(call, params, names)
    slots = dict(next(iter(state_dict["state"].values()), {}))
    slots.pop("al", None)
    if step < bool(slots) or (step > 0 and not slots):
        raise ValueError(
            f"{call}: step must be {'at least 1' if slots else '0'} "
            f"{'with' if slots else 'without'} a state, got {step}"
        )
    if not slots:
        return template  # before the first step PyTorch has no state
    wanted = {"func_evals", "n_iter"}
    if slots.get("n_iter", 0):  # before the first iteration PyTorch has no others
        wanted |= {*_VECTORS, *_SCALARS, *_LISTS}
    if wrong := sorted(wanted ^ set(slots)):
        raise ValueError(f"{call}: missing or unexpected in the state: {', '.join(wrong)}")
    counts = {"step": step, "func_evals": slots["func_evals"], "n_iter": slots["n_iter"]}
    new: dict[str, Any] = {name: jnp.full_like(template.step, n) for name, n in counts.items()}
    if slots["n_iter"]:
        for name in _VECTORS:
            new[name] = jnp.asarray(_vector(name, slots[name], order), template.d.dtype)
        for name in _SCALARS:
            new[name] = jnp.asarray(float(slots[name]), template.d.dtype)
        new |= _history(slots, order, template)
    return template._replace(**new)


def _history(slots: Mapping[str, Any], order: np.ndarray, template: LbfgsState) -> dict[str, Any]:
    """Return the pairs in the first rows, oldest first."""
    (count, *others), rows = [len(slots[name]) for name in _LISTS], len(template.ro)
    if others != [count, count] or count > rows:
        raise ValueError(
            f"lbfgs_from_torch: old_dirs, old_stps and ro must be of one length <= {rows}, "
            f"got {[count, *others]}"
        )
    dirs, stps, ro = (np.zeros_like(getattr(template, name)) for name in _LISTS)
    for row in range(count):
        dirs[row] = _vector("old_dirs", slots["old_dirs"][row], order)
        stps[row] = _vector("old_stps", slots["old_stps"][row], order)
        ro[row] = float(slots["ro"][row])
    arrays = dict(zip(_LISTS, map(jnp.asarray, (dirs, stps, ro)), strict=True))
    return {**arrays, "stored": jnp.full_like(template.stored, count)}


def _vector(name: str, value: Any, order: np.ndarray) -> np.ndarray:
    """Return PyTorch's vector in the tree's order."""
    found = weights.as_numpy(value)
    if found.shape != order.shape:
        raise ValueError(
            f"lbfgs_from_torch: {name} must be of shape {order.shape}, got {found.shape}"
        )
    vector = np.empty_like(found)
    vector[order] = found
    return vector


def _order(call: str, params: Any, names: Sequence[str]) -> np.ndarray:
    """Return (N,), where PyTorch's elements are in a vector here."""
    leaves, structure = jax.tree.flatten(params)
    ends = np.cumsum([leaf.size for leaf in leaves])
    pieces = np.split(np.arange(sum(leaf.size for leaf in leaves)), ends[:-1])
    places = [piece.reshape(leaf.shape) for piece, leaf in zip(pieces, leaves, strict=True)]
    found = weights.to_torch({"params": structure.unflatten(places)})
    if sorted(found) != sorted(names):
        raise ValueError(
            f"{call}: the parameters are {sorted(found)}, the names are {sorted(names)}"
        )
    return np.concatenate([found[name].ravel() for name in names])
