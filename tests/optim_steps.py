"""The same steps here and in torch.optim: parameters and state arrays of every step."""

import itertools
from contextlib import contextmanager

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch

from jaxcnn import optim, schedules
from parity.trajectory import OPTIMIZERS

TORCH = {**OPTIMIZERS, "sparse_adam": torch.optim.SparseAdam}
RATES = {"adadelta": 1.0, "sgd": 0.1, "asgd": 0.1}  # 0.01 where not named

_MOMENTS = [{"betas": (0.9, 0.999)}, {"betas": (0.5, 0.9), "eps": 1e-3}]
_COUPLED = [{}, {"weight_decay": 0.1}]
_EITHER = [*_COUPLED, {"weight_decay": 0.1, "decoupled_weight_decay": True}]
_SIGN = [{}, {"maximize": True}]
_AMSGRAD = [{}, {"amsgrad": True}]


def _product(*choices):
    combinations = itertools.product(*choices)
    return [{k: v for part in parts for k, v in part.items()} for parts in combinations]


GRID = {
    "sgd": _product(_COUPLED, _SIGN)
    + _product(
        [{"momentum": 0.5}, {"momentum": 0.9}],
        [{}, {"dampening": 0.3}, {"nesterov": True}],
        _COUPLED,
        _SIGN,
    ),
    "adam": _product(_MOMENTS, _EITHER, _AMSGRAD, _SIGN),
    "adamw": _product(_MOMENTS, _COUPLED, _AMSGRAD, _SIGN),
    "adamax": _product(_MOMENTS, [{}, {"eps": 0.1}], _COUPLED, _SIGN),
    "nadam": _product(_MOMENTS, _EITHER, [{}, {"momentum_decay": 0.1}], _SIGN),
    "radam": _product([*_MOMENTS, {"betas": (0.9, 0.6)}, {"betas": (0.0, 0.0)}], _EITHER, _SIGN),
    "adagrad": _product(
        [{}, {"lr_decay": 0.01}],
        [{}, {"initial_accumulator_value": 0.5, "eps": 1e-3}],
        _COUPLED,
        _SIGN,
    ),
    "adadelta": _product([{}, {"rho": 0.5}], [{}, {"eps": 1e-2}], _COUPLED, _SIGN),
    "rmsprop": _product(
        [{}, {"alpha": 0.5, "eps": 1e-3}],
        [{}, {"momentum": 0.9}],
        [{}, {"centered": True}],
        _COUPLED,
        _SIGN,
    ),
    "rprop": _product([{}, {"etas": (0.8, 1.1)}], [{}, {"step_sizes": (5e-3, 0.02)}], _SIGN),
    "asgd": _product(
        [{}, {"lambd": 0.1}], [{}, {"alpha": 0.5}], [{}, {"t0": 10.0}], _COUPLED, _SIGN
    ),
    "sparse_adam": _product(_MOMENTS, [{}, {"eps": 0.1}], _SIGN),
}


def problem(name, *, steps=100, dtype=np.float64):
    """Return start values, noise and masks of every step; the gradient is mask (noise + tanh w).

    tanh has a stable minimum, so that rounding is not amplified over the steps. Masks are 1 but
    for sparse_adam, for which they leave out rows, and all rows of some steps.
    """
    rng = np.random.default_rng(0)
    shapes = {"kernel": (4, 3), "bias": (5,)}
    start = {key: rng.normal(size=shape).astype(dtype) for key, shape in shapes.items()}
    noise = {k: rng.normal(size=(steps, *s)).astype(dtype) for k, s in shapes.items()}
    masks = {key: np.ones_like(value) for key, value in noise.items()}
    if name == "sparse_adam":
        for mask in masks.values():
            mask *= rng.integers(0, 2, size=(*mask.shape[:2], *[1] * (mask.ndim - 2)))
            mask[3:5] = 0
    return start, noise, masks


def run_torch(name, start, noise, masks, *, gamma=1.0, cycle=None, foreach=False, **arguments):
    """Return every step's parameters and state: name -> (steps, ...), key -> slot -> (steps, ...).

    cycle: a momentum, step -> value, set in the group before every step as schedulers do.
    """
    parameters = {key: torch.nn.Parameter(torch.tensor(value)) for key, value in start.items()}
    options = {} if name == "sparse_adam" else {"foreach": foreach}
    rate = RATES.get(name, 0.01)
    with double_scalars():
        optimizer = TORCH[name](parameters.values(), lr=rate, **options, **arguments)
        scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma)
        values, states = [], []
        for step in range(len(noise["bias"])):
            if cycle:
                group = optimizer.param_groups[0]
                if "betas" in group:
                    group["betas"] = (cycle(step), group["betas"][1])
                else:
                    group["momentum"] = cycle(step)
            for key, parameter in parameters.items():
                free = torch.tensor(noise[key][step]) + parameter.detach().tanh()
                gradient = torch.tensor(masks[key][step]) * free
                parameter.grad = gradient.to_sparse(1) if name == "sparse_adam" else gradient
            optimizer.step()
            scheduler.step()
            values.append({key: p.detach().numpy().copy() for key, p in parameters.items()})
            states.append(
                {
                    key: {
                        slot: torch.as_tensor(value).numpy().copy()
                        for slot, value in optimizer.state[p].items()
                        if value is not None
                    }
                    for key, p in parameters.items()
                }
            )
    return stacked(values), stacked(states)


@contextmanager
def double_scalars():
    """Keep the scalars of torch's states in float64, and its threads from waiting for each other.

    On arrays this small a second thread makes a step of SparseAdam forty times slower.
    """
    threads = torch.get_num_threads()
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_num_threads(threads)


def stacked(trees):
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)


def run_jax(tx, start, noise, masks):
    """Return what `run_torch` does, of `tx`, from one jitted scan."""

    def step(carry, inputs):
        params, state = carry
        noise, mask = inputs
        gradients = jax.tree.map(lambda w, n, m: m * (n + jnp.tanh(w)), params, noise, mask)
        params, state = optim.step(tx, gradients, state, params)
        return (params, state), (params, arrays(state))

    @jax.jit
    def run(start, noise, masks):
        return jax.lax.scan(step, (start, tx.init(start)), (noise, masks))[1]

    values, slots = run(*jax.tree.map(jnp.asarray, (start, noise, masks)))
    keys = {key: {slot: tree[key] for slot, tree in slots.items()} for key in start}
    return jax.tree.map(np.asarray, (values, keys))


def arrays(state):
    """Return torch's name -> tree of arrays of an optimizer's state, and its steps done."""
    kinds = (optim.State, optax.TraceState)
    nodes = jax.tree.leaves(state, is_leaf=lambda node: isinstance(node, kinds))
    found = {}
    for node in nodes:
        if isinstance(node, optax.TraceState):
            found["momentum_buffer"] = node.trace
        elif isinstance(node, optim.State):
            found.update(node.slots)
            some = next(iter(node.slots.values()))
            found["step"] = jax.tree.map(lambda _, node=node: node.step, some)
    return found


def assert_equal_runs(got, want, *, rtol=1e-11, atol=1e-13):
    """Demand equal parameters and equal state arrays, of the same names, at every step."""
    values, states = want
    for key, value in values.items():
        np.testing.assert_allclose(got[0][key], value, rtol=rtol, atol=atol, err_msg=key)
        slots = got[1][key]
        counted = "step" in states[key]  # torch's SGD counts none
        assert set(slots) - (set() if counted else {"step"}) == set(states[key])
        for slot, array in states[key].items():
            assert slots[slot].shape == array.shape
            np.testing.assert_allclose(
                slots[slot], array, rtol=rtol, atol=atol, err_msg=f"{slot} of {key}"
            )


def create(name, arguments, *, gamma=1.0):
    """Build the optimizer here, under the exponential schedule unless gamma is 1."""
    rate = RATES.get(name, 0.01)
    if gamma == 1:
        return optim.create(name, rate, **arguments)
    return optim.create(name, schedules.create("exponential", rate, gamma=gamma), **arguments)
