"""BatchNorm2d against `torch.nn.BatchNorm2d`: outputs, gradients, running statistics."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from jaxcnn import weights
from jaxcnn.layers import BatchNorm2d
from parity import harness
from parity.compilation import precision
from parity.errors import assert_close
from parity.functions import compare
from parity.sides import to_nchw, to_nhwc

# What PyTorch's norm keeps.
FRESH = ("running_mean", "running_var", "num_batches_tracked")
SHAPES = [(4, 3, 5, 7), (1, 2, 3, 3), (2, 1, 1, 1), (1, 4, 1, 2), (8, 3, 1, 1)]


def twin_and_variables(channels, dtype="float64", **options):
    twin = torch.nn.BatchNorm2d(channels, **options)
    harness.randomise(twin, seed=1)
    twin = twin.to(getattr(torch, dtype))
    # Below a module of its own name the keys are the layer's.
    layer = BatchNorm2d(**options)
    template = layer.init(jax.random.key(0), jnp.zeros((2, 2, 2, channels), dtype), train=False)
    return twin, layer, weights.from_torch(twin.state_dict(), template)


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("eps", [1e-5, 1e-3])
def test_outputs_and_gradients(shape, eps, train, float64):
    twin, layer, variables = twin_and_variables(shape[1], eps=eps)
    stats = variables["batch_stats"]

    def ours(x, scale, bias):
        params = {"scale": scale, "bias": bias}
        return layer.apply(
            {"params": params, "batch_stats": stats}, x, train=train, mutable=["batch_stats"]
        )[0]

    def theirs(x, scale, bias):
        return torch.nn.functional.batch_norm(
            x, twin.running_mean.clone(), twin.running_var.clone(), scale, bias, train, 0.1, eps
        )

    arguments = {
        "x": np.random.default_rng(0).normal(0.5, 2, shape),
        "scale": twin.weight.detach().numpy(),
        "bias": twin.bias.detach().numpy(),
    }
    got, want = compare(ours, theirs, arguments)
    # Of two values each is the other's mirror image: the input's gradient is nearly nothing, and
    # rounding in the variance is all of it.
    few = train and shape[0] * shape[2] * shape[3] == 2
    assert_close(got, want, rtol=1e-9 if few else 1e-12)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("shape", [SHAPES[0], SHAPES[4]])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("track", [True, False])
def test_second_gradients_with_and_without_parameters_and_statistics(
    track, affine, shape, train, dtype
):
    with precision(dtype):
        twin, layer, variables = twin_and_variables(
            shape[1], dtype, affine=affine, track_running_stats=track
        )
    stats = {"batch_stats": variables["batch_stats"]} if track else {}

    def ours(x, scale=None, bias=None):
        params = {"params": {"scale": scale, "bias": bias}} if affine else {}
        return layer.apply({**params, **stats}, x, train=train, mutable=["batch_stats"])[0]

    def theirs(x, scale=None, bias=None):
        running = [twin.running_mean.clone(), twin.running_var.clone()] if track else [None, None]
        training = train or not track
        return torch.nn.functional.batch_norm(x, *running, scale, bias, training)

    arguments = {"x": np.random.default_rng(0).normal(0.5, 2, shape).astype(dtype)}
    if affine:
        arguments["scale"] = twin.weight.detach().numpy()
        arguments["bias"] = twin.bias.detach().numpy()
    got, want = compare(ours, theirs, arguments, second=True)
    # In evaluation the output is a line in x, whose second gradient is zero.
    zeros = [n for n in want if n.startswith("second")]
    assert_close(got, want, rtol=1e-11 if dtype == "float64" else 1e-4, zeros=zeros)


FIFTY = [  # shape, arguments
    ((2, 3, 4, 5), {"momentum": 0.1}),
    ((2, 3, 4, 5), {"momentum": 0.01}),
    ((2, 3, 4, 5), {"momentum": 0.9}),
    ((2, 3, 4, 5), {"momentum": 1.0}),
    ((2, 3, 4, 5), {"momentum": 0.0}),
    ((2, 3, 4, 5), {"momentum": None}),
    ((2, 1, 1, 1), {"momentum": None}),
    ((2, 1, 1, 1), {"momentum": 0.1, "eps": 1e-3}),
    ((7, 4, 1, 1), {"momentum": 0.01, "eps": 0.1}),
    ((1, 2, 3, 1), {"momentum": 1.0, "affine": False}),
    ((1, 2, 1, 5), {"momentum": None, "affine": False}),
    ((3, 6, 2, 2), {"momentum": 0.1, "affine": False, "eps": 1e-3}),
    ((3, 6, 2, 2), {"momentum": 0.01, "affine": False}),
    ((2, 3, 4, 5), {"track_running_stats": False}),
    ((2, 3, 4, 5), {"track_running_stats": False, "affine": False}),
    ((2, 1, 1, 1), {"track_running_stats": False, "momentum": None, "eps": 1e-2}),
]


@pytest.mark.parametrize(("shape", "options"), FIFTY)
def test_fifty_batches(shape, options, float64):
    twin, layer, variables = twin_and_variables(shape[1], **options)
    track = options.get("track_running_stats", True)
    start = int(twin.num_batches_tracked) if track else 0
    step = jax.jit(lambda v, x: layer.apply(v, x, train=True, mutable=["batch_stats"]))
    rng = np.random.default_rng(0)
    twin.train()
    for _ in range(50):
        x = rng.normal(rng.normal(), rng.uniform(0.5, 3), shape)
        want_out = twin(torch.from_numpy(x))
        out, updated = step(variables, jnp.asarray(to_nhwc(x)))
        variables = {**variables, **updated}
    want = {key: value.numpy() for key, value in twin.named_buffers()}
    got = weights.to_torch(updated)
    assert set(want) == (set(FRESH) if track else set())
    if track:
        assert int(twin.num_batches_tracked) == start + 50
    twin.eval()
    x = rng.normal(2, 1, shape)
    want["training"] = want_out.detach().numpy()
    want["evaluation"] = twin(torch.from_numpy(x)).detach().numpy()
    got["training"] = to_nchw(out)
    got["evaluation"] = to_nchw(layer.apply(variables, jnp.asarray(to_nhwc(x)), train=False))
    assert_close(got, want, rtol=1e-9 if shape == (2, 1, 1, 1) else 1e-12)


def test_variables_without_parameters_or_statistics():
    images = jnp.ones((2, 3, 3, 4))

    def names(**options):
        variables = BatchNorm2d(**options).init(jax.random.key(0), images, train=True)
        twin = torch.nn.BatchNorm2d(4, **options).state_dict()
        assert set(weights.to_torch(variables)) == set(twin)
        return set(variables)

    assert names(affine=False) == {"batch_stats"}
    assert names(track_running_stats=False) == {"params"}
    assert names(affine=False, track_running_stats=False) == set()


@pytest.mark.parametrize("train", [True, False])
def test_without_statistics_every_batch_is_its_own(train):
    layer = BatchNorm2d(affine=False, track_running_stats=False, name="norm")
    x = jnp.asarray(np.random.default_rng(0).normal(5, 3, (4, 6, 6, 2)), jnp.float32)
    out = np.asarray(layer.apply({}, x, train=train))
    np.testing.assert_allclose(out.mean((0, 1, 2)), 0, atol=1e-6)
    np.testing.assert_allclose(out.std((0, 1, 2)), 1, rtol=1e-5)
    when = "when training" if train else "without running statistics"
    with pytest.raises(ValueError, match=f"'norm': expected more than 1 value per channel {when}"):
        layer.apply({}, x[:1, :1, :1], train=train)


@pytest.mark.parametrize("momentum", [0.1, None])
def test_biased_running_variance(momentum, float64):
    """As Keras keeps it: the mean of the batches' own variances, by hand."""
    layer = BatchNorm2d(momentum=momentum, unbiased=False)
    rng = np.random.default_rng(0)
    batches = rng.normal(1, 2, (5, 2, 3, 2, 4))
    variables = layer.init(jax.random.key(0), jnp.asarray(batches[0]), train=False)
    want = np.ones(4)
    for i, x in enumerate(batches):
        _, updated = layer.apply(variables, jnp.asarray(x), train=True, mutable=["batch_stats"])
        variables = {**variables, **updated}
        weight = 1 / (i + 1) if momentum is None else momentum
        want = (1 - weight) * want + weight * x.var((0, 1, 2))
    np.testing.assert_allclose(variables["batch_stats"]["var"], want, rtol=1e-13)


def test_fresh_variables_are_pytorchs():
    layer = BatchNorm2d()
    variables = layer.init(jax.random.key(0), jnp.ones((2, 3, 3, 5)), train=True)
    want = torch.nn.BatchNorm2d(5).state_dict()
    got = weights.to_torch(variables)
    assert set(got) == set(want)
    for key, value in want.items():
        np.testing.assert_array_equal(got[key], value.numpy(), strict=True)


def test_float32_variance_where_the_mean_is_large():
    x = np.random.default_rng(0).normal(1000, 1, (8, 16, 16, 4)).astype(np.float32)
    layer = BatchNorm2d()
    variables = layer.init(jax.random.key(0), jnp.asarray(x), train=False)
    out, updated = layer.apply(variables, jnp.asarray(x), train=True, mutable=["batch_stats"])
    exact = x.astype(np.float64)
    want = (exact - exact.mean((0, 1, 2))) / np.sqrt(exact.var((0, 1, 2)) + 1e-5)
    assert np.abs(out - want).max() < 1e-3, "the images' own rounding is 6e-5"
    variance = 0.9 + 0.1 * exact.var((0, 1, 2), ddof=1)
    np.testing.assert_allclose(updated["batch_stats"]["var"], variance, rtol=1e-5)
    # What E[x^2] - E[x]^2 would have given: the test can tell.
    one_pass = (x * x).mean((0, 1, 2), dtype=np.float32) - x.mean((0, 1, 2), dtype=np.float32) ** 2
    assert np.abs(one_pass - exact.var((0, 1, 2))).max() > 1e-2


def test_statistics_stay_unless_mutable_and_in_evaluation():
    layer = BatchNorm2d()
    x = jnp.asarray(np.random.default_rng(0).normal(3, 2, (2, 3, 3, 2)), jnp.float32)
    variables = layer.init(jax.random.key(0), x, train=True)
    frozen = layer.apply(variables, x, train=True)
    out, updated = layer.apply(variables, x, train=True, mutable=["batch_stats"])
    np.testing.assert_array_equal(frozen, out)
    assert int(updated["batch_stats"]["num_batches_tracked"]) == 1
    _, same = layer.apply(variables, x, train=False, mutable=["batch_stats"])
    jax.tree.map(np.testing.assert_array_equal, same["batch_stats"], variables["batch_stats"])


def test_running_statistics_carry_no_gradient(float64):
    _, layer, variables = twin_and_variables(2)

    def running(x):
        _, updated = layer.apply(variables, x, train=True, mutable=["batch_stats"])
        return sum(jnp.sum(updated["batch_stats"][name]) for name in ("mean", "var"))

    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 3, 2)))
    np.testing.assert_array_equal(jax.grad(running)(x), 0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dtypes(dtype):
    with precision(dtype):
        layer = BatchNorm2d(momentum=None)
        x = jnp.ones((2, 3, 3, 2), dtype)
        out, variables = layer.init_with_output(jax.random.key(0), x, train=True)
        _, updated = layer.apply(variables, x, train=True, mutable=["batch_stats"])
        count = updated["batch_stats"].pop("num_batches_tracked")
        assert count.dtype == jnp.int32
        assert {leaf.dtype.name for leaf in jax.tree.leaves((out, updated))} == {dtype}


def test_vmap_over_networks(float64):
    _, layer, variables = twin_and_variables(2)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(3, 4, 3, 3, 2)))
    apply = lambda x: layer.apply(variables, x, train=True, mutable=["batch_stats"])  # noqa: E731
    out, updated = jax.jit(jax.vmap(apply))(x)
    for i in range(3):
        one, stats = apply(x[i])
        np.testing.assert_allclose(out[i], one, rtol=1e-12, atol=1e-13)
        for name, value in stats["batch_stats"].items():
            np.testing.assert_allclose(updated["batch_stats"][name][i], value, rtol=1e-12)


def test_errors_name_the_layer():
    layer = BatchNorm2d(name="norm")
    x = jnp.ones((1, 1, 1, 3))
    variables = layer.init(jax.random.key(0), x, train=False)
    with pytest.raises(ValueError, match=r"BatchNorm2d 'norm': expected more than 1 value per ch"):
        layer.apply(variables, x, train=True, mutable=["batch_stats"])
    with pytest.raises(ValueError, match=r"BatchNorm2d 'norm': images must be .* got shape \(2, 3"):
        layer.init(jax.random.key(0), jnp.ones((2, 3)), train=False)
    assert layer.apply(variables, x, train=False).shape == x.shape
