"""A batch norm's sums by our own CPU code beside XLA's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from jaxcnn.layers import BatchNorm2d, forms, masking, moments, normalised
from jaxcnn.native import FUNCTIONS

pytestmark = pytest.mark.usefixtures("float64", "own_code")


# Chunks of every width, and more numbers than are added up at once.
SHAPES = [(3, 5, 7, 19), (2, 1, 1, 3), (1, 3, 2, 1), (4, 9, 8, 128), (2, 40, 33, 24)]


def close(got, wanted, bound=1e-12):
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
        if a.dtype != jax.dtypes.float0:
            np.testing.assert_allclose(a, b, rtol=bound, atol=bound * (1 + np.abs(b).max()))


def drawn(shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("counting", ["all", "some"])
def test_both_forms_give_the_same_derivatives_of_any_order(shape, counting):
    """Forward and reverse, over each other, and under `vmap`; also where some images fill up."""
    images, direction, weights = (drawn(shape, seed) for seed in range(3))
    norm = BatchNorm2d()
    mask = jnp.arange(shape[0]) % 3 != 1 if counting == "some" else None
    stats = norm.init(jax.random.key(0), images, train=True)["batch_stats"]
    params = {"scale": drawn(shape[3:], 3), "bias": drawn(shape[3:], 4)}

    def outputs(params, images):
        variables = {"params": params, "batch_stats": stats}
        with masking.counting(mask):
            return norm.apply(variables, images, train=True, mutable="batch_stats")

    def loss(params, images):
        return jnp.sum(jnp.sin(outputs(params, images)[0]) * weights)

    def of_gradients(params, images):
        return sum(jnp.sum(jnp.cos(g)) for g in jax.tree.leaves(gradient(params, images)))

    gradient = jax.grad(loss, (0, 1))

    def everything():
        return {
            "outputs": outputs(params, images),
            "gradient": gradient(params, images),
            "forward": jax.jvp(lambda x: outputs(params, x), (images,), (direction,)),
            "over reverse": jax.jvp(lambda x: gradient(params, x), (images,), (direction,)),
            "second": jax.grad(of_gradients, (0, 1))(params, images),
            "mapped": jax.vmap(gradient, (None, 0))(params, jnp.stack([images, direction])),
            "each": jax.grad(lambda x: jnp.sum(jax.vmap(alone)(x) * weights))(images[:, None]),
        }

    def alone(images):
        mean, variance = moments.moments(images)
        return moments.scaled(images, mean, params["scale"], variance)[0]

    with forms.prefer("xla"):
        wanted = jax.jit(everything)()
    close(jax.jit(everything)(), wanted)


def test_the_gradient_by_each_argument():
    images, centre = drawn((3, 4, 5, 6)), drawn((6,), 1)
    factor, bias = drawn((6,), 2), drawn((6,), 3)
    got = jax.jacrev(moments.scaled, (0, 1, 2, 3))(images, centre, factor, bias)
    wanted = jax.jacrev(lambda x, m, a, c: (x - m) * a + c, (0, 1, 2, 3))(
        images, centre, factor, bias
    )
    close(got, wanted)
    close(jax.jacfwd(moments.scaled, (0, 1, 2, 3))(images, centre, factor, bias), wanted)


@pytest.mark.parametrize("mean", [1e3, 1e6])
def test_what_is_large_against_its_deviation_keeps_it(mean):
    """float32: a sum of squares would keep nothing, a mean in float32 little."""
    images = np.random.default_rng(0).normal(mean, 1, (16, 32, 32, 8)).astype(np.float32)
    found, variance = moments.moments(jnp.asarray(images))
    exact = images.astype(np.float64)
    assert found.dtype == variance.dtype == np.float32
    np.testing.assert_allclose(found, exact.mean((0, 1, 2)), rtol=1e-7)
    np.testing.assert_allclose(variance, exact.var((0, 1, 2)), rtol=mean * 1e-8)


@pytest.mark.parametrize("mask", [None, (True, False)])
def test_the_norm_of_a_train_step_is_the_librarys(mask):
    """Neither form is chosen silently: the program calls the library, and none under "xla"."""
    norm, images = BatchNorm2d(), drawn((2, 3, 3, 4))
    mask = None if mask is None else jnp.array(mask)
    variables = norm.init(jax.random.key(0), images, train=True)

    def loss(params):
        stats = {"params": params, "batch_stats": variables["batch_stats"]}
        with masking.counting(mask):
            return norm.apply(stats, images, train=True, mutable="batch_stats")[0].sum()

    def program():
        return jax.jit(jax.grad(lambda params: loss(params))).lower(variables["params"]).as_text()

    for name in ("normal", "norm_gradient"):
        assert f"jaxcnn_{name}_float64" in program()
        with forms.prefer("xla"):
            assert f"jaxcnn_{name}_float64" not in program()


def applied(norm, images, mask=None, **changed):
    """Return what a norm in training makes of images, by each form."""
    variables = norm.init(jax.random.key(0), images, train=False)
    params = variables["params"] | changed.pop("params", {})
    stats = variables["batch_stats"] | changed.pop("stats", {})

    def outputs(images):
        with masking.counting(mask):
            changed = {"params": params, "batch_stats": stats}
            return norm.apply(changed, images, train=True, mutable="batch_stats")

    with forms.prefer("xla"):
        wanted = jax.jit(lambda x: outputs(x))(images)
    return jax.jit(outputs)(images), wanted


def test_the_library_is_not_called_with_what_does_not_fit():
    """It would read and write beyond the arrays."""
    norm, images = BatchNorm2d(), drawn((2, 3, 3, 4))
    for name in ("mean", "var"):
        with pytest.raises(ValueError, match=rf"expected a running {name} of shape \(4,\), got"):
            applied(norm, images, stats={name: jnp.ones(5)})
    with pytest.raises(ValueError, match=r"expected a mask of 2 images, got \(3,\)"):
        applied(norm, images, jnp.ones(3, bool))
    one, few = jnp.ones(4), jnp.ones(3)
    with pytest.raises(ValueError, match=r"images: expected \(B, H, W, C\), got \(3, 3, 4\)"):
        moments.moments(images[0])
    for arguments in ((images, few, one, one), (images, one, one.astype("float32"), one)):
        with pytest.raises(ValueError, match=r"expected \(4,\), float64 with them, got"):
            moments.scaled(*arguments)
    with pytest.raises(ValueError, match=r"expected \(2, 3, 3, 4\), float64 with them, got"):
        moments.products(images[1:], images, one)
    for arguments in ((one, few), (few, one)):
        with pytest.raises(ValueError, match=r"expected \(4,\), float64 with them, got \(3,\)"):
            normalised.normalised(images, *arguments, 1e-5)
    with pytest.raises(ValueError, match=r"expected \(2,\), bool with them, got \(1,\)"):
        normalised.normalised(images, one, one, 1e-5, jnp.ones(1, bool))
    with pytest.raises(ValueError, match="expected four arrays"):
        normalised.moved((one, one), (one, few), 0.1, 1.0)


@pytest.mark.parametrize("eps", [np.array(1e-3), np.float64(1e-3), 1])
def test_eps_is_any_number(eps):
    close(*applied(BatchNorm2d(eps=eps), drawn((2, 3, 3, 4))))


def test_eps_is_traced():
    images = drawn((2, 3, 3, 4))

    def summed(eps):
        norm = BatchNorm2d(eps=eps, track_running_stats=False)
        scale = {"scale": drawn((4,), 1), "bias": drawn((4,), 2)}
        return jnp.sum(jnp.cos(norm.apply({"params": scale}, images, train=True)))

    step = 1e-4
    slope = (summed(0.1 + step) - summed(0.1 - step)) / (2 * step)
    np.testing.assert_allclose(jax.grad(summed)(0.1), slope, rtol=1e-6)


def test_number_types_side_by_side_are_promoted():
    norm, images = BatchNorm2d(), drawn((2, 3, 3, 4))
    half = {"scale": drawn((4,), 1).astype("float32"), "bias": drawn((4,), 2).astype("float32")}
    stats = {"mean": jnp.zeros(4, "float32"), "var": jnp.ones(4, "float32")}
    variables = {"params": half, "batch_stats": stats | {"num_batches_tracked": jnp.int32(0)}}
    with jax.numpy_dtype_promotion("standard"):
        close(*applied(norm, images, params=half, stats=stats))
        assert norm.apply(variables, images, train=False).dtype == "float64"


def test_programs_for_any_number_of_images():
    """`jax.export` with a symbol for the batch."""
    norm, images = BatchNorm2d(), drawn((5, 3, 3, 4))
    variables = norm.init(jax.random.key(0), images, train=False)

    def loss(images):
        trained, _ = norm.apply(variables, images, train=True, mutable="batch_stats")
        return jnp.sum(jnp.sin(trained) * norm.apply(variables, images, train=False))

    gradient = jax.jit(jax.value_and_grad(loss))
    (count,) = export.symbolic_shape("count")
    shape = jax.ShapeDtypeStruct((count, *images.shape[1:]), images.dtype)
    own = [f"jaxcnn_{name}_float64" for name in FUNCTIONS]
    allowed = [export.DisabledSafetyCheck.custom_call(name) for name in own]
    exported = export.export(gradient, disabled_checks=allowed)(shape)
    assert "custom_call @jaxcnn_moments" in exported.mlir_module()
    close(exported.call(images), gradient(images))
