"""Random combinations of shapes and arguments of the losses, against PyTorch's."""

import jax
import jax.numpy as jnp
import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from jaxcnn import losses
from parity.compilation import compiled, precision

REDUCTIONS = st.sampled_from(["none", "mean", "sum"])
SPACES = st.sampled_from([(), (1,), (3,), (2, 3)])
often = settings(max_examples=25, deadline=None, derandomize=True)


def close(ours, theirs, x):
    """Assert equal values and equal gradients of their sum."""
    tensor = torch.tensor(x, requires_grad=True)
    want = theirs(tensor)
    want.sum().backward()
    with precision("float64"):
        channels_last = jnp.asarray(np.moveaxis(x, 1, -1))

        @compiled
        def run(x):
            out, pull = jax.vjp(ours, x)
            return out, pull(jnp.ones_like(out))[0]

        got, gradient = run(channels_last)
    gradient = np.moveaxis(np.asarray(gradient), -1, 1)
    np.testing.assert_allclose(got, want.detach().numpy(), rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(gradient, tensor.grad.numpy(), rtol=1e-12, atol=1e-13)


@often
@given(
    seed=st.integers(0, 999),
    batch=st.integers(1, 4),
    classes=st.integers(2, 5),
    space=SPACES,
    reduction=REDUCTIONS,
    smoothing=st.sampled_from([0.0, 0.1, 0.75, 1.0]),
    ignored=st.sampled_from([None, -100, 0, 1]),
    weighted=st.booleans(),
)
def test_cross_entropy(seed, batch, classes, space, reduction, smoothing, ignored, weighted):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, (batch, *space))
    labels.flat[0] = classes - 1 if ignored != classes - 1 else 0  # one counts, or the mean is NaN
    if ignored is not None and labels.size > 1:
        labels.flat[-1] = ignored
    weight = rng.uniform(0.1, 2, classes) if weighted else None
    options = {"reduction": reduction, "label_smoothing": smoothing}

    def ours(x):
        w = None if weight is None else jnp.asarray(weight)
        return losses.cross_entropy(
            x, jnp.asarray(labels), weight=w, ignore_index=ignored, **options
        )

    def theirs(x):
        w = None if weight is None else torch.tensor(weight)
        index = -100 if ignored is None else ignored
        return functional.cross_entropy(x, torch.tensor(labels), w, ignore_index=index, **options)

    close(ours, theirs, rng.normal(0, 4, (batch, classes, *space)))


@often
@given(
    seed=st.integers(0, 999),
    batch=st.integers(1, 4),
    classes=st.integers(1, 5),
    space=SPACES,
    reduction=REDUCTIONS,
    beta=st.sampled_from([None, 0.0, 0.1, 1.0, 2.5]),
)
def test_smooth_l1_and_squares(seed, batch, classes, space, reduction, beta):
    rng = np.random.default_rng(seed)
    shape = (batch, classes, *space)
    target = rng.normal(0, 2, shape)
    name = "mse_loss" if beta is None else "smooth_l1_loss"
    options = {"reduction": reduction} | ({} if beta is None else {"beta": beta})

    def ours(x):
        goals = jnp.asarray(np.moveaxis(target, 1, -1))
        out = getattr(losses, name)(x, goals, **options)
        return jnp.moveaxis(out, -1, 1) if out.ndim else out

    close(
        ours,
        lambda x: getattr(functional, name)(x, torch.tensor(target), **options),
        rng.normal(0, 2, shape),
    )


@often
@given(
    seed=st.integers(0, 999),
    batch=st.integers(1, 4),
    classes=st.integers(1, 5),
    space=SPACES,
    reduction=REDUCTIONS,
    weighted=st.booleans(),
    positive=st.booleans(),
)
def test_binary_cross_entropy_with_logits(
    seed, batch, classes, space, reduction, weighted, positive
):
    rng = np.random.default_rng(seed)
    shape = (batch, classes, *space)
    target = rng.uniform(0, 1, shape)
    given = {"weight": rng.uniform(0, 2, shape)} if weighted else {}
    if positive:
        given["pos_weight"] = rng.uniform(0.2, 4, (classes, *[1] * len(space)))

    def ours(x):
        turned = {
            n: jnp.asarray(np.moveaxis(v, 1, -1) if n == "weight" else v.reshape(-1))
            for n, v in given.items()
        }
        out = losses.binary_cross_entropy_with_logits(
            x, jnp.asarray(np.moveaxis(target, 1, -1)), reduction=reduction, **turned
        )
        return jnp.moveaxis(out, -1, 1) if out.ndim else out

    def theirs(x):
        options = {n: torch.tensor(v) for n, v in given.items()}
        return functional.binary_cross_entropy_with_logits(
            x, torch.tensor(target), reduction=reduction, **options
        )

    close(ours, theirs, rng.normal(0, 4, shape))
