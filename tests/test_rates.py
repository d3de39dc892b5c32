"""Learning rates of some parameters: the speed recipe beside its paper's optimizer, and errors."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

from jaxcnn import optim, rates, transfer, weights
from jaxcnn.optimization import make_optimizer, make_schedule
from jaxcnn.parameters import by_path
from jaxcnn.recipes import RECIPES
from jaxcnn.settings import Settings

RECORD = RECIPES["cifar10-94"][1]
STEPS = 4  # an epoch
TOTAL = 11 * STEPS
SHAPES = {
    "whiten": {"kernel": (2, 2, 1, 8), "bias": (8,)},
    "group1": {"conv1": {"kernel": (1, 1, 8, 3)}, "norm1": {"scale": (3,), "bias": (3,)}},
    "head": {"kernel": (3, 2)},
}


def draw(seed):
    rng = np.random.default_rng(seed)
    draws = lambda shape: jnp.asarray(rng.normal(size=shape))  # noqa: E731
    return jax.tree.map(draws, SHAPES, is_leaf=lambda node: isinstance(node, tuple))


def test_the_speed_recipe_steps_as_its_paper(float64):
    """Its code: the losses' sum, momentum-free rates, and slow weights in torch."""
    params = draw(0)
    names = tuple(by_path(params))
    schedule = make_schedule(RECORD, STEPS)

    # The gradient of 1,024 losses' sum, which the optimizer below sees as the gradient of a mean.
    noise = {key: torch.tensor(v) for key, v in weights.to_torch({"params": draw(1)}).items()}
    theirs = {
        key: torch.nn.Parameter(torch.tensor(value))
        for key, value in weights.to_torch({"params": params}).items()
    }
    scale = 1024 * (1 + 1 / (1 - 0.85))
    rate, decay = 11.5 / scale, 0.0153 * 1024 / scale
    trained = {key: w for key, w in theirs.items() if "norm" not in key and key != "whiten.weight"}
    groups = [
        {"params": [theirs["group1.norm1.bias"]], "lr": 64 * rate, "weight_decay": decay / 64},
        {"params": list(trained.values()), "lr": rate, "weight_decay": decay},
    ]
    for group in groups:
        group["weight_decay"] /= rate
    sgd = torch.optim.SGD(groups, momentum=0.85, nesterov=True)
    factors = torch.optim.lr_scheduler.LambdaLR(sgd, lambda i: float(schedule(i)) / 1.5)
    slow = {key: w.detach().clone() for key, w in theirs.items()}
    for step in range(1, TOTAL + 1):
        for key, w in theirs.items():
            late = key == "whiten.bias" and step > 3 * STEPS
            w.grad = None if late else 1024 * (noise[key] + torch.sin(w.detach())) / 500
        sgd.step()
        factors.step()
        if step % 5 == 0:
            for key, w in theirs.items():
                slow[key].lerp_(w.detach(), 1 - 0.774 * (step / TOTAL) ** 3)
                w.data.copy_(slow[key])
    for key, w in theirs.items():  # the paper's last pull has a decay of 1
        w.data.copy_(slow[key])

    txs = [
        make_optimizer(RECORD, STEPS, transfer.parts(RECORD, names, STEPS, later=later), names)
        for later in (False, True)
    ]
    fixed = draw(1)

    def advance(tx):
        @jax.jit
        def step(params, state):
            gradients = jax.tree.map(lambda w, n: (n + jnp.sin(w)) / 500, params, fixed)
            updates, state = tx.update(gradients, state, params)
            return optax.apply_updates(params, updates), state

        return step

    steps = [advance(tx) for tx in txs]
    found, state = params, txs[0].init(params)
    for i in range(TOTAL):
        found, state = steps[i >= 3 * STEPS](found, state)
    got, before = weights.to_torch({"params": found}), weights.to_torch({"params": params})
    for key, w in theirs.items():
        np.testing.assert_allclose(got[key], w.detach(), rtol=1e-9, atol=1e-11, err_msg=key)
    kept = {key for key in got if np.array_equal(got[key], before[key])}
    assert kept == {"whiten.weight", "group1.norm1.weight"}


def test_the_speed_recipes_triangle(float64):
    """From 0.2 to 1 at 23 % of the steps, then to 0.07; torch's peak comes a step sooner."""
    schedule = make_schedule(RECORD, 48)
    found = np.array([schedule(i) for i in range(528)]) / 1.5
    corners = ([0, 0.23 * 528, 528], [0.2, 1, 0.07])
    np.testing.assert_allclose(found, np.interp(np.arange(528), *corners), atol=0.01)


def settings_of(**changes):
    return Settings("cnn_mnist", "digits", 1, 8, 0.1, **changes)


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        # A default weight decay is divided too.
        ({"optimizer": "adamw"}, optim.adamw(0.4, weight_decay=0.01 / 4)),
        # The factor is of the whole schedule, also of what its arguments give absolutely.
        (
            {"schedule": "cyclic", "schedule_args": "max_lr=0.3, step_size_up=1"},
            optim.sgd(
                lambda step: jnp.array([0.4, 1.2])[step],
                momentum=lambda step: jnp.array([0.9, 0.8])[step],
            ),
        ),
    ],
)
def test_the_factor_reaches_the_whole_of_a_rate(changes, same, float64):
    names = ("fc.kernel", "layer1.0.kernel")
    settings = settings_of(lr_factors="fc.*=4", **changes)
    parts = transfer.parts(settings, names, 1, later=False)
    params = {"fc": {"kernel": jnp.arange(1.0, 4)}, "layer1.0": {"kernel": jnp.ones(2)}}
    ends = []
    for tx in (make_optimizer(settings, 1, parts, names), same):
        found, state = params, tx.init(params)
        for _ in range(2):
            updates, state = tx.update(params, state, found)
            found = optax.apply_updates(found, updates)
        ends.append(found)
    np.testing.assert_allclose(ends[0]["fc"]["kernel"], ends[1]["fc"]["kernel"], rtol=1e-12)
    assert not np.allclose(ends[0]["layer1.0"]["kernel"], ends[1]["layer1.0"]["kernel"])


def test_the_head_has_its_own_rate_and_the_first_pattern_decides():
    names = ("fc.kernel", "fc.bias", "layer1.0.kernel")
    settings = settings_of(lr_head=0.5, lr_factors=r"layer1\..*=2; .*=3", freeze="layer1")
    found = [
        next(
            part for part in transfer.parts(settings, names, 1, later=False) if matches(part, name)
        )
        for name in names
    ]
    assert [part.learning_rate for part in found] == [0.5, 0.5, None]
    assert [part.factor for part in found] == [1, 1, 2]
    assert [part.frozen for part in found] == [False, False, True]


def matches(part, name):
    return transfer.selector(part.pattern)(name)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fc.*", r"expected PATTERN=FACTOR; .*, got 'fc\.\*'"),
        ("fc.*=0", r"got 'fc\.\*=0'"),
        ("fc.*=inf", "got"),
        ("fc.*=two", "got"),
        ("fc=2", "'fc' matches no parameter's whole path; they are fc.kernel"),
        ("(=2", r"'\(': bad pattern"),
    ],
)
def test_bad_factors(text, message):
    with pytest.raises(ValueError, match=f"lr_factors.*{message}"):
        rates.factors(settings_of(lr_factors=text), ("fc.kernel",))


def test_a_plateau_has_one_rate():
    settings = settings_of(lr_factors="fc.*=2", schedule="plateau")
    parts = transfer.parts(settings, ("fc.kernel",), 1, later=False)
    with pytest.raises(ValueError, match="lr_factors=.*: not with the schedule plateau"):
        make_optimizer(settings, 1, parts, ("fc.kernel",))


def test_bad_lookahead():
    for text, message in (
        ("evry=5", "takes every, .*; got evry"),
        ("every=0", "every must be"),
        ("every=2.5", "every must be a whole number, got 2.5"),
        ("epochs='a'", "epochs must be a whole number, got 'a'"),
        ("decay='x'", "decay must be a number, got 'x'"),
    ):
        with pytest.raises(ValueError, match=f"lookahead.*{message}"):
            make_optimizer(replace(settings_of(), lookahead=text), 1)
