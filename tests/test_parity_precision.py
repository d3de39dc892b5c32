"""The parity table of bfloat16: how far the same networks are from PyTorch's float32."""

import json

import numpy as np
import pytest
import torch
from processes import call

from parity import harness
from parity.errors import errors
from parity.sides import to_nchw, training_loss


@pytest.mark.parametrize("name", ["cnn_mnist", "resnet18"])
def test_bfloat16_rounds_and_nothing_else(name):
    size = None if name == "cnn_mnist" else (32, 32)
    pair = harness.pair(name, dtype="float32", products="bfloat16", batch_size=2, size=size)
    got, want = harness.activations(pair, train=False)
    found = errors(got, want)
    assert {value.dtype.name for value in got.values()} == {"float32"}
    # 8 bits of mantissa: a layer rounds its inputs, its kernel and its result by 2^-9 each.
    assert 2**-12 < min(found.values()) < 2**-7
    assert found["output"] < 0.05
    got, want = harness.gradients(pair, train=False)
    assert {value.dtype.name for value in got.values()} == {"float32"}

    images, labels = pair.batch(0)
    module = pair.twin(train=False)
    inputs = torch.from_numpy(to_nchw(images)).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = training_loss(module(inputs), labels)
    loss.backward()
    theirs = {name: p.grad.numpy() for name, p in module.named_parameters()}
    theirs[harness.INPUT] = inputs.grad.numpy()

    def distance(gradients):
        return np.sqrt(sum(np.sum(np.square(gradients[n] - want[n])) for n in want))

    # The gradient passes ReLUs and maxima that decide otherwise; PyTorch's is as far away.
    assert 0.5 < distance(got) / distance(theirs) < 1.1


def test_table():
    options = ["--dtype", "float32", "--products", "bfloat16", "--format", "json"]
    found, _ = json.JSONDecoder().raw_decode(call("parity", "mlp_mnist", *options))
    assert found["settings"]["products"] == "bfloat16"
    rows = {row["comparison"]: row for row in found["rows"]}
    assert 1e-4 < rows["output, evaluation"]["float32"] < 0.05
    assert rows["output, evaluation"]["rounding"] < 1e-6
    assert len(rows) > 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "float64", "products": "tf32"}, "products='tf32': expected dtype float32"),
        ({"dtype": "float32", "products": "half"}, "precision='half': expected one of float32"),
    ],
)
def test_mistakes(options, message):
    with pytest.raises(ValueError, match=message):
        harness.pair("mlp_mnist", **options)


def test_mistakes_of_the_script():
    err = call("parity", "mlp_mnist", "--products", "tf32", status=2)
    assert "error: --products tf32: expected --dtype float32 with it" in err
