"""bfloat16 and TF32: what is rounded, what stays float32, and that it still learns."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from small import SmallNet, small_dataset

from jaxcnn import assembly, models, optim, precision
from jaxcnn.layers import BatchNorm2d, Conv2d, Linear, half
from jaxcnn.recipes import RECIPES, Settings
from jaxcnn.train import init_state, make_eval_step, make_train_step

DOCUMENTED = sorted({settings.network for _, settings in RECIPES.values()})
LABELS = jax.ShapeDtypeStruct((2,), jnp.int32)


@pytest.mark.parametrize("name", DOCUMENTED)
def test_every_array_of_the_state_stays_float32(name):
    model, tx = models.create(name, num_classes=10), optim.create("sgd", 0.1, momentum=0.9)
    images = jax.ShapeDtypeStruct((2, *models.input_shape(name)), jnp.float32)
    key = jax.random.key(0)
    state = jax.eval_shape(lambda: init_state(model, tx, key, jnp.zeros(images.shape)))
    seen = []

    class Watched:
        def apply(self, variables, images, **options):
            out = model.apply(variables, images, **options)
            logits = out[0] if options["train"] else out
            seen.append((images.dtype, jax.tree.leaves(logits)[0].dtype))
            return out

    step = make_train_step(Watched(), tx, precision="bfloat16")
    moved, metrics = jax.eval_shape(step, state, {"images": images, "labels": LABELS}, key)
    assert jax.tree.map(lambda x: x.dtype, moved) == jax.tree.map(lambda x: x.dtype, state)
    assert metrics["loss"].dtype == jnp.float32
    batch = {"images": images, "labels": LABELS, "mask": LABELS}
    found = jax.eval_shape(make_eval_step(Watched(), precision="bfloat16"), state, batch)
    assert found["loss"].dtype == found["probabilities"].dtype == jnp.float32
    assert seen == [(jnp.bfloat16, jnp.bfloat16)] * 2
    drawn = jax.eval_shape(
        lambda: model.init(key, jnp.zeros(images.shape, "bfloat16"), train=False)
    )
    assert drawn["params"] == state.params and drawn.get("batch_stats", {}) == state.batch_stats


def test_a_layer_is_torchs_in_bfloat16():
    """Each output is off by the rounding of its factors and of itself at most."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 9, 7, 6)).astype("f4")
    layer = Conv2d(5, 3, stride=2, padding=1)
    variables = layer.init(jax.random.key(0), x)
    got = layer.apply(variables, jnp.asarray(x, "bfloat16"))
    kernel, bias = (np.array(variables["params"][name]) for name in ("kernel", "bias"))
    want = torch.nn.functional.conv2d(
        torch.from_numpy(x.transpose(0, 3, 1, 2).copy()).bfloat16(),
        torch.from_numpy(kernel.transpose(3, 2, 0, 1).copy()).bfloat16(),
        torch.from_numpy(bias).bfloat16(),
        stride=2,
        padding=1,
    )
    assert got.dtype == jnp.bfloat16
    np.testing.assert_allclose(
        np.asarray(got, "f4"), want.float().numpy().transpose(0, 2, 3, 1), rtol=2**-7, atol=2**-8
    )


def test_batch_norm_computes_in_float32():
    """A mean of 300 with a deviation of 1: bfloat16 has steps of 2 there."""
    x = jnp.asarray(np.random.default_rng(0).normal(300, 4, (8, 4, 4, 3)), "bfloat16")
    layer = BatchNorm2d()
    variables = layer.init(jax.random.key(0), x, train=False)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(variables)} == {"float32", "int32"}
    got, updated = layer.apply(variables, x, train=True, mutable=["batch_stats"])
    want, exact = layer.apply(variables, x.astype("f4"), train=True, mutable=["batch_stats"])
    assert got.dtype == jnp.bfloat16
    np.testing.assert_array_equal(got, want.astype("bfloat16"))
    jax.tree.map(np.testing.assert_array_equal, updated, exact)


def test_only_half_types_round_parameters():
    assert half.is_half(jnp.bfloat16) and half.is_half(jnp.float16) and not half.is_half("f8")
    layer = Linear(2)
    variables = layer.init(jax.random.key(0), jnp.zeros((1, 3)))
    with jax.enable_x64(True), pytest.raises(ValueError, match="promotion"):
        layer.apply(variables, jnp.zeros((1, 3), "f8"))


@pytest.mark.parametrize("name", ["bfloat16", "tf32"])
def test_it_learns(name):
    data, tx = small_dataset(), optim.create("sgd", 0.05, momentum=0.9)
    scaled = {"preprocess": lambda images: images.astype("f4") / 255.0, "precision": name}
    state = init_state(SmallNet(), tx, jax.random.key(0), jnp.zeros((1, 8, 8, 1)))
    step = make_train_step(SmallNet(), tx, **scaled)
    batch = {"images": data.train.images, "labels": data.train.labels}
    losses = []
    for _ in range(30):
        state, metrics = step(state, batch, jax.random.key(1))
        losses.append(float(metrics["loss"]))
    assert losses[-1] < 0.3 * losses[0]
    held = {"images": data.test.images, "labels": data.test.labels}
    found = make_eval_step(SmallNet(), **scaled)(state, held)
    assert np.mean(found["predictions"] == held["labels"]) > 0.9


def test_products_are_traced_with_the_precision_that_is_asked_for(monkeypatch):
    """On a GPU, where the default is TF32."""
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    factor = jnp.ones((2, 2))

    def traced(name):
        with precision.products(name):
            return str(jax.make_jaxpr(lambda a: a @ a)(factor))

    assert "HIGHEST" in traced("float32")
    assert "HIGH" in traced("tf32") and "HIGHEST" not in traced("tf32")
    assert "HIGH" not in traced("bfloat16")
    assert traced(None) == str(jax.make_jaxpr(lambda a: a @ a)(factor))


def test_unknown_precisions_are_refused():
    settings = Settings("cnn_mnist", "digits", 1, 8, 0.1, precision="float16")  # pyright: ignore
    with pytest.raises(ValueError, match="precision='float16': expected one of float32, tf32, bf"):
        assembly.build(settings, num_classes=10)
