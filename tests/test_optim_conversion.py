"""A run begun in torch.optim goes on here with equal steps, and back."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from optim_steps import GRID, RATES, TORCH, double_scalars

from jaxcnn import optim, schedules, weights

SHAPES = {
    "conv": {"bias": (4,), "kernel": (3, 2, 2, 4)},
    "bn": {"bias": (4,), "scale": (4,)},
    "fc": {"kernel": (5, 3)},
}
NAMES = ["fc.weight", "conv.weight", "conv.bias", "bn.weight", "bn.bias"]  # no tree's order
CASES = [(name, grid[-1]) for name, grid in GRID.items()]  # most arrays in the state
CASES += [("sgd", {}), ("sgd", {"momentum": 0.9}), ("sgd", {"momentum": 0.9, "dampening": 0.3})]
CASES += [("adam", {}), ("rmsprop", {})]


@pytest.fixture
def torch64(float64):
    with double_scalars():
        yield


def draw(seed):
    rng = np.random.default_rng(seed)
    draws = lambda shape: jnp.asarray(rng.normal(size=shape))  # noqa: E731
    return jax.tree.map(draws, SHAPES, is_leaf=lambda node: isinstance(node, tuple))


def tensors(params):
    found = weights.to_torch({"params": params})
    return [torch.tensor(found[key]) for key in NAMES]


def rate(name):
    return RATES.get(name, 0.01)


class Theirs:
    def __init__(self, name, params, arguments):
        self.parameters = [torch.nn.Parameter(value) for value in tensors(params)]
        options = {} if name == "sparse_adam" else {"foreach": False}
        self.sparse = name == "sparse_adam"
        self.optimizer = TORCH[name](self.parameters, lr=rate(name), **options, **arguments)

    def advance(self, steps):
        for step in steps:
            for parameter, noise in zip(self.parameters, tensors(draw(step)), strict=True):
                gradient = noise + parameter.detach().tanh()
                parameter.grad = gradient.to_sparse(1) if self.sparse else gradient
            self.optimizer.step()

    def params(self, template):
        named = dict(zip(NAMES, self.parameters, strict=True))
        return weights.from_torch(named, {"params": template})["params"]


def advancing(tx):
    @jax.jit
    def step(params, state, noise):
        gradients = jax.tree.map(lambda w, n: n + jnp.tanh(w), params, noise)
        updates, state = tx.update(gradients, state, params)
        return optax.apply_updates(params, updates), state

    def advance(params, state, steps):
        for i in steps:
            params, state = step(params, state, draw(i))
        return params, state

    return advance


def as_tensors(state_dict):
    state = jax.tree.map(
        lambda v: torch.from_numpy(v) if isinstance(v, np.ndarray) else v, state_dict["state"]
    )
    return {**state_dict, "state": state}


def group(name, arguments):
    return [{"params": NAMES, "lr": rate(name), **arguments}]


@pytest.mark.parametrize(("name", "arguments"), CASES, ids=str)
def test_a_run_goes_on_on_the_other_side(name, arguments, torch64):
    template = draw(0)
    theirs = Theirs(name, template, arguments)
    theirs.advance(range(1, 4))
    schedule = schedules.create("exponential", rate(name), gamma=1.0)
    tx = optim.create(name, schedule, **arguments)
    start = tx.init(template)
    counted = 3 if name == "sgd" else None
    state = optim.from_torch(theirs.optimizer.state_dict(), start, NAMES, step=counted)
    assert jax.tree.map(jnp.shape, state) == jax.tree.map(jnp.shape, start)
    assert jax.tree.map(lambda a: a.dtype, state) == jax.tree.map(lambda a: a.dtype, start)

    back = optim.to_torch(name, state, group(name, arguments))
    want = theirs.optimizer.state_dict()
    assert set(back["state"]) == set(want["state"])
    for index, slots in want["state"].items():
        kept = {slot: value for slot, value in slots.items() if value is not None}
        assert set(back["state"][index]) == set(kept)
        for slot, value in kept.items():
            assert np.array_equal(back["state"][index][slot], torch.as_tensor(value).numpy()), slot
    shared = {key: want["param_groups"][0][key] for key in back["param_groups"][0]}
    assert back["param_groups"] == [shared]

    advance = advancing(tx)
    params, state = advance(theirs.params(template), state, range(4, 7))
    theirs.advance(range(4, 7))
    check(params, theirs.params(template))

    again = Theirs(name, params, arguments)
    exported = optim.to_torch(name, state, group(name, arguments))
    again.optimizer.load_state_dict(as_tensors(exported))
    again.advance(range(7, 10))
    params, _ = advance(params, state, range(7, 10))
    check(params, again.params(template))


def check(got, want):
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-13)


def test_groups_go_on_too(torch64):
    params = draw(0)
    plain, rest = ["conv.bias", "bn.weight", "bn.bias"], ["fc.weight", "conv.weight"]
    named = dict(zip(NAMES, tensors(params), strict=True))
    settings = [{"weight_decay": 0.0}, {"weight_decay": 0.1}]
    optimizer = torch.optim.AdamW(
        [
            {"params": [torch.nn.Parameter(named[key]) for key in keys], **own}
            for keys, own in zip([plain, rest], settings, strict=True)
        ],
        lr=0.01,
    )
    for i, one in enumerate(p for own in optimizer.param_groups for p in own["params"]):
        one.grad = torch.full_like(one, 1.0 + i)
    optimizer.step()
    tx = optim.groups("adamw", 0.01, [(optim.NORMS_AND_BIASES, settings[0])], weight_decay=0.1)
    state = optim.from_torch(optimizer.state_dict(), tx.init(params), plain + rest)
    groups = [
        {"params": plain, "lr": 0.01, "weight_decay": 0.0},
        {"params": rest, "lr": 0.01, "weight_decay": 0.1},
    ]
    back = optim.to_torch("adamw", state, groups)
    assert [own["params"] for own in back["param_groups"]] == [[0, 1, 2], [3, 4]]
    for index, slots in optimizer.state_dict()["state"].items():
        for slot, value in slots.items():
            assert np.array_equal(back["state"][index][slot], value.numpy())


def test_before_the_first_step_there_is_no_state():
    params = draw(0)
    tx = optim.adam()
    fresh = tx.init(params)
    exported = optim.to_torch("adam", fresh, group("adam", {}))
    assert exported["state"] == {}
    assert optim.from_torch(exported, fresh, NAMES) is fresh


def test_errors_name_what_does_not_fit():
    params = draw(0)
    tx = optim.adam()
    fresh = tx.init(params)
    _, state = advancing(tx)(params, fresh, [1])
    good = optim.to_torch("adam", state, group("adam", {}))

    def without(slot, value=None):
        changed = {index: dict(slots) for index, slots in good["state"].items()}
        changed[0].pop(slot, None)
        if value is not None:
            changed[0][slot] = value
        return {**good, "state": changed}

    sgd = optim.sgd(0.1, momentum=0.9, dampening=0.5)
    _, damped = advancing(sgd)(params, sgd.init(params), [1])
    uncounted = optim.to_torch("sgd", damped, group("sgd", {"momentum": 0.9, "dampening": 0.5}))
    for state_dict, template, names, message in [
        (good, fresh, NAMES[:-1], "5 parameters in the state_dict, 4 names"),
        (without("exp_avg"), fresh, NAMES, r"exp_avg: .*\s+missing: fc.weight"),
        (without("exp_avg", np.ones(3)), fresh, NAMES, "wrong shape: fc.weight"),
        (without("square", np.ones(3)), fresh, NAMES, r"unexpected in this optimizer: \['square'"),
        (without("step", np.float32(7)), fresh, NAMES, r"steps must be one, got \[1, 7\]"),
        (uncounted, sgd.init(params), NAMES, "counts no steps; give step="),
    ]:
        with pytest.raises(ValueError, match=message):
            optim.from_torch(state_dict, template, names)
    with pytest.raises(ValueError, match=r"steps must be one, got \[1, 2\]"):
        optim.from_torch(good, fresh, NAMES, step=2)
    with pytest.raises(ValueError, match="step must be at least 1 .* got 0"):
        optim.from_torch(uncounted, sgd.init(params), NAMES, step=0)
    for name, groups, message in [
        ("adan", group("adam", {}), "unknown optimizer 'adan'"),
        ("adam", group("adam", {"momentum": 0.9}), "'adam' has no momentum"),
        ("adam", [{"params": NAMES}], "a parameter group lacks lr"),
        ("adam", [{"params": NAMES[:-1], "lr": 0.1}], "state is of the parameters .*bn.bias"),
    ]:
        with pytest.raises(ValueError, match=message):
            optim.to_torch(name, state, groups)
