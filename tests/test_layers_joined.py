"""Images side by side in their channels, by our own CPU code beside XLA's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcnn.layers import forms, join, join_so_far

pytestmark = pytest.mark.usefixtures("float64", "own_code")


def drawn(channels, seed=0, batch=2):
    rng = np.random.default_rng(seed)
    return [jnp.asarray(rng.normal(size=(batch, 5, 3, c))) for c in channels]


# One, two and many; tasks of a pixel and of many; nothing to join.
@pytest.mark.parametrize("channels", [(3,), (1, 2), (32, 7, 1, 5), (9000, 3), (0, 4)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_values(channels, dtype):
    images = [part.astype(dtype) for part in drawn(channels)]
    joined = jax.jit(join)(images)
    assert joined.dtype == dtype
    np.testing.assert_array_equal(joined, np.concatenate(images, axis=-1))


def test_derivatives_of_any_order_and_vmap():
    images, direction = drawn((4, 3, 2)), drawn((4, 3, 2), 1)
    weights = drawn((9,), 2)[0]

    def loss(images):
        return jnp.sum(jnp.sin(join(images)) * weights)

    def of_gradient(images):
        return sum(jnp.sum(jnp.cos(g)) for g in jax.grad(loss)(images))

    def everything():
        return {
            "gradient": jax.grad(loss)(images),
            "forward": jax.jvp(join, (images,), (direction,)),
            "second": jax.grad(of_gradient)(images),
            "mapped": jax.vmap(jax.grad(lambda images: jnp.sum(join(images) ** 2)))(
                [part[:, None] for part in images]
            ),
            "one of them mapped": jax.vmap(lambda part: join([part, *images[1:]]))(
                jnp.stack([images[0], direction[0]])
            ),
        }

    found = jax.jit(everything)()
    with forms.prefer("xla"):
        wanted = jax.jit(everything)()
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-14), found, wanted)


def test_gradients_are_added_up_layer_by_layer():
    """No kernel of the program reads the gradients of many layers, as XLA's does."""

    def loss(x):
        for i in range(12):
            x = join([jnp.tanh(jnp.roll(x, 1 + i, axis=1))[..., :2] * x[..., :1], x])
        return jnp.sum(jnp.sin(x))

    def most_arrays():
        text = jax.jit(jax.grad(lambda x: loss(x))).lower(images).compile().as_text()
        fusions = [line for line in text.splitlines() if " fusion(" in line]
        operands = [line.split(" fusion(")[1].split(")")[0].split(",") for line in fusions]
        return max(map(len, operands))

    (images,) = drawn((4,))
    own = most_arrays()
    with forms.prefer("xla"):
        assert own < most_arrays()


def test_joins_are_flat_where_they_are_not_written_down():
    images = drawn((2, 3))
    (joined,) = join_so_far(images)
    np.testing.assert_array_equal(joined, np.concatenate(images, axis=-1))
    with forms.prefer("xla"):
        assert join_so_far(images) == images


def test_what_does_not_fit_is_promoted_or_refused_as_by_jax():
    images = drawn((2, 3))
    with jax.numpy_dtype_promotion("standard"):
        mixed = join([images[0].astype("float32"), images[1].astype("bfloat16")])
    assert mixed.dtype == "float32" and mixed.shape == (2, 5, 3, 5)
    assert join([images[0][0, 0], images[1][0, 0]]).shape == (3, 5)
    with pytest.raises(TypeError, match="concatenate"):
        jax.jit(join)([images[0], images[1][:, 1:]])
