"""Linear, flatten, ReLU and Dropout against PyTorch's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax.errors import ScopeParamShapeError
from test_layers_conv import assert_uniform

from jaxcnn.layers import BatchNorm2d, Conv2d, Dropout, Linear, ReLU, flatten, forms
from parity.errors import assert_close
from parity.functions import compare


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("shape", "features"),
    # The last one's product is long enough for our own CPU code.
    [((4, 7), 6), ((1, 1), 6), ((2, 3, 5), 6), ((3, 11, 500), 70)],
)
def test_linear(shape, features, bias, dtype):
    rng = np.random.default_rng(0)
    values = {"x": rng.normal(size=shape), "weight": rng.normal(size=(features, shape[-1]))}
    if bias:
        values["bias"] = rng.normal(size=features)

    def ours(x, weight, bias=None):
        params = {"kernel": weight} if bias is None else {"kernel": weight, "bias": bias}
        return Linear(features, bias=bias is not None).apply({"params": params}, x)

    values = {name: value.astype(dtype) for name, value in values.items()}
    got, want = compare(ours, linear, values)
    assert_close(got, want, rtol=1e-12 if dtype == "float64" else 1e-5)


def linear(x, weight, bias=None):
    return torch.nn.functional.linear(x, weight, bias)


@pytest.mark.parametrize("layer", [Linear(3), Conv2d(3, 1), BatchNorm2d()])
def test_a_parameter_of_another_shape_gets_linens_error(layer):
    """Layers look their parameters up without Linen, which would trace their distributions."""
    calls = {"train": True, "mutable": ["batch_stats"]} if isinstance(layer, BatchNorm2d) else {}
    variables = layer.init(jax.random.key(0), jnp.ones((2, 1, 2, 5)), **{**calls, "mutable": True})
    name = next(iter(variables["params"]))
    variables["params"][name] = jnp.ones((7, 3))
    with pytest.raises(ScopeParamShapeError, match=rf'"{name}".*shape \(7, 3\)'):
        layer.apply(variables, jnp.ones((2, 1, 2, 5)), **calls)


def test_form_of_linear(own_code):
    def form(rows, features, dtype="float32"):
        x = jax.ShapeDtypeStruct((rows, 784), dtype)
        return forms.linear(x, jax.ShapeDtypeStruct((784, features), dtype))

    assert form(32, 500) == "direct"
    assert form(32, 10) == form(1000, 500) == form(0, 500) == "product"
    assert form(32, 500, "bfloat16") == "product"
    with forms.prefer("xla"):
        assert form(32, 500) == "product"


def test_linear_initial_values_are_distributed_as_pytorchs():
    params = Linear(300).init(jax.random.key(0), jnp.zeros((1, 50)))["params"]
    assert params["kernel"].shape == (50, 300)
    torch.manual_seed(0)
    twin = torch.nn.Linear(50, 300)
    for values in (params["kernel"], params["bias"], twin.weight.detach(), twin.bias.detach()):
        assert_uniform(values, 1 / np.sqrt(50))
    assert not np.isin(params["bias"], params["kernel"]).all()
    other = Linear(300).init(jax.random.key(1), jnp.zeros((1, 50)))["params"]
    assert not np.array_equal(other["kernel"], params["kernel"])
    assert set(Linear(3, bias=False).init(jax.random.key(0), jnp.zeros((1, 2)))["params"]) == {
        "kernel"
    }


def test_linear_under_vmap(float64):
    layer = Linear(4)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(5, 3)))
    keys = jax.random.split(jax.random.key(0), 3)
    stacked = jax.vmap(lambda key: layer.init(key, x))(keys)
    out = jax.jit(jax.vmap(lambda v: layer.apply(v, x)))(stacked)
    for i in range(3):
        one = layer.apply(jax.tree.map(lambda leaf, i=i: leaf[i], stacked), x)
        np.testing.assert_allclose(out[i], one, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (1, 1, 1, 1), (2, 512, 1, 1), (3, 1, 2, 7)])
def test_flatten_walks_channels_first(shape):
    x = np.random.default_rng(0).normal(size=shape)
    got, want = compare(flatten, lambda images: torch.flatten(images, 1), {"images": x})
    for name in want:
        np.testing.assert_array_equal(got[name], want[name], strict=True)


def test_flatten_errors():
    with pytest.raises(ValueError, match=r"flatten: images must be .* got shape \(2, 3\)"):
        flatten(jnp.zeros((2, 3)))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_relu(dtype):
    x = np.random.default_rng(0).normal(size=(3, 50))
    x[0, :10] = 0
    x[1, :3] = [-0.0, np.inf, -np.inf]
    got, want = compare(
        lambda x: ReLU().apply({}, x),
        lambda x: torch.nn.functional.relu(x),
        {"x": x.astype(dtype)},
    )
    for name in want:
        np.testing.assert_array_equal(got[name], want[name], strict=True)
    assert not want["gradient of x"][0, :10].any(), "the gradient at 0 is 0"


def drop(p, x, key=0, train=True):
    return Dropout(p, name="drop").apply({}, x, train=train, rngs={"dropout": jax.random.key(key)})


@pytest.mark.parametrize("p", [0.1, 0.5, 0.8])
def test_dropout_share_scale_and_gradient(p, float64):
    x = jnp.asarray(np.random.default_rng(0).uniform(1, 2, (100, 20, 20, 5)))
    out, pull = jax.vjp(lambda x: drop(p, x), x)
    mask = np.asarray(out != 0)
    assert 1 - mask.mean() == pytest.approx(p, abs=5 * np.sqrt(p * (1 - p) / mask.size))
    np.testing.assert_allclose(out, np.where(mask, x / (1 - p), 0), rtol=1e-15)
    (gradient,) = pull(jnp.ones_like(x))
    np.testing.assert_allclose(gradient, mask / (1 - p), rtol=1e-15)
    # Every channel, row, column and image drops for itself.
    for axis in range(4):
        share = mask.mean(tuple(a for a in range(4) if a != axis))
        assert np.abs(share - (1 - p)).max() < 6 * np.sqrt(p * (1 - p) * x.shape[axis] / x.size)


def test_dropout_draws_anew_with_every_key():
    x = jnp.ones((50, 50))
    assert np.array_equal(drop(0.5, x), drop(0.5, x))
    assert not np.array_equal(drop(0.5, x), drop(0.5, x, key=1))


def test_dropout_extremes_and_evaluation():
    x = jnp.asarray([1.0, -2.0, 3.0])
    np.testing.assert_array_equal(drop(0.0, x), x)
    np.testing.assert_array_equal(drop(1.0, x), 0)
    assert drop(0.7, x, train=False) is x
    assert Dropout(0.7).apply({}, x, train=False) is x, "evaluation needs no key"
    np.testing.assert_array_equal(jax.grad(lambda x: drop(1.0, x).sum())(x), 0)


def test_dropout_sows_its_mask_where_asked():
    x = jnp.ones((4, 5))
    rngs = {"dropout": jax.random.key(0)}
    layer = Dropout(0.5)
    out, sown = layer.apply({}, x, train=True, rngs=rngs, mutable=["dropout_masks"])
    (mask,) = sown["dropout_masks"]["mask"]
    np.testing.assert_array_equal(out, np.asarray(mask) * 2.0)
    assert layer.apply({}, x, train=True, rngs=rngs, mutable=["batch_stats"])[1] == {}


@pytest.mark.parametrize("p", [-0.1, 1.5, float("nan")])
def test_dropout_errors_name_the_layer_and_the_value(p):
    with pytest.raises(ValueError, match=rf"Dropout 'drop': p must be in \[0, 1\], got {p}"):
        drop(p, jnp.ones(3))
