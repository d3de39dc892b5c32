"""`lbfgs` on other losses: Rosenbrock, a carry, batch norm, NaN, float32; vmap; its errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from lbfgs_steps import Ours, Theirs, batches, difference, relative, start
from optim_steps import double_scalars

from jaxcnn import schedules
from jaxcnn.optim.lbfgs import lbfgs

SEARCHES = pytest.mark.parametrize("line_search_fn", [None, "strong_wolfe"])


def rosenbrock(w):
    return (1 - w[0]) ** 2 + 100 * (w[1] - w[0] ** 2) ** 2


def in_torch(loss, w, calls, **arguments):
    """Return parameters, first loss and counts after every call."""
    parameter = torch.nn.Parameter(torch.tensor(w))
    optimizer = torch.optim.LBFGS([parameter], **arguments)

    def closure():
        optimizer.zero_grad()
        value = loss(parameter)
        value.backward()
        return value

    rows = []
    for _ in range(calls):
        value = optimizer.step(closure).item()
        state = optimizer.state[parameter]
        counts = state["func_evals"], state["n_iter"]
        rows.append(([*parameter.tolist(), value], counts))
    return rows


@SEARCHES
def test_rosenbrock(line_search_fn, float64):
    """Three calls: the curved valley makes ten times as much of a difference in each."""
    arguments = {"line_search_fn": line_search_fn, "max_iter": 5, "history_size": 3}
    lr = 0.01 if line_search_fn is None else 1.0
    with double_scalars():
        wanted = in_torch(rosenbrock, [-1.2, 1.0], 3, lr=lr, **arguments)
    optimizer = lbfgs(lr, **arguments)

    @jax.jit
    def step(w, state, count):
        def loss(w, count):
            return rosenbrock(w), count + 1

        return optimizer.step(loss, w, state, count)

    w, count = jnp.array([-1.2, 1.0]), jnp.zeros((), jnp.int32)
    state = optimizer.init(w)
    for values, (evals, iterations) in wanted:
        w, state, value, count = step(w, state, count)
        np.testing.assert_allclose([*w, value], values, rtol=1e-11)
        assert int(count) == int(state.func_evals) == evals
        assert int(state.n_iter) == iterations
    if line_search_fn:
        w, *_ = lbfgs(max_iter=100, line_search_fn="strong_wolfe").step(
            rosenbrock, w, lbfgs().init(w)
        )
        np.testing.assert_allclose(w, 1, atol=1e-6)


@SEARCHES
def test_nothing_moves_where_the_gradient_is_zero(line_search_fn):
    optimizer = lbfgs(line_search_fn=line_search_fn, history_size=2)
    w = jnp.array([1.0, 1.0])
    new, state, value, carry = optimizer.step(rosenbrock, w, optimizer.init(w))
    assert np.array_equal(new, w) and value == 0 and carry is None
    assert [int(n) for n in state[:4]] == [1, 1, 0, 0]


@SEARCHES
def test_a_loss_that_is_nan_ends_as_in_torch(line_search_fn):
    arguments = {"line_search_fn": line_search_fn, "max_iter": 6, "history_size": 2}
    nan = float("nan")
    wanted = in_torch(lambda w: (w * nan).sum(), [1.0, 2.0], 2, **arguments)
    optimizer = lbfgs(**arguments)
    w = jnp.array([1.0, 2.0])
    state = optimizer.init(w)
    for values, counts in wanted:
        w, state, value, _ = optimizer.step(lambda w: jnp.sum(w * nan), w, state)
        np.testing.assert_array_equal([*w, value], values)
        assert (int(state.func_evals), int(state.n_iter)) == counts


def normalized(inputs, weight):
    """Return the outputs of a linear layer and batch norm, with the statistics of the batch."""
    outputs = inputs @ weight
    mean = outputs.mean(0)
    variance = ((outputs - mean) ** 2).mean(0)
    return (outputs - mean) / (variance + 1e-5) ** 0.5, mean, variance


@SEARCHES
def test_batch_norm_statistics_are_carried(line_search_fn, float64):
    rng = np.random.default_rng(0)
    weight, inputs, targets = (rng.normal(size=s) for s in ((3, 2), (8, 3), (8, 2)))
    arguments = {"line_search_fn": line_search_fn, "max_iter": 4, "history_size": 3}
    with double_scalars():
        linear = torch.nn.Linear(3, 2, bias=False)
        norm = torch.nn.BatchNorm1d(2, affine=False)
        linear.weight.data = torch.tensor(weight.T.copy())
        theirs = torch.optim.LBFGS([linear.weight], **arguments)

        def closure():
            theirs.zero_grad()
            error = norm(linear(torch.tensor(inputs))) - torch.tensor(targets)
            value = (error**2).mean() + 0.1 * (linear.weight**2).sum()
            value.backward()
            return value

        for _ in range(3):
            theirs.step(closure)
    optimizer = lbfgs(**arguments)

    def loss(params, stats):
        outputs, mean, variance = normalized(inputs, params["kernel"])
        new = {"mean": mean, "var": variance * (8 / 7)}
        stats = jax.tree.map(lambda old, now: 0.9 * old + 0.1 * now, stats, new)
        penalty = 0.1 * jnp.sum(params["kernel"] ** 2)
        return jnp.mean((outputs - targets) ** 2) + penalty, stats

    step = jax.jit(lambda *run: optimizer.step(loss, *run))
    params, stats = {"kernel": jnp.asarray(weight)}, {"mean": jnp.zeros(2), "var": jnp.ones(2)}
    state = optimizer.init(params)
    for _ in range(3):
        params, state, _, stats = step(params, state, stats)
    assert relative(params["kernel"], linear.weight.detach().numpy().T) <= 1e-11
    assert relative(stats["mean"], norm.running_mean.numpy()) <= 1e-11
    assert relative(stats["var"], norm.running_var.numpy()) <= 1e-11
    assert int(state.func_evals) == int(norm.num_batches_tracked)


@SEARCHES
def test_float32_is_near_torchs(line_search_fn):
    """By float32's rounding, from torch's state before every call."""
    values = {key: value.astype(np.float32) for key, value in start().items()}
    arguments = {
        "line_search_fn": line_search_fn,
        "history_size": 5,
        "max_iter": 3,
        "tolerance_change": 1e-4,
    }
    ours, theirs = Ours(values, **arguments), Theirs(values, **arguments)
    for calls, batch in enumerate(batches(5)):
        if calls:
            ours.take_over(theirs, calls)
        value, wanted = ours.step(batch), theirs.step(batch)
        assert ours.state.d.dtype == jnp.float32
        assert max(difference(ours, theirs), relative(value, wanted)) <= 1e-3


@SEARCHES
def test_states_can_be_mapped(line_search_fn, float64):
    """Runs that end after different numbers of iterations, side by side and one by one."""
    optimizer = lbfgs(
        schedules.create("exponential", 0.3, gamma=0.9),
        line_search_fn=line_search_fn,
        max_iter=7,
        history_size=2,
        tolerance_grad=1e-2,
    )

    def run(w):
        def loss(w, count):
            return jnp.sum(w**2 + jnp.sin(2 * w)), count + 1

        first = optimizer.step(loss, w, optimizer.init(w), jnp.zeros((), jnp.int32))
        return optimizer.step(loss, first[0] + 1, first[1], first[3])

    starts = jnp.asarray(np.random.default_rng(0).normal(size=(6, 3)))
    starts = starts.at[0].set(-0.52)
    got = jax.jit(jax.vmap(run))(starts)
    one = jax.jit(run)
    wanted = jax.tree.map(lambda *leaves: jnp.stack(leaves), *[one(w) for w in starts])
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-10)
    counts = np.asarray(got[3])
    assert np.array_equal(counts, got[1].func_evals) and len(set(counts.tolist())) > 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"learning_rate": -0.1}, "learning_rate must be >= 0, got -0.1"),
        ({"max_iter": 0}, "max_iter must be an integer >= 1, got 0"),
        ({"max_iter": 2.0}, "max_iter must be an integer >= 1, got 2.0"),
        ({"max_eval": 0}, "max_eval must be an integer >= 1, got 0"),
        ({"history_size": 0}, "history_size must be an integer >= 1, got 0"),
        ({"tolerance_grad": -1.0}, "tolerance_grad must be >= 0, got -1.0"),
        ({"tolerance_change": float("nan")}, "tolerance_change must be >= 0, got nan"),
        ({"line_search_fn": "wolfe"}, "line_search_fn must be None or 'strong_wolfe', got 'wolfe'"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=f"^lbfgs: {message}$"):
        lbfgs(**arguments)


def test_bad_trees_are_named():
    optimizer, w = lbfgs(history_size=3), jnp.zeros(2)
    for params in ({}, jnp.zeros(2, jnp.int32), [w, w.astype(jnp.float16)]):
        with pytest.raises(ValueError, match="^lbfgs: params must be of one floating dtype, got"):
            optimizer.init(params)
    with pytest.raises(ValueError, match=r"^lbfgs: state must be of 3 float32 .* \(3, 2\)"):
        optimizer.step(jnp.sum, jnp.zeros(3), optimizer.init(w))
    with pytest.raises(ValueError, match="^lbfgs: loss must return a carry like float32"):
        optimizer.step(lambda w, c: (jnp.sum(w), (c, c)), w, optimizer.init(w), jnp.zeros(()))
