"""Deformable convolutions against sampling by hand in PyTorch, and torchvision's operator."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from test_layers_conv import RTOL, assert_uniform
from torchvision_import import torchvision_models

from jaxcnn import weights
from jaxcnn.layers import DeformConv2d, conv2d, deform_conv2d
from parity.errors import assert_close
from parity.functions import compare, mapped

# (batch, in, height, width), (out, kh, kw), groups of kernel and offsets, arguments
GRID = [
    ((2, 3, 5, 6), (4, 3, 3), 1, 1, {}),
    ((2, 3, 5, 6), (4, 3, 3), 1, 1, {"padding": 1}),
    ((1, 1, 4, 7), (2, 3, 2), 1, 1, {"stride": 2, "padding": (1, 0)}),
    ((2, 2, 7, 5), (3, 2, 3), 1, 1, {"dilation": 2, "padding": (0, 1)}),
    ((1, 2, 6, 7), (2, 3, 3), 1, 1, {"stride": (1, 3), "dilation": (2, 1), "padding": 2}),
    ((2, 4, 5, 4), (6, 3, 3), 2, 1, {"padding": 1}),
    ((2, 4, 5, 4), (3, 3, 3), 1, 2, {"padding": 1}),
    ((1, 4, 5, 4), (4, 2, 3), 2, 4, {"padding": (1, 0)}),
    ((1, 4, 4, 4), (4, 3, 3), 4, 2, {"padding": 1}),  # depthwise
    ((1, 6, 4, 5), (4, 2, 2), 2, 3, {"stride": 2}),
    ((2, 3, 4, 5), (2, 1, 1), 1, 3, {}),
    ((1, 2, 1, 1), (2, 3, 3), 1, 1, {"padding": 1}),
    ((1, 2, 3, 4), (2, 3, 4), 1, 2, {}),  # one output pixel
]


def by_hand(x, offset, weight, bias=None, mask=None, *, stride=1, padding=0, dilation=1):
    """Sample tap by tap: every image pixel by its distance from the place, a hat of width 1."""
    stride, padding, dilation = (
        (v, v) if isinstance(v, int) else v for v in (stride, padding, dilation)
    )
    batch, channels, height, width = x.shape
    out, per_group, kh, kw = weight.shape
    rows, columns = offset.shape[2:]
    shared = offset.shape[1] // (2 * kh * kw)
    moves = offset.reshape(batch, shared, kh, kw, 2, rows, columns)
    total = torch.zeros(batch, out, rows, columns, dtype=x.dtype)
    for i in range(kh):
        for j in range(kw):
            y = torch.arange(rows, dtype=x.dtype)[:, None] * stride[0] - padding[0]
            y = y + i * dilation[0] + moves[:, :, i, j, 0]
            z = torch.arange(columns, dtype=x.dtype) * stride[1] - padding[1]
            z = z + j * dilation[1] + moves[:, :, i, j, 1]
            hats = []
            for place, size in ((y, height), (z, width)):
                distance = (place[..., None] - torch.arange(size, dtype=x.dtype)).abs()
                hats.append(torch.clamp(1 - distance, min=0))
            grouped = x.reshape(batch, shared, channels // shared, height, width)
            sample = torch.einsum("bgrch,bgrcw,bgkhw->bgkrc", *hats, grouped)
            if mask is not None:
                share = mask.reshape(batch, shared, kh, kw, rows, columns)[:, :, i, j]
                sample = sample * share[:, :, None]
            sample = sample.reshape(batch, channels // per_group, per_group, rows, columns)
            taps = weight[:, :, i, j].reshape(channels // per_group, -1, per_group)
            mixed = torch.einsum("bgkrc,gok->bgorc", sample, taps)
            total = total + mixed.reshape(total.shape)
    return total if bias is None else total + bias[:, None, None]


def arguments(images, kernel, groups, shared, options, dtype="float64", masked=True, spread=1.5):
    rng = np.random.default_rng(0)
    taps = kernel[1] * kernel[2]
    probe = torch.nn.functional.conv2d(
        torch.zeros(images), torch.zeros(1, images[1], *kernel[1:]), **options
    )
    size = tuple(probe.shape[2:])
    values = {
        "x": rng.normal(0.3, 1, images),
        "offset": rng.normal(0, spread, size=(images[0], 2 * shared * taps, *size)),
        "weight": rng.normal(size=(kernel[0], images[1] // groups, *kernel[1:])),
        "bias": rng.normal(size=kernel[0]),
        "mask": rng.uniform(size=(images[0], shared * taps, *size)),
    }
    return {n: v.astype(dtype) for n, v in values.items() if masked or n != "mask"}


def ours_with(options):
    def ours(x, offset, weight, bias=None, mask=None):
        return deform_conv2d(x, offset, weight, bias, mask=mask, **options)

    return ours


@pytest.mark.parametrize(
    ("dtype", "masked"), [("float64", False), ("float64", True), ("float32", True)]
)
@pytest.mark.parametrize(("images", "kernel", "groups", "shared", "options"), GRID)
def test_samples_by_hand(images, kernel, groups, shared, options, masked, dtype):
    got, want = compare(
        ours_with(options),
        lambda **tensors: by_hand(**tensors, **options),
        arguments(images, kernel, groups, shared, options, dtype, masked),
    )
    assert_close(got, want, rtol=RTOL[dtype])


@pytest.mark.parametrize("spread", [0.3, 20])
def test_places_near_and_far_outside(spread):
    """An offset of many pixels leaves the image: zeros, and no gradient."""
    case = GRID[1]
    got, want = compare(
        ours_with(case[4]),
        lambda **tensors: by_hand(**tensors, **case[4]),
        arguments(*case, spread=spread),
    )
    assert_close(got, want, rtol=1e-12)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("case", [GRID[2], GRID[5], GRID[6]])
def test_gradients_of_gradients(case, masked):
    got, want = compare(
        ours_with(case[4]),
        lambda **tensors: by_hand(**tensors, **case[4]),
        arguments(*case, masked=masked),
        second=True,
    )
    assert_close(got, want, rtol=1e-12, zeros={"second gradient of bias"})


@pytest.mark.parametrize("case", [GRID[2], GRID[6], GRID[7]])
def test_vmap(case):
    got, want = mapped(ours_with(case[4]), arguments(*case))
    assert_close(got, want, rtol=1e-12)


@pytest.mark.parametrize("case", [GRID[0], GRID[3], GRID[4], GRID[5], GRID[8]])
def test_without_offset_it_is_a_convolution(case, float64):
    values = arguments(*case, masked=False)
    x, offset = (jnp.asarray(values[n].transpose(0, 2, 3, 1)) for n in ("x", "offset"))
    kernel = jnp.asarray(values["weight"].transpose(2, 3, 1, 0))
    got = deform_conv2d(x, jnp.zeros_like(offset), kernel, **case[4])
    want = conv2d(x, kernel, groups=case[2], **case[4])
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("where", [-1.0, -1.5, 0.0, 3.0, 3.5, 4.0, 1e12, -1e12])
def test_borders(where, float64):
    """One tap on a column of 4: half of the border half a pixel outside, nothing one pixel out."""
    images = jnp.asarray([5.0, 6, 7, 8]).reshape(1, 4, 1, 1)
    offset = jnp.zeros((1, 4, 1, 2)).at[:, 0, :, 0].set(where)
    got = deform_conv2d(images, offset, jnp.ones((1, 1, 1, 1)))[0, 0, 0, 0]
    assert got == {0.0: 5, 3.0: 8, 3.5: 4}.get(where, 0)


def operator():
    """Return torchvision's compiled operator; skip, and say why, where it does not load."""
    torchvision_models()
    from torchvision.extension import _has_ops
    from torchvision.ops import deform_conv2d as operator

    if not _has_ops():
        pytest.skip("torchvision's compiled operators do not load beside this torch")
    return operator


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("images", "kernel", "groups", "shared", "options"), GRID)
def test_torchvisions_operator(images, kernel, groups, shared, options, masked):
    theirs = operator()

    def call(x, offset, weight, bias, mask=None):
        return theirs(x, offset, weight, bias, mask=mask, **options)

    values = arguments(images, kernel, groups, shared, options, masked=masked)
    got, want = compare(ours_with(options), call, values)
    assert_close(got, want, rtol=1e-12)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("masked", [False, True])
def test_module_with_torchvisions_weights(groups, masked, float64):
    torchvision_models()
    from torchvision.ops import DeformConv2d as Twin

    torch.manual_seed(0)
    options = {"padding": (1, 0), "stride": 2, "groups": groups}
    twin = Twin(4, 6, (3, 2), **options).double()
    case = (2, 4, 5, 6), (6, 3, 2), groups, 2, {"padding": (1, 0), "stride": 2}
    values = arguments(*case, masked=masked)
    theirs = {n: torch.from_numpy(values[n]) for n in ("x", "offset", "mask") if n in values}
    ours = {n: jnp.asarray(values[n].transpose(0, 2, 3, 1)) for n in theirs}
    ours["images"] = ours.pop("x")
    layer = DeformConv2d(6, (3, 2), **options)
    template = jax.eval_shape(lambda: layer.init(jax.random.key(0), **ours))
    variables = weights.from_torch(twin.state_dict(), template)
    got = np.asarray(layer.apply(variables, **ours)).transpose(0, 3, 1, 2)
    want = by_hand(**theirs, weight=twin.weight, bias=twin.bias, **case[4]).detach().numpy()
    assert_close({"out": got}, {"out": want}, rtol=1e-12)
    back = weights.to_torch(variables)
    assert all((back[n] == v.numpy()).all() for n, v in twin.state_dict().items())


def test_initial_values():
    layer = DeformConv2d(32, (3, 5), groups=2)
    images, offset = jnp.zeros((1, 3, 5, 16)), jnp.zeros((1, 1, 1, 30))
    params = layer.init(jax.random.key(1), images, offset)["params"]
    assert params["kernel"].shape == (3, 5, 8, 32)
    assert_uniform(params["kernel"], 1 / np.sqrt(8 * 15))
    assert np.abs(params["bias"]).max() <= 1 / np.sqrt(8 * 15)
    bare = DeformConv2d(32, (3, 5), bias=False).init(jax.random.key(1), images, offset)
    assert set(bare["params"]) == {"kernel"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": (5, 6, 4)}, "deform_conv2d: images must be (B, H, W, C), got shape (5, 6, 4)"),
        ({"kernel": (3, 3, 4)}, "deform_conv2d: kernel must be (kh, kw, in / groups, out)"),
        ({"kernel": (3, 3, 3, 2)}, "kernel (3, 3, 3, 2) does not divide 4 channels"),
        ({"kernel": (3, 3, 2, 3)}, "kernel (3, 3, 2, 3) does not divide 4 channels"),
        ({"kernel": (6, 3, 4, 2)}, "kernel (6, 3) (dilation included) is larger"),
        ({"offset": (1, 3, 4, 17)}, "= (1, 3, 4, 18 n), n a divisor of the 4 channels, got shape"),
        ({"offset": (1, 3, 4, 54)}, "got shape (1, 3, 4, 54)"),
        ({"offset": (1, 5, 6, 18)}, "got shape (1, 5, 6, 18)"),
        ({"offset": (1, 3, 18)}, "got shape (1, 3, 18)"),
        ({"mask": (1, 3, 4, 18)}, "mask must be (1, 3, 4, 9), half of offset's channels"),
        ({"stride": 0}, "deform_conv2d: stride must be an int"),
        ({"padding": -1}, "deform_conv2d: padding must be an int"),
        ({"dilation": (1, 2, 3)}, "deform_conv2d: dilation must be an int"),
    ],
)
def test_errors_name_layer_argument_and_value(change, message):
    given = {"images": (1, 5, 6, 4), "offset": (1, 3, 4, 18), "kernel": (3, 3, 4, 2)} | change
    numbers = {n: v for n, v in given.items() if n in ("stride", "padding", "dilation")}
    arrays = {n: jnp.zeros(v) for n, v in given.items() if n not in numbers}
    with pytest.raises(ValueError, match=re.escape(message)):
        deform_conv2d(**arrays, **numbers)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (DeformConv2d(2, -1, name="moved"), "DeformConv2d 'moved': kernel_size must be"),
        (DeformConv2d(3, 2, groups=2, name="moved"), "DeformConv2d 'moved': groups=2 must divide"),
    ],
)
def test_module_errors_name_the_module(layer, message):
    images, offset = jnp.zeros((1, 3, 3, 2)), jnp.zeros((1, 2, 2, 8))
    with pytest.raises(ValueError, match=message):
        layer.init(jax.random.key(0), images, offset)
    with pytest.raises(ValueError, match="DeformConv2d 'moved': images must be"):
        layer.init(jax.random.key(0), images[0], offset)
