"""The same L-BFGS steps here and in torch.optim, of a small network on a new batch every call."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch.nn.functional import linear

from jaxcnn import weights
from jaxcnn.optim.lbfgs import lbfgs
from jaxcnn.optim.lbfgs_conversion import lbfgs_from_torch, lbfgs_to_torch

NAMES = ["fc2.weight", "fc1.weight", "fc1.bias"]  # no tree's order
SHAPES = {"fc2.weight": (2, 4), "fc1.weight": (4, 3), "fc1.bias": (4,)}
TEMPLATE = {
    "fc1": {"kernel": np.zeros((3, 4)), "bias": np.zeros(4)},
    "fc2": {"kernel": np.zeros((4, 2))},
}
SCALE, DECAY = 0.1, 0.5
"""Of the loss and its penalty: see `loss`."""


def start():
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=shape) / 2 for name, shape in SHAPES.items()}


def batches(calls):
    rng = np.random.default_rng(1)
    inputs = rng.normal(size=(calls, 16, 3))
    targets = np.tanh(inputs @ rng.normal(size=(3, 2))) + 0.3 * rng.normal(size=(calls, 16, 2))
    return list(zip(inputs, targets, strict=True))


def loss(params, inputs, targets):
    """Return a loss on which L-BFGS does not amplify rounding.

    Without the penalty it does, as a chaotic map: two runs in torch itself that differ in the
    order of the parameters alone are 4e-12 apart after 60 iterations, 0.3 after 220.
    And the small scale lets the tolerances end a call before changes are mere rounding.
    """
    outputs = jnp.tanh(inputs @ params["fc1"]["kernel"] + params["fc1"]["bias"])
    error = outputs @ params["fc2"]["kernel"] - targets
    decay = sum(jnp.sum(w * w) for w in jax.tree.leaves(params))
    return SCALE * (jnp.mean(error * error) + DECAY * decay)


class Theirs:
    """A run in torch."""

    def __init__(self, values, *, gamma=1.0, **arguments):
        self.parameters = {k: torch.nn.Parameter(torch.tensor(values[k])) for k in NAMES}
        self.optimizer = torch.optim.LBFGS(self.parameters.values(), **arguments)
        self.scheduler = torch.optim.lr_scheduler.ExponentialLR(self.optimizer, gamma)

    def step(self, batch):
        some = next(iter(self.parameters.values()))
        inputs, targets = (torch.tensor(array).to(some.dtype) for array in batch)

        def closure():
            self.optimizer.zero_grad()
            fc2, fc1, bias = self.parameters.values()
            error = linear(torch.tanh(linear(inputs, fc1, bias)), fc2) - targets
            decay = sum((w * w).sum() for w in self.parameters.values())
            value = SCALE * ((error * error).mean() + DECAY * decay)
            value.backward()
            return value

        value = self.optimizer.step(closure).item()
        self.scheduler.step()
        return value

    def values(self):
        return {key: p.detach().numpy().copy() for key, p in self.parameters.items()}

    def state_dict(self):
        found = self.optimizer.state_dict()
        found["param_groups"][0].pop("initial_lr", None)  # the scheduler's
        return found


@functools.cache
def program(line_search_fn, history_size):
    """Return the jitted call; numbers are traced, so that few programs serve many arguments."""
    form = lbfgs(line_search_fn=line_search_fn, history_size=history_size)

    @jax.jit
    def call(gamma, numbers, params, state, inputs, targets):
        rate = numbers["learning_rate"]
        numbers = {**numbers, "learning_rate": lambda step: rate * gamma ** step.astype(float)}
        optimizer = dataclasses.replace(form, **numbers)
        return optimizer.step(lambda p: loss(p, inputs, targets), params, state)

    return call


class Ours:
    """A run here, whose state can be taken over from torch before any call."""

    def __init__(self, values, *, gamma=1.0, lr=1.0, **arguments):
        optimizer = lbfgs(lr, **arguments)
        self.gamma, self.numbers = gamma, dataclasses.asdict(optimizer)
        self.call = program(self.numbers.pop("line_search_fn"), self.numbers.pop("history_size"))
        self.group = {"params": NAMES, "lr": lr, **arguments}
        self.params = weights.from_torch(values, {"params": TEMPLATE})["params"]
        self.template = self.state = optimizer.init(self.params)

    def take_over(self, theirs, calls):
        self.params = weights.from_torch(theirs.values(), {"params": TEMPLATE})["params"]
        self.state = lbfgs_from_torch(
            theirs.state_dict(), self.template, self.params, NAMES, step=calls
        )

    def step(self, batch):
        batch = (jnp.asarray(array, self.state.d.dtype) for array in batch)
        self.params, self.state, value, _ = self.call(
            self.gamma, self.numbers, self.params, self.state, *batch
        )
        return float(value)

    def values(self):
        return weights.to_torch({"params": self.params})

    def state_dict(self):
        return lbfgs_to_torch(self.state, self.params, self.group)


def difference(ours, theirs):
    """Return the largest difference of parameters and states, of each array's largest element.

    Counts, and the lists' lengths, must be equal: infinite otherwise.
    """
    got, want = ours.values(), theirs.values()
    worst = max(relative(got[key], want[key]) for key in NAMES)
    got, want = ours.state_dict()["state"][0], dict(theirs.state_dict()["state"][0])
    want.pop("al", None)
    if set(got) != set(want):
        return np.inf
    for key, value in want.items():
        if isinstance(value, list):
            if len(got[key]) != len(value):
                return np.inf
            pairs = list(zip(got[key], value, strict=True))
            worst = max([worst, *(relative(a, b) for a, b in pairs)])
        elif key in ("func_evals", "n_iter"):
            worst = worst if got[key] == value else np.inf
        else:
            worst = max(worst, relative(got[key], value))
    return worst


def relative(got, want):
    want = np.asarray(want)
    return float(np.max(np.abs(got - want)) / max(np.max(np.abs(want)), np.finfo(float).tiny))
