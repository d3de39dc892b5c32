import inspect
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from optim_steps import GRID, RATES, TORCH, arrays, problem

from jaxcnn import optim, schedules

SGD = [
    {"momentum": m, "weight_decay": d, "nesterov": n}
    for m, d, n in itertools.product([0.0, 0.5, 0.9], [0.0, 5e-4, 0.1], [False, True])
    if m or not n
]
# What PyTorch's constructors take beyond the mathematics.
EXECUTION = {"params", "foreach", "capturable", "differentiable", "fused"}


def run_torch(start, gradients, arguments, gamma):
    parameter = torch.nn.Parameter(torch.from_numpy(start.copy()))
    optimizer = torch.optim.SGD([parameter], lr=0.1, **arguments)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma)
    values, buffers = [], []
    for gradient in gradients:
        # tanh has a stable minimum, so that rounding is not amplified over 100 steps.
        parameter.grad = torch.from_numpy(gradient) + parameter.detach().tanh()
        optimizer.step()
        scheduler.step()
        values.append(parameter.detach().numpy().copy())
        buffer = optimizer.state[parameter].get("momentum_buffer")
        buffers.append(None if buffer is None else buffer.numpy().copy())
    return values, buffers


@pytest.mark.parametrize("arguments", SGD, ids=str)
@pytest.mark.parametrize("gamma", [1.0, 0.98])
def test_sgd_steps_as_torch(arguments, gamma, float64):
    rng = np.random.default_rng(0)
    start, gradients = rng.normal(size=(5, 3)), rng.normal(size=(100, 5, 3))
    values, buffers = run_torch(start, gradients, arguments, gamma)
    schedule = schedules.create("exponential", 0.1, gamma=gamma)
    tx = optim.create("sgd", schedule, **arguments)

    @jax.jit
    def step(parameter, state, gradient):
        updates, state = tx.update(gradient + jnp.tanh(parameter), state, parameter)
        return optax.apply_updates(parameter, updates), state

    parameter = jnp.asarray(start)
    state = tx.init(parameter)
    for gradient, value, buffer in zip(gradients, values, buffers, strict=True):
        parameter, state = step(parameter, state, gradient)
        np.testing.assert_allclose(parameter, value, rtol=1e-12, atol=1e-13)
        traces = [s.trace for s in state if isinstance(s, optax.TraceState)]
        assert len(traces) == (buffer is not None)
        if traces:
            np.testing.assert_allclose(traces[0], buffer, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", TORCH)
def test_arguments_and_defaults_are_torchs(name):
    theirs = inspect.signature(TORCH[name].__init__).parameters
    want = {key: p.default for key, p in theirs.items() if key not in EXECUTION | {"self"}}
    ours = inspect.signature(optim.OPTIMIZERS[name]).parameters
    got = {key.replace("learning_rate", "lr"): p.default for key, p in ours.items()}
    assert got == want


@pytest.mark.parametrize("name", TORCH)
def test_state_is_data(name):
    """It can be mapped over, and given up to the next state."""
    start, noise, _ = problem(name, steps=3, dtype=np.float32)
    tx = optim.create(name, RATES.get(name, 0.01), **GRID[name][-1])
    params = {key: jnp.stack([value, -value]) for key, value in start.items()}
    gradients = {key: jnp.asarray(value[:2]) for key, value in noise.items()}

    def step(params, state, gradients):
        updates, state = tx.update(gradients, state, params)
        return optax.apply_updates(params, updates), state

    first = jax.tree.map(lambda value: value[0] + 0, params)  # copies: the step takes them
    alone = jax.jit(step, donate_argnums=(0, 1))
    one = alone(first, tx.init(first), jax.tree.map(lambda value: value[0], gradients))
    both = jax.jit(jax.vmap(step))(params, jax.vmap(tx.init)(params), gradients)
    jax.tree.map(lambda a, b: np.testing.assert_array_max_ulp(a, b[0], 4), one, both)


def test_update_needs_the_parameters():
    tx = optim.adam(0.1)
    with pytest.raises(ValueError, match="adam: update needs the parameters"):
        tx.update({"a": jnp.ones(2)}, tx.init({"a": jnp.ones(2)}))


def test_rprop_rests_where_the_sign_changes():
    """Five steps by hand: optax's updates come one step late."""
    tx = optim.rprop(0.1)
    state, steps = tx.init(jnp.zeros(())), []
    for gradient in (1.0, 1.0, 1.0, -1.0, -1.0):
        update, state = tx.update(jnp.asarray(gradient), state, jnp.zeros(()))
        steps.append(-float(update))
    np.testing.assert_allclose(steps, [0.1, 0.12, 0.144, 0.0, -0.072], rtol=1e-6)


def test_sparse_adam_leaves_rows_without_a_gradient():
    tx = optim.sparse_adam(0.1)
    params = jnp.ones((3, 2))
    _, state = tx.update(jnp.ones((3, 2)), tx.init(params), params)
    gradient = jnp.asarray([[0.0, 1.0], [0.0, 0.0], [1.0, 1.0]])
    update, after = tx.update(gradient, state, params)
    assert not update[1].any() and update[0].all() and update[2].all()
    for slot in ("exp_avg", "exp_avg_sq"):
        before, now = arrays(state)[slot], arrays(after)[slot]
        assert (before[1] == now[1]).all() and (before[0] != now[0]).all()


def test_errors_name_the_argument():
    for arguments, message in [
        ({"name": "sdg", "learning_rate": 0.1}, "unknown optimizer 'sdg'; known: .*sgd"),
        ({"name": "sgd", "learning_rate": -1}, "learning_rate must be >= 0, got -1"),
        (
            {"name": "sgd", "learning_rate": 1, "beta": 2},
            "'sgd' takes momentum, .*nesterov.*; got beta",
        ),
        ({"name": "sgd", "learning_rate": 1, "nesterov": True}, "nesterov needs a momentum"),
        ({"name": "sgd", "learning_rate": 1, "momentum": -0.5}, "momentum .* got -0.5"),
    ]:
        with pytest.raises(ValueError, match=message):
            optim.create(**arguments)


_MOMENTS = [
    {"betas": (1.0, 0.9)},
    {"betas": (0.9, -0.1)},
    {"betas": (0.9, 1.0)},
    {"eps": -1e-8},
    {"weight_decay": -1.0},
]
BAD = {
    "sgd": [
        {"momentum": -0.5},
        {"weight_decay": -1.0},
        {"nesterov": True},
        {"nesterov": True, "momentum": 0.9, "dampening": 0.1},
    ],
    "adam": _MOMENTS,
    "adamw": _MOMENTS,
    "adamax": _MOMENTS,
    "nadam": [*_MOMENTS, {"momentum_decay": -1.0}],
    "radam": _MOMENTS,
    "adagrad": [
        {"lr_decay": -1.0},
        {"weight_decay": -1.0},
        {"initial_accumulator_value": -1.0},
        {"eps": -1.0},
    ],
    "adadelta": [{"rho": 1.5}, {"rho": -0.5}, {"eps": -1.0}, {"weight_decay": -1.0}],
    "rmsprop": [{"alpha": -0.1}, {"eps": -1.0}, {"weight_decay": -1.0}, {"momentum": -0.9}],
    "rprop": [{"etas": (0.5, 0.9)}, {"etas": (1.0, 1.2)}, {"etas": (0.0, 1.2)}],
    "asgd": [{"weight_decay": -1.0}],
    "sparse_adam": [{"betas": (-0.5, 0.9)}, {"eps": 0.0}],
}


@pytest.mark.parametrize(
    ("name", "arguments"), [(name, a) for name, bad in BAD.items() for a in bad], ids=str
)
def test_what_torch_refuses_is_refused(name, arguments):
    with pytest.raises(ValueError, match=r"[Ii]nvalid|requires"):
        TORCH[name]([torch.nn.Parameter(torch.zeros(1))], lr=0.1, **arguments)
    key = next(iter(arguments))
    with pytest.raises(ValueError, match=rf"^{name}: .*{key}.* got"):
        optim.create(name, 0.1, **arguments)


def test_the_rest_of_the_errors():
    with pytest.raises(ValueError, match="betas must be two, got"):
        optim.adam(0.1, betas=(0.9,))  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"betas\[1\] must be in"):
        optim.adam(0.1, betas=(0.9, lambda step: 0.9))  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="sparse_adam: learning_rate must be > 0, got 0"):
        optim.create("sparse_adam", 0)


@pytest.mark.parametrize("name", optim.OPTIMIZERS)
def test_a_first_state_can_be_donated(name):
    """No array of it is another's: a training step is given all of them to write into."""
    params = {
        "fc1": {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)},
        "fc2": {"bias": jnp.ones(2)},
    }
    for learning_rate in (0.1, schedules.exponential(0.1, 1, gamma=0.9)):
        tx = optim.create(name, learning_rate)
        state = tx.init(params)
        places = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(state)]
        assert len(set(places)) == len(places)
