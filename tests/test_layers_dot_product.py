"""Scaled dot-product attention, soft and hard weights against PyTorch's."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from precisions import PRECISIONS
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from jaxcnn.layers import attention_weights, scaled_dot_product_attention
from parity import attention
from parity.compilation import precision
from parity.errors import assert_close
from parity.functions import compare

RTOL = {"float64": 1e-12, "float32": 1e-5}

SHAPES = [  # query, key, value
    ((2, 4, 3), (2, 4, 3), (2, 4, 3)),
    ((2, 5, 3), (2, 4, 3), (2, 4, 6)),
    ((4, 3), (7, 3), (7, 2)),
    ((2, 2, 1, 4), (2, 2, 5, 4), (2, 2, 5, 1)),
    ((2, 3, 4, 5), (2, 3, 4, 5), (2, 3, 4, 5)),
]
OPTIONS = [{}, {"scale": 0.3}, {"is_causal": True}, {"mask": "bool"}, {"mask": "float"}]


# 4-d arguments are images to `compare`: as one more axis they stay as they are.
def five(array):
    return array[None] if array.ndim == 4 else array


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize("options", OPTIONS)
def test_scaled_dot_product_attention(options, shapes, dtype):
    rng = np.random.default_rng(0)
    names = ("query", "key", "value")
    arguments = {
        n: five(rng.normal(size=s).astype(dtype)) for n, s in zip(names, shapes, strict=True)
    }
    options, mask = dict(options), None
    if kind := options.pop("mask", None):
        length, keys = shapes[0][-2], shapes[1][-2]
        mask = rng.normal(size=(length, keys)).astype(dtype)
        if kind == "bool":
            mask = mask > -0.3
            mask[0] = False  # a query that sees no key
            mask[-1, -1] = True
    with precision(dtype):
        ours = None if mask is None else jnp.asarray(mask)
    theirs = None if mask is None else torch.tensor(mask)
    # PyTorch's fast kernels have no second derivative.
    with sdpa_kernel(SDPBackend.MATH):
        got, want = compare(
            lambda query, key, value: scaled_dot_product_attention(
                query, key, value, ours, **options
            ),
            lambda query, key, value: functional.scaled_dot_product_attention(
                query, key, value, attn_mask=theirs, **options
            ),
            arguments,
            second=True,
        )
    # A single query that sees one key has the weight 1.
    zeros = [n for n in want if "gradient" in n] if shapes[0][-2] == 1 else ()
    assert_close(got, want, rtol=RTOL[dtype] * 10, zeros=zeros)


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize(("shape", "axis"), [((3, 5), -1), ((3, 5), 0), ((2, 3, 4), 1), ((6,), 0)])
def test_attention_weights(shape, axis, hard, dtype):
    scores = np.random.default_rng(0).normal(0, 2, shape).astype(dtype)
    got, want = compare(
        lambda scores: attention_weights(scores, axis=axis, hard=hard),
        lambda scores: attention.attention_weights(scores, axis, hard),
        {"scores": scores},
        second=True,
    )
    assert_close(got, want, rtol=RTOL[dtype])
    if hard:
        assert set(np.unique(got["output"])) <= {0, 1}, "exactly"
        np.testing.assert_array_equal(got["output"].sum(axis), 1)


def test_hard_attention_is_gumbel_softmax_without_noise(monkeypatch):
    """PyTorch's own function: its noise -log(exponential) is 0 where it draws ones."""
    monkeypatch.setattr(torch.Tensor, "exponential_", lambda self: self.fill_(1))
    got, want = compare(
        lambda scores: attention_weights(scores, hard=True),
        lambda scores: functional.gumbel_softmax(scores, hard=True),
        {"scores": np.random.default_rng(1).normal(size=(6, 5))},
    )
    assert_close(got, want, rtol=1e-12)


def test_hard_attention_picks_the_first_of_equals_and_nothing_where_nothing_is_seen(float64):
    scores = jnp.asarray([[1.0, 3.0, 3.0], [9.0, 2.0, 5.0], [1.0, 2.0, 3.0]])
    where = jnp.asarray([[True, True, True], [False, True, True], [False, False, False]])
    got = attention_weights(scores, hard=True, where=where)
    np.testing.assert_array_equal(got, [[0, 1, 0], [0, 0, 1], [0, 0, 0]])
    gradient = jax.grad(lambda s: attention_weights(s, hard=True, where=where)[:, 2].sum())(scores)
    assert np.isfinite(gradient).all() and gradient[1, 0] == 0 and not gradient[2].any()


def test_hard_attention_over_keys_takes_one_value(float64):
    rng = np.random.default_rng(0)
    query, key, value = (jnp.asarray(rng.normal(size=(4, 3))) for _ in range(3))
    got = scaled_dot_product_attention(query, key, value, hard=True)
    np.testing.assert_allclose(got, value[np.argmax(query @ key.T, axis=1)], rtol=1e-15)


QUERY = jnp.ones((2, 4, 3))


@pytest.mark.parametrize(
    ("query", "key", "value", "options", "message"),
    [
        (QUERY, QUERY[..., :2], QUERY, {}, "must have one E, got shapes (2, 4, 3) and (2, 4, 2)"),
        (QUERY, QUERY, QUERY[:, :2], {}, "must have one S, got shapes (2, 4, 3) and (2, 2, 3)"),
        (QUERY[0, 0], QUERY, QUERY, {}, "scaled_dot_product_attention: query (..., L, E)"),
        (QUERY, QUERY, QUERY, {"mask": QUERY, "is_causal": True}, "is_causal=True is a mask alr"),
    ],
)
def test_errors_of_the_function(query, key, value, options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        scaled_dot_product_attention(query, key, value, **options)
