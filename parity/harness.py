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

from jaxcnn import losses, weights
from parity.compilation import compiled, precision
from parity.errors import assert_close, errors
from parity.pair import Pair, arrays, make_pair, pair
from parity.randomise import randomise
from parity.sides import (
    OUTPUT,
    Arrays,
    Sides,
    heads,
    named,
    to_nchw,
    to_nhwc,
    training_loss,
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

INPUT = "input"
# Layers with weights from which on a network trains for 10 steps only: its programs take a minute
# to compile, and its runs amplify rounding by a factor of two to five a step.
DEEP = 30


def outputs(pair: Pair, *, train: bool) -> Sides:
    """Compare the network's output, or outputs, in training (train) or evaluation mode."""
    got, want = _forward(pair, train)

    def of_the_network(calls: Arrays) -> Arrays:
        return {n: a for n, a in calls.items() if n == OUTPUT or n.startswith(f"{OUTPUT}.")}

    return of_the_network(got), of_the_network(want)


def activations(pair: Pair, *, train: bool) -> Sides:
    """Compare the output of every module, in PyTorch's order of execution, and the network's own.

    A module that is called repeatedly counts its calls: `relu`, `relu[1]`, ... Modules that hold
    other modules (Sequential, blocks) and `torch.nn.Flatten` may exist on one side only; with
    `pair.functional`, so may any module without parameters.

    Raises:
        ValueError: layers that exist on one side only (all are listed).
    """
    got, want = _forward(pair, train)
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

    The loss is the mean cross-entropy where the output is (B, K), auxiliary heads counted as in
    training; else the outputs' mean after multiplication by fixed random numbers.
    """
    images, labels = pair.batch(0)
    module = pair.twin(train=train)
    inputs = torch.from_numpy(to_nchw(images)).requires_grad_()
    out = module(inputs)
    rng = np.random.default_rng(pair.seed)
    directions = {
        name: rng.normal(size=head.shape).astype(pair.dtype) for name, head in heads(out).items()
    }
    if pair.logits:
        loss = training_loss(out, labels)
    else:
        parts = heads(out).items()
        loss = sum((head * torch.from_numpy(directions[name])).mean() for name, head in parts)
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
            per_example = losses.with_auxiliary(losses.cross_entropy, out, jnp.asarray(labels))
            return jnp.mean(per_example)
        return sum(jnp.mean(head * to_nhwc(directions[n])) for n, head in heads(out).items())

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
        stats = pair.variables.get("batch_stats", {})
        for i in range(batches):
            images, _ = pair.batch(i)
            pair.share_masks(module, i)
            with torch.no_grad():
                module(torch.from_numpy(to_nchw(images)))
            stats = pair.update_statistics(stats, jnp.asarray(images), pair.dropout_key(i))
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
    "20 steps, decay per step": Comparison(
        trajectory, 1e-10, lambda pair: pair.logits and pair.depth <= DEEP
    ),
    "10 steps, decay per epoch": Comparison(
        partial(trajectory, steps=10, gamma=0.5, steps_per_epoch=3), 1e-9, attrgetter("logits")
    ),
}


def _forward(pair: Pair, train: bool) -> Sides:
    """Return every module's output on both sides, computed once for a pair."""
    if train not in pair.forwards:
        pair.forwards[train] = _run_forward(pair, train)
    return pair.forwards[train]


def _run_forward(pair: Pair, train: bool) -> Sides:
    images, _ = pair.batch(0)
    with precision(pair.dtype):
        apply = partial(
            pair.apply,
            train=train,
            rngs={"dropout": pair.dropout_key()},
            mutable=["batch_stats", "intermediates"],
            capture_intermediates=True,
        )
        out, updated = compiled(apply)(pair.variables, jnp.asarray(images))
        calls = named(updated.get("intermediates", {}), "__call__")
        got: dict[str, list[np.ndarray]] = {}
        for name, values in {**calls, "": [out]}.items():
            for value in values:
                for place, tensor in _placed(name, value).items():
                    got.setdefault(place, []).append(to_nchw(tensor))

    want: dict[str, list[np.ndarray]] = {}
    module = pair.twin(train=train)

    def record(name, _module, _inputs, out):
        # A copy, and at once: an in-place ReLU behind this module overwrites its output.
        for place, tensor in _placed(name, out).items():
            want.setdefault(place, []).append(tensor.detach().clone().numpy())

    for name, child in module.named_modules():
        child.register_forward_hook(partial(record, name))
    with torch.no_grad():
        module(torch.from_numpy(to_nchw(images)))
    return _per_call(got), _per_call(want)


def _placed(name: str, out) -> dict:
    """Return what a module returned under its name; the network itself has the name ""."""
    return {head.replace(OUTPUT, name or OUTPUT, 1): tensor for head, tensor in heads(out).items()}


def _per_call(calls) -> Arrays:
    return {
        f"{name}[{i}]" if i else name: value
        for name, values in calls.items()
        for i, value in enumerate(values)
    }
