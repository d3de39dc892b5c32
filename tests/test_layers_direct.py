"""The direct form of convolutions: values, gradients of both kinds and of any order, `vmap`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from precisions import PRECISIONS
from test_layers_conv import GRID, arguments, check
from test_layers_conv_groups import DEPTHWISE, GROUPED

from jaxcnn.layers import conv2d, forms
from parity.errors import assert_close
from parity.functions import mapped

pytestmark = pytest.mark.usefixtures("own_code")


@pytest.fixture(autouse=True)
def always_direct(monkeypatch):
    monkeypatch.setattr(forms, "conv", lambda *_: "direct")


# Channels that fill vectors of every width: (batch, in, height, width), (out, kh, kw), arguments.
WIDE = [
    ((2, 8, 9, 20), (8, 3, 3), {"groups": 2, "padding": 1}),
    ((1, 32, 7, 11), (16, 3, 2), {"groups": 2, "stride": 2, "padding": 1}),
    ((1, 48, 5, 9), (148, 2, 3), {"groups": 4, "dilation": (1, 2), "padding": (1, 2)}),
    ((2, 20, 6, 13), (128, 3, 3), {"groups": 1, "stride": (2, 3), "padding": (0, 1)}),
    ((1, 130, 4, 5), (6, 1, 1), {"groups": 2, "stride": 3}),
    ((3, 24, 8, 15), (24, 3, 3), {"groups": 24, "padding": 1}),
    ((1, 101, 9, 10), (101, 3, 3), {"groups": 101, "stride": 2, "padding": 2, "dilation": 2}),
    ((2, 64, 3, 3), (64, 5, 5), {"groups": 64, "padding": 2}),
    ((2, 17, 9, 4), (17, 2, 4), {"groups": 17, "padding": (1, 3), "stride": (3, 1)}),
    ((1, 6, 1, 1), (4, 3, 3), {"groups": 2, "padding": 4, "stride": 5}),  # windows of zeros only
    ((2, 3, 11, 9), (70, 5, 7), {"stride": 2, "padding": (2, 3)}),
    ((1, 1, 8, 6), (13, 3, 5), {"padding": 2, "dilation": (1, 2)}),
    ((2, 130, 5, 6), (35, 3, 3), {"padding": 1, "stride": 2}),
    ((3, 21, 2, 2), (200, 3, 3), {"padding": 1}),
    ((2, 9, 7, 8), (5, 1, 1), {"stride": (2, 3)}),
    ((1, 2, 1, 1), (3, 3, 3), {"padding": 4, "stride": 5}),
    ((1, 64, 1, 1), (3, 2, 2), {"padding": 40, "stride": 81}),  # far in front of the image
    # Enough numbers and padding for taps outside of the image to be left out; many kinds of pixels.
    ((9, 64, 9, 8), (70, 5, 5), {"padding": 4}),
    ((20, 120, 4, 3), (50, 3, 3), {"padding": 1}),
    ((5, 128, 7, 2), (17, 3, 3), {"padding": 2, "dilation": 2}),
    ((6, 96, 5, 5), (130, 4, 4), {"padding": 3, "stride": 2}),
    ((2, 300, 1, 1), (40, 2, 3), {"padding": 1}),
]
# Rows of 7, 8, 12 and more outputs of three taps each, as many channels a group as fill a vector.
ROWS = [
    ((2, 2 * channels, height, width), (2 * channels, taps, 3), {"groups": 2} | options)
    for channels in (8, 16)
    for height, width, taps, options in [
        (5, 7, 3, {"padding": 1}),
        (4, 14, 3, {"padding": 1, "stride": 2}),
        (6, 15, 3, {"padding": 1, "stride": (3, 2)}),
        (3, 13, 3, {"padding": (0, 1)}),
        (2, 16, 3, {"padding": 1}),
        (2, 18, 1, {}),
        (5, 35, 2, {"stride": 2, "dilation": (2, 1)}),
        (3, 9, 3, {"padding": 2}),
    ]
]
ROWS += [((1, 24, 4, 8), (48, 3, 3), {"groups": 3, "padding": 1})]  # of either pass alone

# Products of few pixels and a kernel of one: blocks of all sizes, several panels and a part of one.
PRODUCTS = [
    ((32, 40, 1, 1), (65, 1, 1), {}),
    ((3, 9, 5, 3), (7, 1, 1), {}),
    ((1, 150, 1, 13), (100, 1, 1), {"dilation": 3}),
    ((2, 1, 1, 1), (1, 1, 1), {}),
    ((4, 31, 8, 8), (33, 1, 1), {}),
]


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize(
    ("images", "kernel", "options"), GRID + GROUPED + DEPTHWISE + WIDE + ROWS + PRODUCTS
)
def test_every_shape(images, kernel, options, dtype):
    check(images, kernel, options, dtype, zeros={"gradient of x", "gradient of weight"})


@pytest.mark.parametrize(
    ("images", "kernel", "options"), [*GRID[1:12:3], *GROUPED[:3], *DEPTHWISE[:4], WIDE[0], ROWS[1]]
)
def test_gradients_of_gradients(images, kernel, options):
    check(images, kernel, options, "float64", second=True)


@pytest.mark.parametrize(
    ("images", "kernel", "options"), [GRID[1], GROUPED[0], DEPTHWISE[1], WIDE[0]]
)
def test_vmap(images, kernel, options):
    got, want = mapped(
        lambda x, weight, bias: conv2d(x, weight, bias, **options),
        arguments(images, kernel, "float64", **options),
    )
    assert_close(got, want, rtol=1e-12)


@st.composite
def convolutions(draw):
    groups, per_group = draw(st.sampled_from([(1, 5), (2, 8), (3, 17), (2, 33), (40, 1), (7, 1)]))
    out = groups if per_group == 1 else groups * draw(st.sampled_from([1, 4, 24, 67]))
    kernel, dilation, stride = (
        draw(st.tuples(st.integers(1, most), st.integers(1, most))) for most in (4, 3, 4)
    )
    padding = draw(st.tuples(st.integers(0, 3), st.integers(0, 3)))
    size = [
        max(1, d * (k - 1) + 1 - 2 * p + draw(st.integers(0, 20)))
        for k, d, p in zip(kernel, dilation, padding, strict=True)
    ]
    images = (draw(st.integers(1, 3)), groups * per_group, *size)
    options = {"padding": padding, "dilation": dilation, "stride": stride, "groups": groups}
    return images, (out, *kernel), options


@settings(max_examples=40, deadline=None, derandomize=True)
@given(convolutions())
def test_random_arguments(case):
    check(*case, "float64", zeros={"gradient of x", "gradient of weight"})


def test_no_images_and_a_large_batch(float64, monkeypatch):
    """None, and so many that every thread has several tasks."""
    rng = np.random.default_rng(0)
    kernel = jnp.asarray(rng.normal(size=(3, 3, 4, 8)))
    assert conv2d(jnp.zeros((0, 5, 5, 8)), kernel, groups=2).shape == (0, 3, 3, 8)
    images = jnp.asarray(rng.normal(size=(64, 24, 24, 8)))

    def form(name):
        def loss(images, kernel):
            with forms.prefer(name):
                out = conv2d(images, kernel, padding=1, groups=2)
            return jnp.sum(jnp.sin(out)), out

        return jax.value_and_grad(loss, (0, 1), has_aux=True)(images, kernel)

    monkeypatch.undo()
    ((_, out), gradients), ((_, want), wanted) = form("native"), form("xla")
    for ours, theirs in ((out, want), *zip(gradients, wanted, strict=True)):
        np.testing.assert_allclose(ours, theirs, atol=1e-12 * float(jnp.abs(theirs).max()))


def test_nothing_leaks_from_a_group():
    for groups, channels in ((2, 16), (32, 32)):
        images = jnp.ones((1, 4, 4, channels)).at[0, 1, 1, 0].set(jnp.nan)
        kernel = jnp.ones((3, 3, channels // groups, channels))
        out = conv2d(images, kernel, groups=groups, padding=1)
        own = channels // groups
        assert jnp.isnan(out[..., :own]).any() and jnp.isfinite(out[..., own:]).all()


def test_forward_derivatives(float64):
    """Of a convolution, alone and of its gradient, beside those of XLA's form."""
    rng = np.random.default_rng(1)
    shapes = (2, 7, 6, 5), (3, 3, 5, 9), (9,)
    values, directions = ([jnp.asarray(rng.normal(size=s)) for s in shapes] for _ in range(2))

    def outputs(*arrays):
        return jnp.sin(conv2d(*arrays, stride=2, padding=1))

    def derivatives():
        gradient = jax.grad(lambda *arrays: jnp.sum(outputs(*arrays) ** 2), (0, 1, 2))
        return jax.jvp(outputs, values, directions), jax.jvp(gradient, values, directions)

    got = derivatives()
    assert "jaxcnn_outputs" in str(jax.make_jaxpr(derivatives)())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(forms, "conv", lambda *_: "matrix_product")
        want = derivatives()
    for ours, theirs in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-12 * float(jnp.abs(theirs).max()))


def test_a_jitted_function_follows_the_preference(monkeypatch):
    monkeypatch.undo()
    function = jax.jit(lambda x, kernel: conv2d(x, kernel))
    arrays = jnp.ones((1, 5, 5, 4)), jnp.ones((3, 3, 4, 4))
    for form in ("native", "xla", "native"):
        with forms.prefer(form):
            text = function.lower(*arrays).as_text()
        assert ("jaxcnn_outputs" in text) == (form == "native")


def test_an_unknown_preference():
    with pytest.raises(ValueError, match="form='torch': expected 'native' or 'xla'"):
        with forms.prefer("torch"):
            pass


def test_padding_on_one_side_leads_far_from_the_images(float64):
    """Windows in front of the images only; gradients' windows behind the outputs only."""
    rng = np.random.default_rng(2)
    for size, kernel, options in (
        (1, 3, {"padding": ((90, 0), (90, 0)), "stride": 99}),
        (1, 5, {"padding": ((300, 0), (300, 0)), "stride": 100, "dilation": 63}),
    ):
        images = jnp.asarray(rng.normal(size=(1, size, size, 32)))
        weights = jnp.asarray(rng.normal(size=(kernel, kernel, 32, 8)))

        def derivatives(images=images, weights=weights, options=options):
            out, pull = jax.vjp(lambda *a: conv2d(*a, **options), images, weights)
            return out, *pull(jnp.ones(out.shape))

        got = derivatives()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(forms, "conv", lambda *_: "matrix_product")
            want = derivatives()
        for ours, theirs in zip(got, want, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12)
