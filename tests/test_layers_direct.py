"""The direct form of grouped and depthwise convolutions: values, gradients, second gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from precisions import PRECISIONS
from test_layers_conv import arguments, check
from test_layers_conv_groups import DEPTHWISE, GROUPED

from jaxcnn import native
from jaxcnn.layers import conv, conv2d
from parity.errors import assert_close
from parity.functions import mapped


@pytest.fixture(autouse=True, scope="module")
def library():
    if not native.available():
        pytest.skip("no C++ compiler")


@pytest.fixture(autouse=True)
def always_direct(monkeypatch):
    monkeypatch.setattr(conv, "_form", lambda *_: conv._direct)


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
]


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize(("images", "kernel", "options"), GROUPED + DEPTHWISE + WIDE)
def test_every_shape(images, kernel, options, dtype):
    check(images, kernel, options, dtype, zeros={"gradient of x", "gradient of weight"})


@pytest.mark.parametrize(("images", "kernel", "options"), [*GROUPED[:3], *DEPTHWISE[:4], WIDE[0]])
def test_gradients_of_gradients(images, kernel, options):
    check(images, kernel, options, "float64", second=True)


@pytest.mark.parametrize(("images", "kernel", "options"), [GROUPED[0], DEPTHWISE[1], WIDE[0]])
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


def test_no_images_and_a_large_batch(float64):
    """None, and so many that every thread has several tasks."""
    rng = np.random.default_rng(0)
    kernel = jnp.asarray(rng.normal(size=(3, 3, 4, 8)))
    assert conv2d(jnp.zeros((0, 5, 5, 8)), kernel, groups=2).shape == (0, 3, 3, 8)
    images = jnp.asarray(rng.normal(size=(64, 24, 24, 8)))

    def form(which):
        def loss(images, kernel):
            out = which(images, kernel, (1, 1), ((1, 1), (1, 1)), (1, 1), 2)
            return jnp.sum(jnp.sin(out)), out

        return jax.value_and_grad(loss, (0, 1), has_aux=True)(images, kernel)

    ((_, out), gradients), ((_, want), wanted) = form(conv._direct), form(conv._split)
    for ours, theirs in ((out, want), *zip(gradients, wanted, strict=True)):
        np.testing.assert_allclose(ours, theirs, atol=1e-12 * float(jnp.abs(theirs).max()))


def test_nothing_leaks_from_a_group():
    for groups, channels in ((2, 16), (32, 32)):
        images = jnp.ones((1, 4, 4, channels)).at[0, 1, 1, 0].set(jnp.nan)
        kernel = jnp.ones((3, 3, channels // groups, channels))
        out = conv2d(images, kernel, groups=groups, padding=1)
        own = channels // groups
        assert jnp.isnan(out[..., :own]).any() and jnp.isfinite(out[..., own:]).all()
