"""Views of an image beside torch's, and the mean of their logits in the evaluation step."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from small import SmallNet
from torch.nn import functional as F

from jaxcnn.losses import cross_entropy
from jaxcnn.train import init_state, make_eval_step
from jaxcnn.views import VIEWS, mirrored_and_shifted


def weighted(images, name, answer):
    """Return the record's mean of a function's answers, computed by torch: NCHW in and out."""

    def mirror(x):
        return 0.5 * answer(x) + 0.5 * answer(x.flip(-1))

    if name == "one":
        return answer(images)
    if name == "mirrored":
        return mirror(images)
    height, width = images.shape[2:]
    padded = F.pad(images, (1,) * 4, "reflect")
    shifted = padded[:, :, :height, :width], padded[:, :, 2 : height + 2, 2 : width + 2]
    return 0.5 * mirror(images) + 0.5 * torch.stack([mirror(x) for x in shifted]).mean(0)


@pytest.mark.parametrize("name", VIEWS)
def test_views_are_torchs(name, float64):
    images = np.random.default_rng(0).normal(size=(3, 5, 6, 2))
    weights = np.random.default_rng(1).normal(size=images.shape[1:])
    theirs = torch.from_numpy(images.transpose(0, 3, 1, 2))
    want = weighted(
        theirs, name, lambda x: (x.square() * torch.from_numpy(weights.transpose(2, 0, 1))).sum(1)
    )
    views = VIEWS[name] or (lambda x: [(1.0, x)])
    found = views(jnp.asarray(images))
    assert sum(weight for weight, _ in found) == 1
    got = sum(weight * jnp.sum(view**2 * weights, -1) for weight, view in found)
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)


def test_the_evaluation_step_averages_logits(float64):
    images = jnp.asarray(np.random.default_rng(0).normal(size=(4, 8, 8, 1)))
    state = init_state(SmallNet(), optax.identity(), jax.random.key(0), images)
    batch = {"images": images, "labels": jnp.arange(4) % 3, "mask": jnp.ones(4, bool)}
    found = make_eval_step(SmallNet(), views=mirrored_and_shifted)(state, batch)
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    logits = sum(
        weight * SmallNet().apply(variables, view, train=False)
        for weight, view in mirrored_and_shifted(images)
    )
    np.testing.assert_allclose(found["probabilities"], jax.nn.softmax(logits), rtol=1e-12)
    np.testing.assert_allclose(found["loss"], cross_entropy(logits, batch["labels"]), rtol=1e-12)
    np.testing.assert_array_equal(found["predictions"], logits.argmax(-1))
    alone = make_eval_step(SmallNet())(state, batch)["probabilities"]
    assert np.abs(alone - found["probabilities"]).max() > 1e-4
