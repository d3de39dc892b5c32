"""Networks that return several heads in training: names, losses, order."""

from typing import NamedTuple

import jax
import numpy as np
import pytest
import torch
from flax import linen as nn

from jaxcnn import layers
from parity import harness, sides


class Heads(NamedTuple):
    """The main head, and one behind the first convolution."""

    logits: jax.Array
    early: jax.Array


class HeadsNet(nn.Module):
    """Two heads in training, one in evaluation."""

    @nn.compact
    def __call__(self, images, *, train):
        x = early = layers.Conv2d(4, 3, padding=1, name="conv1")(images)
        x = layers.ReLU(name="relu")(layers.Conv2d(5, 3, name="conv2")(x))
        logits = layers.Linear(3, name="fc")(layers.flatten(x))
        if not train and not self.is_initializing():
            return logits
        early = layers.Linear(3, name="early")(layers.flatten(early))
        return Heads(logits, early) if train else logits


class HeadsTwin(torch.nn.Module):
    """The same in PyTorch; a plain tuple, as some networks return."""

    def __init__(self):
        super().__init__()
        self.conv1 = torch.nn.Conv2d(2, 4, 3, padding=1)
        self.conv2 = torch.nn.Conv2d(4, 5, 3)
        self.relu = torch.nn.ReLU()
        self.fc = torch.nn.Linear(60, 3)
        self.early = torch.nn.Linear(120, 3)

    def forward(self, x):
        x = self.conv1(x)
        logits = self.fc(torch.flatten(self.relu(self.conv2(x)), 1))
        if not self.training:
            return logits
        return Heads(logits, self.early(torch.flatten(x, 1)))


def heads_pair(dtype="float64"):
    """Return the network with two heads beside its twin."""
    return harness.make_pair(HeadsTwin(), HeadsNet(), (5, 6, 2), dtype=dtype)


@pytest.mark.parametrize("comparison", harness.COMPARISONS)
def test_every_comparison(comparison):
    compare, budget, applies = harness.COMPARISONS[comparison]
    pair = heads_pair()
    if not applies(pair):
        assert "statistics" in comparison
        return
    got, want = compare(pair)
    unused = {"early.weight", "early.bias"} if comparison == "gradients, evaluation" else ()
    harness.assert_close(got, want, rtol=budget, zeros=unused)


def test_heads_have_names():
    got, _ = harness.outputs(heads_pair(), train=True)
    assert set(got) == {"output", "output.early"}
    assert set(harness.outputs(heads_pair(), train=False)[0]) == {"output"}
    got, _ = harness.activations(heads_pair(), train=True)
    assert set(got) == {"conv1", "conv2", "relu", "fc", "early", "output", "output.early"}
    assert set(sides.heads((1, 2, 3))) == {"output", "output.1", "output.2"}


def test_auxiliary_losses_count_by_the_papers_weight():
    labels = np.array([0, 2])
    logits = torch.tensor([[1.0, 2.0, 3.0], [0.0, 1.0, -1.0]])
    main, early = (
        torch.nn.functional.cross_entropy(x, torch.tensor([0, 2])) for x in (logits, 2 * logits)
    )
    loss = sides.training_loss(Heads(logits, 2 * logits), labels)
    assert loss.item() == pytest.approx((main + 0.3 * early).item(), rel=1e-6)
    assert sides.training_loss(logits, labels).item() == pytest.approx(main.item(), rel=1e-6)
