"""Comparisons of one pair of networks, to the full depth.

Every function takes a `Pair` and returns `(got, want)`: what the Flax side and the torch side
computed, as dicts of NumPy arrays under PyTorch's names and in PyTorch's layout (NCHW), ready for
`assert_close`. A pair of the user's own comes from `make_pair`, one of this project's from `pair`.
"""

from collections.abc import Callable
from functools import partial
from operator import attrgetter
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch.nn.functional import cross_entropy

from jaxcnn import losses, weights
from parity.errors import assert_close, errors
from parity.pair import (
    Arrays,
    Pair,
    Sides,
    arrays,
    compiled,
    make_pair,
    named,
    pair,
    precision,
    randomise,
    to_nchw,
)
from parity.trajectory import LOSS, MOMENTUM, training, trajectory

__all__ = [
    "COMPARISONS",
    "INPUT",
    "LOSS",
    "MOMENTUM",
    "OUTPUT",
    "Pair",
    "activations",
    "assert_close",
    "errors",
    "gradients",
    "make_pair",
    "outputs",
    "pair",
    "randomise",
    "statistics",
    "training",
    "trajectory",
]

OUTPUT, INPUT = "output", "input"


def outputs(pair: Pair, *, train: bool) -> Sides:
    """Compare the network's output in training (train) or evaluation mode."""
    got, want = _forward(pair, train, capture=False)
    return {OUTPUT: got[OUTPUT]}, {OUTPUT: want[OUTPUT]}


def activations(pair: Pair, *, train: bool) -> Sides:
    """Compare the output of every module, in PyTorch's order of execution, and the network's own.

    A module that is called repeatedly counts its calls: `relu`, `relu[1]`, ... Modules that hold
    other modules (Sequential, blocks) and `torch.nn.Flatten` may exist on one side only; with
    `pair.functional`, so may any module without parameters.

    Raises:
        ValueError: layers that exist on one side only (all are listed).
    """
    got, want = _forward(pair, train, capture=True)
    modules = dict(pair.torch_module.named_modules())

    def optional(name: str, others: Arrays) -> bool:
        name = name.split("[")[0]
        if any(other.startswith(f"{name}.") for other in others):
            return True
        module = modules.get(name)
        if isinstance(module, torch.nn.Flatten | torch.nn.Identity):
            return True
        # Parameters have been matched by name already, so here only their absence is asked for.
        return pair.functional and not (module and any(True for _ in module.parameters()))

    alone = [f"torch only: {n}" for n in want if n not in got and not optional(n, want)]
    alone += [f"Flax only: {n}" for n in got if n not in want and not optional(n, got)]
    if alone:
        raise ValueError(f"{pair.name}: layers on one side only:\n  " + "\n  ".join(alone))
    common = [name for name in want if name in got]
    return {name: got[name] for name in common}, {name: want[name] for name in common}


def gradients(pair: Pair, *, train: bool) -> Sides:
    """Compare the loss' gradient with regard to every parameter and to the input.

    The loss is the mean cross-entropy where the output is (B, K), else the output's mean after
    multiplication by fixed random numbers.
    """
    images, labels = pair.batch(0)
    module = pair.twin(train=train)
    inputs = torch.from_numpy(to_nchw(images)).requires_grad_()
    out = module(inputs)
    direction = np.random.default_rng(pair.seed).normal(size=out.shape).astype(pair.dtype)
    if pair.logits:
        loss = cross_entropy(out, torch.from_numpy(labels).long())
    else:
        loss = (out * torch.from_numpy(direction)).mean()
    loss.backward()
    want = {
        name: np.zeros(tuple(p.shape), pair.dtype) if p.grad is None else p.grad.numpy()
        for name, p in module.named_parameters()
    }

    def objective(params, images):
        variables = {**pair.variables, "params": params}
        out, _ = pair.apply(
            variables,
            images,
            train=train,
            rngs={"dropout": pair.dropout_key()},
            mutable=["batch_stats"],
        )
        if pair.logits:
            return jnp.mean(losses.cross_entropy(out, jnp.asarray(labels)))
        weight = direction.transpose(0, 2, 3, 1) if direction.ndim == 4 else direction
        return jnp.mean(out * weight)

    with precision(pair.dtype):
        gradient = compiled(jax.grad(objective, argnums=(0, 1)))
        params, image = gradient(pair.variables["params"], jnp.asarray(images))
        got = weights.to_torch({"params": params})
        got[INPUT] = to_nchw(image)
    want[INPUT] = inputs.grad.numpy()
    return {name: got[name] for name in [*want, *(set(got) - set(want))] if name in got}, want


def keeps_statistics(pair: Pair) -> bool:
    """Return whether either side keeps statistics."""
    return bool(pair.variables.get("batch_stats")) or any(
        True for name, _ in pair.torch_module.named_buffers() if name not in pair.uncounted
    )


def statistics(pair: Pair, *, batches: int) -> Sides:
    """Compare the batch statistics and counters after training batches, the weights held fixed.

    Both sides are empty for a network that keeps no statistics.
    """
    module = pair.twin(train=True)
    with precision(pair.dtype):

        @compiled
        def update(stats, images, key):
            variables = {**pair.variables, "batch_stats": stats}
            _, updated = pair.apply(
                variables, images, train=True, rngs={"dropout": key}, mutable=["batch_stats"]
            )
            return updated.get("batch_stats", {})

        stats = pair.variables.get("batch_stats", {})
        for i in range(batches):
            images, _ = pair.batch(i)
            pair.share_masks(module, i)
            with torch.no_grad():
                module(torch.from_numpy(to_nchw(images)))
            stats = update(stats, jnp.asarray(images), pair.dropout_key(i))
        got = weights.to_torch({"batch_stats": stats})
    return got, arrays(dict(module.named_buffers()), pair)


class Comparison(NamedTuple):
    """One way to compare a pair.

    Attributes:
        compare: pair -> (got, want).
        budget: what a float64 pair may differ by (see `parity.errors`).
        applies: whether a pair has what is compared.
    """

    compare: Callable[[Pair], Sides]
    budget: float
    applies: Callable[[Pair], bool] = lambda pair: True


# Above rounding there is always a cause. Training amplifies rounding, by ReLUs and maxima that
# decide otherwise, so it has more room.
COMPARISONS = {
    "output, evaluation": Comparison(partial(outputs, train=False), 1e-12),
    "output, training": Comparison(partial(outputs, train=True), 1e-12),
    "activations, evaluation": Comparison(partial(activations, train=False), 1e-12),
    "activations, training": Comparison(partial(activations, train=True), 1e-12),
    "gradients, evaluation": Comparison(partial(gradients, train=False), 1e-11),
    "gradients, training": Comparison(partial(gradients, train=True), 1e-11),
    "statistics, 1 batch": Comparison(partial(statistics, batches=1), 1e-12, keeps_statistics),
    "statistics, 10 batches": Comparison(partial(statistics, batches=10), 1e-12, keeps_statistics),
    "20 steps, decay per step": Comparison(trajectory, 1e-10, attrgetter("logits")),
    "10 steps, decay per epoch": Comparison(
        partial(trajectory, steps=10, gamma=0.5, steps_per_epoch=3), 1e-10, attrgetter("logits")
    ),
}


def _forward(pair: Pair, train: bool, capture: bool) -> Sides:
    images, _ = pair.batch(0)
    with precision(pair.dtype):
        apply = partial(
            pair.apply,
            train=train,
            rngs={"dropout": pair.dropout_key()},
            mutable=["batch_stats", "intermediates"],
            capture_intermediates=capture,
        )
        out, updated = compiled(apply)(pair.variables, jnp.asarray(images))
        calls = named(updated.get("intermediates", {}), "__call__")
        got = {name: tuple(map(to_nchw, values)) for name, values in calls.items() if name}
        got[OUTPUT] = (to_nchw(out),)

    want: dict[str, list[np.ndarray]] = {}
    module = pair.twin(train=train)

    def record(name, _module, _inputs, out):
        # A copy, and at once: an in-place ReLU behind this module overwrites its output.
        want.setdefault(name or OUTPUT, []).append(out.detach().clone().numpy())

    for name, child in module.named_modules():
        if capture or not name:
            child.register_forward_hook(partial(record, name))
    with torch.no_grad():
        module(torch.from_numpy(to_nchw(images)))
    return _per_call(got), _per_call(want)


def _per_call(calls) -> Arrays:
    return {
        f"{name}[{i}]" if i else name: value
        for name, values in calls.items()
        for i, value in enumerate(values)
    }
