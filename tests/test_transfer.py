"""What is loaded, replaced and frozen: patterns, tables, errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcnn import models, pretrained, transfer, weights
from jaxcnn.optimization import Part
from jaxcnn.parameters import by_path
from jaxcnn.settings import Settings


def settings_of(network="squeezenet1_1", **changes):
    return Settings(network, "digits", 5, 4, 0.01, **changes)


def params_of(network, **options):
    model = models.create(network, **options)
    images = jnp.zeros((1, *models.input_shape(network)))
    return jax.eval_shape(lambda: model.init(jax.random.key(0), images, train=False))["params"]


@pytest.mark.parametrize(
    ("network", "want"),
    [
        ("resnet18", ("fc",)),
        ("squeezenet1_1", ("classifier.1",)),
        ("vgg11_bn", ("classifier.6",)),
        ("densenet121", ("classifier",)),
        ("cnn_mnist", ("fc",)),
    ],
)
def test_heads_have_their_real_names(network, want):
    assert transfer.heads(network) == want


def test_the_main_head_is_the_last():
    assert transfer.heads("googlenet")[-1] == "fc"


def test_all_but_the_head_is_frozen():
    names = tuple(by_path(params_of("squeezenet1_1")))
    pattern = transfer.frozen_pattern(settings_of(freeze="all-but-head"), names)
    trained = [name for name in names if not transfer.selector(pattern)(name)]
    assert trained == ["classifier.1.bias", "classifier.1.kernel"]


def test_a_pattern_is_of_how_paths_start():
    names = ("layer1.0.kernel", "layer1.1.scale", "layer2.0.kernel", "fc.kernel")
    frozen = transfer.selector(
        transfer.frozen_pattern(settings_of("cnn_mnist", freeze=r"layer1\.|fc"), names)
    )
    assert [name for name in names if frozen(name)] == [names[0], names[1], names[3]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"freeze": "nowhere"}, "freeze='nowhere' matches the start of no parameter's path"),
        ({"freeze": "("}, r"freeze='\(': bad pattern"),
        ({"freeze": "", "unfreeze_at": 3}, "unfreeze_at=3: nothing is frozen"),
        ({"freeze_norms": True}, "freeze_norms=True: nothing is frozen"),
        ({"freeze": ".*"}, "leaves nothing to train"),
        ({"freeze_later": "fc"}, "freeze_later='fc', freeze_at=None: expected both or neither"),
        ({"freeze_at": 2}, "freeze_later='', freeze_at=2: expected both or neither"),
        ({"freeze_later": "fc", "freeze_at": 0}, "freeze_at must be at least 1, got 0"),
        ({"freeze_later": "on", "freeze_at": 1}, "freeze_later='on' matches the start of no param"),
        (
            {"freeze": "fc", "freeze_later": "layer1", "freeze_at": 1},
            "freeze_later='layer1' leaves nothing to train",
        ),
        (
            {"freeze": "fc", "unfreeze_at": 1, "freeze_later": "layer1", "freeze_at": 1},
            "freeze_later='layer1': not with unfreeze_at",
        ),
        ({"freeze": "fc", "unfreeze_at": 0}, "unfreeze_at must be at least 1, got 0"),
        ({"lr_head": -1.0}, "lr_head must be finite and at least 0, got -1.0"),
        ({"lr_head": float("inf")}, "lr_head must be finite and at least 0, got inf"),
        ({"freeze": "fc", "freeze_norms": True}, "freeze_norms: freeze='fc' matches no batch norm"),
        (
            {"cache_features": True, "freeze": "all-but-head"},
            "batch norms of cnn_mnist .* expected freeze_norms",
        ),
        ({"replace_head": 2}, "replace_head=2: expected init"),
        ({"cache_features": True}, "only with freeze='all-but-head'"),
        (
            {"cache_features": True, "freeze": "all-but-head", "unfreeze_at": 2},
            "without unfreeze_at",
        ),
        (
            {"cache_features": True, "freeze": "all-but-head", "augment": "random_rotation(5)"},
            "expected no augment",
        ),
    ],
)
def test_errors(changes, message):
    names = ("layer1.0.kernel", "layer1.1.scale", "fc.kernel")
    with pytest.raises(ValueError, match=message):
        transfer.frozen_pattern(settings_of("cnn_mnist", **changes), names)


def test_features_of_several_heads_are_refused():
    settings = settings_of("googlenet", cache_features=True, freeze="all-but-head")
    with pytest.raises(ValueError, match=r"googlenet has auxiliary classifiers.*aux1\.fc2"):
        transfer.frozen_pattern(settings, ("conv1.conv.kernel", "fc.kernel"))


def test_parts_of_a_run():
    names = ("layer1.0.kernel", "fc.kernel")
    settings = settings_of("cnn_mnist", freeze="all-but-head", unfreeze_at=2, lr_head=0.5)
    _, head, body = transfer.parts(settings, names, 10, later=False)
    assert (body.start, body.frozen, body.learning_rate) == (20, True, None)
    assert head == Part(r"(?:fc)\.[^.]+", 0.5)
    assert not any(part.frozen for part in transfer.parts(settings, names, 10, later=True))


def test_what_is_frozen_later():
    names = ("layer1.0.kernel", "layer2.0.kernel", "fc.kernel")
    settings = settings_of("cnn_mnist", freeze="layer1", freeze_later="layer2", freeze_at=2)
    for later, want in ((False, names[:1]), (True, names[:2])):
        frozen = transfer.selector(transfer.frozen_pattern(settings, names, later=later))
        assert tuple(filter(frozen, names)) == want
        parts = transfer.parts(settings, names, 10, later=later)
        assert [part.frozen for part in parts] == [True, later]
    lines = transfer.table(settings, params_of("cnn_mnist")).splitlines()[2:]
    assert {line.split()[0]: line.split()[4] for line in lines} == {
        "fc": "yes",
        "layer1": "no",
        "layer2": "to",
    }


def test_the_table_tells_every_fate():
    params = params_of("squeezenet1_1", num_classes=2)
    settings = settings_of(
        init="squeezenet.npz", replace_head=2, freeze="features", unfreeze_at=3, lr_head=0.1
    )
    lines = [line.split() for line in transfer.table(settings, params).splitlines()]
    assert lines[2] == ["classifier", "2", "1,026", "drawn", "yes", "0.1"]
    assert lines[3] == ["features", "50", "722,496", "loaded", "after", "epoch", "3", "0.01"]


def test_a_split_layer_gets_rows_of_its_own():
    params = params_of("squeezenet1_1", num_classes=2)
    lines = transfer.table(settings_of(freeze=r"features\.[0-5]\."), params).splitlines()
    starts = {line.split()[0]: line.split()[4] for line in lines[2:]}
    assert starts["features.3"] == "no" and starts["features.12"] == "yes"
    assert starts["classifier"] == "yes"


def test_a_replaced_head_is_drawn_and_the_rest_loaded():
    model = models.create("cnn_mnist", num_classes=3)
    drawn = model.init(jax.random.key(1), jnp.zeros((1, 28, 28, 1)), train=False)
    rng = np.random.default_rng(0)
    shapes = pretrained.shapes("cnn_mnist")
    initial = {
        key: rng.normal(size=shape) if shape else np.array(7) for key, shape in shapes.items()
    }
    loaded = weights.to_torch(transfer.started(initial, drawn, ("fc",)))
    kept = weights.to_torch(drawn)
    for key, value in loaded.items():
        want = kept[key] if key.startswith("fc.") else initial[key].astype(kept[key].dtype)
        np.testing.assert_array_equal(value, want)
    headless = {key: value for key, value in initial.items() if not key.startswith("fc.")}
    again = weights.to_torch(transfer.started(headless, drawn, ("fc",)))
    assert all(np.array_equal(again[key], value) for key, value in loaded.items())
    with pytest.raises(ValueError, match=r"fc\.weight"):
        transfer.started(initial, drawn)
