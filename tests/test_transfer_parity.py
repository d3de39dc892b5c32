"""Transfer learning step by step beside torch: frozen parts, rates of their own, thawing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from optim_steps import TORCH, double_scalars

from jaxcnn import train, transfer, weights
from jaxcnn.optimization import make_optimizer
from jaxcnn.parameters import by_path
from jaxcnn.settings import Settings
from parity import harness
from parity.pair import arrays
from parity.sides import training_loss

STEPS, THAW = 6, 3
# Coupled weight decay: without it Adam makes steps of the rounding that the gradients of biases in
# front of a batch norm are.
ARGUMENTS = {
    "sgd": {"momentum": 0.9, "weight_decay": 0.1},
    "adam": {"weight_decay": 0.1},
    "nadam": {"weight_decay": 0.1},
}


def settings_of(optimizer, **changes):
    values = {"schedule": "exponential", "gamma": 0.8, "decay_every": "step", "freeze": "layer1"}
    given = {"optimizer": optimizer, **ARGUMENTS[optimizer], **values, **changes}
    return Settings("cnn_mnist", "digits", 1, 4, 0.01, **given)


def ours(pair, settings, thaw):
    """Return the parameters and statistics after the steps, and every loss."""
    names = tuple(by_path(pair.variables["params"]))
    frozen = transfer.selector(transfer.frozen_pattern(settings, names) or "")
    kept = transfer.FrozenNorms(pair, frozen) if settings.freeze_norms else pair
    txs = [
        make_optimizer(settings, 1, transfer.parts(settings, names, 1, later=later), names)
        for later in (False, True)
    ]
    steps = [
        train.make_train_step(kept, txs[0], frozen=frozen),
        train.make_train_step(pair, txs[1]),
    ]
    state = train.state_from(jax.tree.map(jnp.copy, pair.variables), txs[0])
    losses = []
    for i in range(STEPS):
        images, labels = map(jnp.asarray, pair.batch(i))
        state, metrics = steps[i >= thaw](state, {"images": images, "labels": labels}, pair.key())
        losses.append(float(metrics["loss"]))
    found = weights.to_torch({"params": state.params, "batch_stats": state.batch_stats})
    return found, np.array(losses)


def torchs(pair, settings, thaw):
    """Return the same of torch, as its users freeze and thaw."""
    module = pair.twin(train=True)
    head = "fc"
    bodies = {n: p for n, p in module.named_parameters() if not n.startswith(head)}
    frozen = [p for n, p in bodies.items() if n.startswith("layer1")]
    groups = [
        {"params": list(bodies.values())},
        {
            "params": [p for n, p in module.named_parameters() if n.startswith(head)],
            "lr": settings.learning_rate if settings.lr_head is None else settings.lr_head,
        },
    ]
    with double_scalars():
        optimizer = TORCH[settings.optimizer](
            groups, lr=settings.learning_rate, foreach=False, **ARGUMENTS[settings.optimizer]
        )
        scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, settings.gamma)
        losses = []
        for i in range(STEPS):
            for parameter in frozen:
                parameter.requires_grad_(i >= thaw)
            if settings.freeze_norms:
                module.get_submodule("layer1.1").train(i >= thaw)
            pair.share_masks(module, i)
            images, labels = pair.batch(i)
            optimizer.zero_grad()
            loss = training_loss(module(torch.from_numpy(images.transpose(0, 3, 1, 2))), labels)
            loss.backward()
            optimizer.step()
            scheduler.step()
            losses.append(loss.item())
    return arrays({**dict(module.named_parameters()), **dict(module.named_buffers())}, pair), losses


@pytest.fixture(scope="module")
def pair():
    return harness.pair("cnn_mnist", size=(28, 28))


@pytest.mark.parametrize(
    ("optimizer", "thaw", "changes"),
    [
        ("sgd", STEPS, {}),
        ("sgd", STEPS, {"freeze_norms": True, "lr_head": 0.05}),
        ("sgd", THAW, {"freeze_norms": True}),
        ("sgd", 0, {"freeze": "", "lr_head": 0.0}),
        ("adam", THAW, {"lr_head": 0.05}),
        ("nadam", THAW, {"freeze_norms": True, "lr_head": 0.05}),
    ],
)
def test_steps_are_torchs(optimizer, thaw, changes, pair, float64):
    if thaw == THAW:
        changes = changes | {"unfreeze_at": THAW}
    settings = settings_of(optimizer, **changes)
    got, losses = ours(pair, settings, thaw)
    want, torch_losses = torchs(pair, settings, thaw)
    np.testing.assert_allclose(losses, torch_losses, rtol=1e-12)
    harness.assert_close(got, want, rtol=1e-11)


def test_what_is_frozen_stays_to_the_bit(pair, float64):
    settings = settings_of("sgd", freeze_norms=True)
    got, _ = ours(pair, settings, STEPS)
    before = weights.to_torch(pair.variables)
    changed = {key for key in before if not np.array_equal(before[key], got[key])}
    assert changed == {key for key in before if not key.startswith("layer1.")}


def test_a_thawed_part_counts_its_steps_from_the_thaw(pair, float64, monkeypatch):
    """The comparison notices a part whose Adam has counted on while it was frozen."""
    from jaxcnn.optim import parameter_groups

    def counting(tx):
        return tx._replace(
            update=lambda g, state, params=None: (
                jax.tree.map(jnp.zeros_like, g),
                tx.update(g, state, params)[1],
            )
        )

    monkeypatch.setattr(parameter_groups, "_unchanging", counting)
    settings = settings_of("adam", unfreeze_at=THAW)
    got, _ = ours(pair, settings, THAW)
    want, _ = torchs(pair, settings, THAW)
    with pytest.raises(AssertionError, match=r"layer1"):
        harness.assert_close(got, want, rtol=1e-6)
