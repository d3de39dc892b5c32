"""L1 and L2 penalties, and every head with its loss, against PyTorch's."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from torch.nn import functional

from jaxcnn import losses
from jaxcnn.layers import Linear

# Parameters by the names that networks give them: a module's name may hold dots.
NAMES = {
    "conv1.kernel": (3, 3, 2, 4),
    "conv1.bias": (4,),
    "layer1.0.bn1.scale": (4,),
    "layer1.0.fc.kernel": (5, 3),
    "fc.kernel": (4, 3),
    "fc.bias": (3,),
}
# What is chosen, and by which names.
SELECTIONS = [
    ("", list(NAMES)),
    (r"kernel$", ["conv1.kernel", "layer1.0.fc.kernel", "fc.kernel"]),
    (r"^fc\.", ["fc.kernel", "fc.bias"]),
    (r"^layer1\.0", ["layer1.0.bn1.scale", "layer1.0.fc.kernel"]),
    (lambda name: "bias" not in name, [n for n in NAMES if "bias" not in n]),
    (lambda name: name == "conv1.bias", ["conv1.bias"]),
]
FORMULAS = {"l1_penalty": torch.abs, "l2_penalty": torch.square}


def arrays():
    rng = np.random.default_rng(0)
    values = {name: rng.normal(size=shape) for name, shape in NAMES.items()}
    values["fc.bias"][0] = 0  # where |w| has a corner
    return values


def nested(values):
    tree = {}
    for name, value in values.items():
        module, leaf = name.rsplit(".", 1)
        tree.setdefault(module, {})[leaf] = jnp.asarray(value)
    return tree


@pytest.mark.parametrize(("select", "chosen"), SELECTIONS)
@pytest.mark.parametrize("name", FORMULAS)
def test_penalties_and_their_gradients(name, select, chosen, float64):
    values = arrays()
    tensors = {n: torch.tensor(v, requires_grad=True) for n, v in values.items()}
    want = sum(FORMULAS[name](tensors[n]).sum() for n in chosen)
    want.backward()
    penalty = getattr(losses, name)
    got, gradients = jax.jit(jax.value_and_grad(lambda p: penalty(p, select)))(nested(values))
    np.testing.assert_allclose(got, want.item(), rtol=1e-13)
    for n, tensor in tensors.items():
        module, leaf = n.rsplit(".", 1)
        gradient = np.zeros(NAMES[n]) if tensor.grad is None else tensor.grad.numpy()
        np.testing.assert_allclose(gradients[module][leaf], gradient, rtol=1e-15)


def test_an_l2_penalty_is_a_weight_decay_of_twice_the_factor(float64):
    params = nested(arrays())
    decayed = optax.chain(optax.add_decayed_weights(0.002), optax.sgd(0.1))
    zeros = jax.tree.map(jnp.zeros_like, params)
    want, _ = decayed.update(zeros, decayed.init(params), params)
    gradient = jax.grad(lambda p: 0.001 * losses.l2_penalty(p))(params)
    got, _ = optax.sgd(0.1).update(gradient, optax.sgd(0.1).init(params))
    for g, w in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(g, w, rtol=1e-14)


@pytest.mark.parametrize("name", FORMULAS)
def test_a_penalty_on_nothing_is_an_error(name):
    message = f"{name}: select='kernels' chooses none of conv1.bias, conv1.kernel, fc.bias, "
    with pytest.raises(ValueError, match=re.escape(message)):
        getattr(losses, name)(nested(arrays()), "kernels")


# Head -> outputs, targets of 8 examples, our loss, PyTorch's.
def heads():
    rng = np.random.default_rng(4)
    binary, several = rng.integers(0, 2, (8, 1)).astype(np.float64), rng.integers(0, 3, 8)
    regression = rng.normal(size=(8, 2))

    def sigmoid(logits, targets):
        return losses.binary_cross_entropy(jax.nn.sigmoid(logits), targets)

    def torch_sigmoid(logits, targets):
        return functional.binary_cross_entropy(torch.sigmoid(logits), targets)

    return {
        "linear, squares": (2, regression, losses.mse_loss, functional.mse_loss),
        "linear, L1": (2, regression, losses.l1_loss, functional.l1_loss),
        "linear, smooth L1": (2, regression, losses.smooth_l1_loss, functional.smooth_l1_loss),
        "sigmoid of one logit": (1, binary, sigmoid, torch_sigmoid),
        "one logit": (
            1,
            binary,
            losses.binary_cross_entropy_with_logits,
            functional.binary_cross_entropy_with_logits,
        ),
        "softmax of three": (3, several, losses.cross_entropy, functional.cross_entropy),
        "log softmax of three": (
            3,
            several,
            lambda x, labels: losses.nll_loss(jax.nn.log_softmax(x), labels),
            lambda x, labels: functional.nll_loss(functional.log_softmax(x, 1), labels),
        ),
    }


@pytest.mark.parametrize("head", heads())
def test_a_head_with_its_loss_and_a_penalty_trains_as_pytorchs(head, float64):
    outputs, targets, ours, theirs = heads()[head]
    x = np.random.default_rng(5).normal(size=(8, 6))
    torch.manual_seed(0)
    twin = torch.nn.Linear(6, outputs, dtype=torch.float64)
    params = {
        "kernel": jnp.array(twin.weight.detach().numpy().T),
        "bias": jnp.array(twin.bias.detach().numpy()),
    }
    layer, images, goals = Linear(outputs), jnp.asarray(x), jnp.asarray(targets)

    @jax.jit
    def step(params):
        def objective(params):
            value = jnp.mean(ours(layer.apply({"params": params}, images), goals))
            return value + 0.001 * losses.l2_penalty(params, "kernel")

        value, gradient = jax.value_and_grad(objective)(params)
        return value, jax.tree.map(lambda p, g: p - 0.5 * g, params, gradient)

    optimizer = torch.optim.SGD(twin.parameters(), lr=0.5)
    values = []
    for _ in range(10):
        loss = theirs(twin(torch.from_numpy(x)), torch.from_numpy(targets))
        loss = loss + 0.001 * twin.weight.square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        value, params = step(params)
        np.testing.assert_allclose(value, loss.item(), rtol=1e-12)
        values.append(float(value))
    assert values[-1] < values[0]
    np.testing.assert_allclose(params["kernel"].T, twin.weight.detach().numpy(), rtol=1e-11)
    np.testing.assert_allclose(params["bias"], twin.bias.detach().numpy(), rtol=1e-11)
