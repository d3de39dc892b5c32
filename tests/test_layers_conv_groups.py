"""Grouped and depthwise convolutions against `torch.nn.functional.conv2d`, in every form."""

import jax
import jax.numpy as jnp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from precisions import PRECISIONS
from test_layers_conv import arguments, check

from jaxcnn import native
from jaxcnn.layers import conv2d, forms
from parity.errors import assert_close
from parity.functions import mapped

# (batch, in, height, width), (out, kh, kw), arguments
GROUPED = [
    ((2, 4, 7, 6), (6, 3, 3), {"groups": 2, "padding": 1}),
    ((2, 4, 7, 6), (4, 3, 2), {"groups": 4, "stride": 2}),
    ((2, 3, 7, 6), (9, 3, 3), {"groups": 3, "dilation": 2, "padding": "same"}),
    ((1, 6, 5, 8), (3, 1, 1), {"groups": 3}),
    ((2, 6, 9, 5), (4, 3, 2), {"groups": 2, "stride": (2, 1), "padding": (1, 0)}),
    ((2, 4, 2, 3), (4, 3, 3), {"groups": 2, "padding": 1}),  # the image is smaller than the kernel
    ((1, 4, 8, 9), (2, 2, 3), {"groups": 2, "dilation": (3, 2), "padding": (2, 1)}),
    ((2, 6, 6, 7), (6, 3, 3), {"groups": 3, "padding": "valid"}),
    ((2, 4, 5, 6), (8, 2, 4), {"groups": 2, "padding": "same"}),
]
DEPTHWISE = [
    ((2, 3, 7, 6), (3, 3, 3), {"padding": 1}),
    ((2, 3, 7, 6), (3, 3, 3), {"stride": 2, "padding": 1}),
    ((2, 3, 8, 7), (6, 3, 3), {"padding": 1}),  # two features a channel
    ((1, 2, 9, 8), (6, 2, 3), {"stride": (3, 2)}),
    ((1, 2, 9, 8), (4, 3, 2), {"dilation": (2, 3), "padding": (1, 2)}),
    ((2, 2, 6, 9), (2, 1, 5), {"padding": "same"}),
    ((2, 2, 6, 9), (4, 4, 2), {"padding": "same", "dilation": 2}),
    ((2, 4, 5, 5), (4, 1, 1), {"stride": 2}),
    ((2, 2, 3, 2), (2, 5, 5), {"padding": 2}),
    ((1, 2, 4, 5), (2, 4, 5), {}),  # one output pixel
    ((1, 2, 5, 7), (2, 2, 2), {"stride": 4, "padding": "valid"}),
    ((2, 2, 9, 9), (2, 9, 9), {"padding": 4}),  # more taps than the depthwise form takes
]
DEPTHWISE = [(images, k, {**o, "groups": images[1]}) for images, k, o in DEPTHWISE]


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("form", ["convolution", "split"])
@pytest.mark.parametrize(("images", "kernel", "options"), GROUPED)
def test_both_forms_of_groups(images, kernel, options, form, dtype, monkeypatch):
    # The convolutions of a split one have a form too.
    monkeypatch.setattr(forms, "conv", lambda *args: form if args[2] > 1 else "convolution")
    check(images, kernel, options, dtype)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("form", ["convolution", "depthwise"])
@pytest.mark.parametrize(("images", "kernel", "options"), DEPTHWISE[:-1])
def test_both_forms_of_depthwise(images, kernel, options, form, dtype, monkeypatch):
    monkeypatch.setattr(forms, "conv", lambda *_: form)
    check(images, kernel, options, dtype)


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize(("images", "kernel", "options"), [GROUPED[0], DEPTHWISE[2], DEPTHWISE[-1]])
def test_the_form_chosen(images, kernel, options, dtype):
    check(images, kernel, options, dtype)
    check(images, kernel, options, dtype, bias=False)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize(
    ("images", "kernel", "options"), [*GROUPED[:3], GROUPED[6], *DEPTHWISE[:5]]
)
def test_gradients_of_gradients(images, kernel, options):
    check(images, kernel, options, "float64", second=True)


@pytest.mark.parametrize(("images", "kernel", "options"), [*GROUPED[:2], *DEPTHWISE[:4]])
def test_vmap(images, kernel, options):
    got, want = mapped(
        lambda x, weight, bias: conv2d(x, weight, bias, **options),
        arguments(images, kernel, "float64", **options),
    )
    assert_close(got, want, rtol=1e-12)


@st.composite
def convolutions(draw):
    groups = draw(st.integers(1, 3))
    kernel = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    dilation = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    padding = draw(st.tuples(st.integers(0, 2), st.integers(0, 2)))
    size = [
        max(1, d * (k - 1) + 1 - 2 * p + draw(st.integers(0, 4)))
        for k, d, p in zip(kernel, dilation, padding, strict=True)
    ]
    per_group = draw(st.integers(1, 2))
    images = (draw(st.integers(1, 2)), groups * per_group, *size)
    options = {"padding": padding, "dilation": dilation, "groups": groups}
    options["stride"] = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    return images, (groups * draw(st.integers(1, 2)), *kernel), options


@settings(max_examples=25, deadline=None, derandomize=True)
@given(convolutions())
def test_random_arguments(case):
    # Stride and padding together can leave windows of padding only.
    check(*case, "float64", zeros={"gradient of x", "gradient of weight"})


def test_choice_of_form(monkeypatch):
    monkeypatch.setattr(native, "available", lambda _: False)

    def form(dtype, images, kernel, groups=1):
        arrays = (jax.ShapeDtypeStruct(shape, dtype) for shape in (images, kernel))
        return forms.conv(*arrays, groups)

    assert form("float64", (1, 9, 9, 4), (3, 3, 4, 2)) == "matrix_product"
    assert form("float32", (1, 9, 9, 4), (3, 3, 4, 2)) == "convolution"
    assert form("float32", (1, 2, 9, 4), (3, 3, 4, 2)) == "matrix_product"
    assert form("float32", (1, 9, 9, 4), (1, 1, 4, 2)) == "matrix_product"
    assert form("float64", (1, 2, 9, 4), (3, 3, 2, 2), 2) == "split"
    assert form("float32", (1, 9, 9, 4), (3, 3, 1, 8), 4) == "depthwise"
    assert form("float32", (1, 9, 9, 4), (9, 9, 1, 4), 4) == "convolution"
    monkeypatch.setattr(native, "available", lambda dtype: dtype in native.DTYPES)
    assert form("float32", (1, 2, 9, 8), (3, 3, 8, 1)) == "direct"
    assert form("float64", (1, 9, 9, 4), (1, 1, 4, 2)) == "direct"
    assert form("bfloat16", (1, 9, 9, 4), (3, 3, 4, 2)) == "convolution"
    with forms.prefer("xla"):
        assert form("float32", (1, 9, 9, 4), (3, 3, 4, 2)) == "convolution"
        assert form("float64", (1, 2, 9, 8), (3, 3, 4, 8), 2) == "split"
    assert form("float64", (1, 2, 9, 8), (3, 3, 4, 8), 2) == "direct"
    assert form("float32", (1, 9, 9, 4), (9, 9, 1, 4), 4) == "direct"
    assert form("float32", (1, 9, 9, 4), (3, 3, 1, 8), 4) == "direct"
    assert form("float32", (1, 9, 9, 8), (3, 3, 4, 4), 2) == "split"
    assert form("bfloat16", (1, 9, 9, 8), (3, 3, 4, 8), 2) == "split"
    # Elsewhere cuDNN or its like does the groups.
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert form("float32", (1, 9, 9, 4), (3, 3, 2, 2), 2) == "convolution"
    assert form("float32", (1, 9, 9, 4), (3, 3, 1, 4), 4) == "convolution"
    assert form("float32", (1, 9, 9, 4), (1, 1, 4, 2)) == "convolution"


def test_a_nan_stays_in_its_group():
    images = jnp.ones((1, 4, 4, 4)).at[0, 1, 1, 0].set(jnp.nan)
    for groups in (2, 4):
        out = conv2d(images, jnp.ones((3, 3, 4 // groups, 4)), groups=groups, padding=1)
        own = 4 // groups
        assert jnp.isnan(out[..., :own]).any() and jnp.isfinite(out[..., own:]).all()
