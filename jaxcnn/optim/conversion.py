"""Optimizer states to and from `torch.optim`'s `state_dict`, so that a run goes on in the other.

Only NumPy arrays are needed on PyTorch's side. Names and layouts are those of `jaxcnn.weights`: a
state array is transposed as its parameter is.
"""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxcnn import weights
from jaxcnn.optim.by_name import OPTIMIZERS
from jaxcnn.optim.transform import State

_BUFFER = "momentum_buffer"
_KINDS = (State, optax.TraceState, optax.ScaleByScheduleState)


def to_torch(
    name: str, opt_state: Any, param_groups: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Turn an optimizer's state into what `state_dict()` of the PyTorch optimizer returns.

    With its arrays turned into tensors it loads with `load_state_dict`.

    Args:
        name: a key of `OPTIMIZERS`.
        opt_state: what `init` or `update` of the optimizer, or of `groups`, returned.
        param_groups: a dict a group, in PyTorch's order: "params", the PyTorch keys of its
            parameters in the order of the module; "lr", the learning rate of the next step; the
            arguments that differ from PyTorch's defaults.

    Returns:
        "state": index -> {torch's name: NumPy array}, {} before the first step; "param_groups",
        with indices for names and every argument filled in.

    Raises:
        ValueError: an unknown optimizer or argument, names that are not those of the state's
            parameters.
    """
    if name not in OPTIMIZERS:
        raise ValueError(f"unknown optimizer {name!r}; known: {', '.join(sorted(OPTIMIZERS))}")
    parameters = inspect.signature(OPTIMIZERS[name]).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
    names: list[str] = []
    groups: list[dict[str, Any]] = []
    for group in param_groups:
        if unknown := sorted(set(group) - {"params", "lr", *defaults}):
            raise ValueError(f"to_torch: {name!r} has no {', '.join(unknown)}")
        if lacking := [key for key in ("params", "lr") if key not in group]:
            raise ValueError(f"to_torch: a parameter group lacks {', '.join(lacking)}")
        first = len(names)
        names += group["params"]
        groups.append({**defaults, **group, "params": list(range(first, len(names)))})
    found = _arrays(name, opt_state)
    if found and sorted(found) != sorted(names):
        raise ValueError(
            f"to_torch: the state is of the parameters {sorted(found)}, "
            f"the groups name {sorted(names)}"
        )
    state = {index: found[key] for index, key in enumerate(names)} if found else {}
    return {"state": state, "param_groups": groups}


def from_torch(
    state_dict: Mapping[str, Any],
    template: Any,
    names: Sequence[str],
    *,
    step: int | None = None,
) -> Any:
    """Turn `state_dict()` of a PyTorch optimizer into a state of the same optimizer here.

    Args:
        state_dict: of the PyTorch optimizer, of tensors or NumPy arrays.
        template: what `init` of the optimizer here, built with the same arguments, returns.
        names: the PyTorch keys of the parameters in the order of PyTorch's indices: the module's,
            group after group.
        step: optimizer steps done; needed for SGD only, which does not count them in PyTorch.

    Returns:
        A state of the template's structure, shapes and dtypes.

    Raises:
        ValueError: another number of parameters; missing, unexpected or wrongly shaped arrays;
            steps that differ from each other or from `step`, or no step where one is needed.
    """
    count = sum(len(group["params"]) for group in state_dict["param_groups"])
    if count != len(names):
        raise ValueError(f"from_torch: {count} parameters in the state_dict, {len(names)} names")
    slots: dict[str, dict[str, Any]] = {}
    steps = set() if step is None else {step}
    for index, arrays in state_dict["state"].items():
        for slot, value in arrays.items():
            if slot == "step":
                steps.add(int(value))
            elif value is not None:
                slots.setdefault(slot, {})[names[int(index)]] = value
    if len(steps) > 1:
        raise ValueError(f"from_torch: the parameters' steps must be one, got {sorted(steps)}")
    if not slots and not any(steps):
        return template  # before the first step PyTorch has no state
    nodes = list(_nodes(template))
    if unexpected := set(slots) - {slot for node in nodes for slot in _slots(node)}:
        raise ValueError(f"from_torch: unexpected in this optimizer: {sorted(unexpected)}")
    if not steps and any(not isinstance(node, optax.TraceState) for node in nodes):
        raise ValueError("from_torch: the state_dict counts no steps; give step=, steps done")
    if slots and steps == {0}:
        raise ValueError("from_torch: step must be at least 1 where there is a state, got 0")
    done = next(iter(steps), 0)

    def fill(node: Any) -> Any:
        if isinstance(node, optax.ScaleByScheduleState):
            return node._replace(count=jnp.full_like(node.count, done))
        trees = {slot: _load(slot, slots, tree) for slot, tree in _slots(node).items()}
        if isinstance(node, optax.TraceState):
            return optax.TraceState(trees[_BUFFER])
        return State(jnp.full_like(node.step, done), trees)

    return jax.tree.map(
        lambda node: fill(node) if isinstance(node, _KINDS) else node, template, is_leaf=_is_node
    )


def _is_node(node: Any) -> bool:
    return isinstance(node, _KINDS)


def _nodes(opt_state: Any) -> Iterator[Any]:
    """Yield the parts of a state that are of an optimizer's own, group by group."""
    return filter(_is_node, jax.tree.leaves(opt_state, is_leaf=_is_node))


def _slots(node: Any) -> dict[str, Any]:
    """Return torch's name -> tree of arrays, of one part of a state."""
    if isinstance(node, optax.TraceState):
        return {_BUFFER: node.trace}
    return node.slots if isinstance(node, State) else {}


def _arrays(name: str, opt_state: Any) -> dict[str, dict[str, Any]]:
    """Return PyTorch key -> {torch's name: array}."""
    found: dict[str, dict[str, Any]] = {}
    for node in _nodes(opt_state):
        if isinstance(node, State) and not int(node.step):
            continue  # PyTorch makes a state at its first step, and SGD damps from the second on
        for slot, tree in _slots(node).items():
            for key, value in weights.to_torch({"params": tree}).items():
                found.setdefault(key, {})[slot] = value
                if isinstance(node, State) and name != "sgd":
                    done = int(node.step)
                    counted = done if name == "sparse_adam" else np.array(done, np.float32)
                    found[key]["step"] = counted
    return found


def _load(slot: str, slots: Mapping[str, Mapping[str, Any]], tree: Any) -> Any:
    """Return a tree like the given one with PyTorch's arrays of the same parameters."""
    template = {"params": tree}
    values = {key: slots.get(slot, {}).get(key) for key in weights.shapes(template)}
    try:
        present = {key: value for key, value in values.items() if value is not None}
        loaded = weights.from_torch(present, template)["params"]
    except ValueError as error:
        raise ValueError(f"from_torch: {slot}: {error}") from error
    return jax.tree.map(lambda new, old: new.astype(old.dtype), loaded, tree)
