import json
import subprocess
import sys
from functools import partial

import jax
import jax.numpy as jnp
import pytest
import torch
from conftest import ROOT
from flax import linen as nn

from jaxcnn import figures, models, summary
from jaxcnn.layers import BatchNorm2d, Conv2d, Linear, ReLU, flatten
from jaxcnn.layers.tracing import record_calls
from jaxcnn.models.vgg import VGGStack
from parity import reference


def shapes(name, shape=None, **options):
    """Row name -> output shape, of one image; (C, H, W) or (K,), as the specification has it."""
    table = summary.rows(models.create(name), shape or models.input_shape(name), **options)
    return {row.name: row.output_shape[-1:] + row.output_shape[1:-1] for row in table}


def short(row):
    """What a row says without its costs."""
    return row.name, row.kind, row.output_shape, row.parameters


@pytest.mark.parametrize(
    ("name", "documented"),
    [
        ("alexnet_cifar", [("max_pool1", (64, 13, 13)), ("max_pool2", (64, 4, 4)), ("fc3", (10,))]),
        (
            "googlenet_cifar",
            [
                ("block1", (64, 23, 23)),
                ("block2", (192, 11, 11)),
                ("block3", (480, 5, 5)),
                ("block4", (832, 2, 2)),
                ("block5", (1024, 1, 1)),
                ("classifier", (10,)),
            ],
        ),
        (
            "resnet_cifar",
            [
                ("block1", (64, 45, 45)),
                ("block2", (64, 22, 22)),
                ("block3", (128, 11, 11)),
                ("block4", (256, 6, 6)),
                ("block5", (512, 1, 1)),
                ("classifier", (10,)),
            ],
        ),
        (
            "densenet_cifar",
            [("block1", (64, 24, 24)), ("block2", (1024, 1, 1)), ("classifier", (10,))],
        ),
    ],
)
def test_documented_shapes_after_every_block(name, documented):
    found = shapes(name, depth=1)
    assert [(block, found[block]) for block, _ in documented] == documented
    if name != "alexnet_cifar":  # the documented table names every block of the others
        assert list(found) == [block for block, _ in documented]


def test_every_layer_in_order_of_execution():
    table = summary.rows(models.create("cnn_mnist"), (28, 28, 1), batch_size=3)
    assert [short(row) for row in table] == [
        ("layer1.0", "Conv2d", (3, 28, 28, 16), 416),
        ("layer1.1", "BatchNorm2d", (3, 28, 28, 16), 32),
        ("layer1.2", "ReLU", (3, 28, 28, 16), 0),
        ("layer1.3", "MaxPool2d", (3, 14, 14, 16), 0),
        ("layer2.0", "Conv2d", (3, 14, 14, 32), 12832),
        ("layer2.1", "BatchNorm2d", (3, 14, 14, 32), 64),
        ("layer2.2", "ReLU", (3, 14, 14, 32), 0),
        ("layer2.3", "MaxPool2d", (3, 7, 7, 32), 0),
        ("fc", "Linear", (3, 10), 15690),
    ]


def test_names_are_grouped_by_their_components_not_by_modules():
    model = models.create("vgg_cifar", num_classes=7)
    table = summary.rows(model, (64, 32, 3), depth=1)
    assert [short(row) for row in table] == [
        ("feature", "VGGStack", (1, 2, 1, 512), 9_220_480),
        ("fc", "Linear x2, ReLU", (1, 7), 1024 * 100 + 100 + 100 * 7 + 7),
    ]
    table = summary.rows(model, (64, 32, 3), depth=2)
    names = [f"feature.{i}" for i in range(5)] + [f"fc.{i}" for i in range(3)]
    assert [row.name for row in table] == names
    assert short(table[1]) == ("feature.1", "VGGBlock", (1, 16, 8, 128), 73_856)
    # feature.0 to feature.4 have 2, 2, 3, 3 and 3 layers besides fc's three.
    assert [row.name for row in summary.rows(model, (64, 32, 3))][4:9] == [
        "feature.1.1",
        "feature.1.2",
        "feature.2.0",
        "feature.2.1",
        "feature.2.2",
    ]
    table = summary.rows(VGGStack(), (256, 256, 3), depth=1)
    assert table[-1].output_shape == (1, 8, 8, 512), "documented for the stack alone"


@pytest.mark.parametrize("name", models.names())
def test_parameters_add_up_to_the_twins(name):
    with torch.device("meta"):
        count = sum(p.numel() for p in reference.create(name).parameters())
    table = summary.rows(models.create(name), models.input_shape(name), depth=1)
    assert sum(row.parameters for row in table) == count


def test_another_input_size():
    assert shapes("googlenet_cifar", (224, 160, 3), depth=1)["block4"] == (832, 6, 4)


def test_auxiliary_heads_run_in_training_only():
    model, heads = models.create("googlenet"), ("aux1", "aux2")
    evaluated = {r.name: r for r in summary.rows(model, (64, 64, 3), batch_size=2, depth=1)}
    trained = {
        r.name: r for r in summary.rows(model, (64, 64, 3), batch_size=2, depth=1, train=True)
    }
    assert list(evaluated)[-2:] == ["aux2", "aux1"] and set(evaluated) == set(trained)
    for head in heads:
        assert evaluated[head].output_shape is None and trained[head].output_shape == (2, 1000)
        assert evaluated[head].parameters == trained[head].parameters > 2_000_000
        assert evaluated[head].kind == trained[head].kind == "InceptionAux"
    others = set(trained) - set(heads)
    assert all(trained[name] == evaluated[name] for name in others)
    line = figures.as_text(list(evaluated.values())).splitlines()[-3]
    count = f"{evaluated['aux1'].parameters:,}"
    assert line.split() == ["aux1", "InceptionAux", "-", count, "0", "0", "-", "0.00", "MiB"]


class Odd(nn.Module):
    """What the networks do not do together: shared layers, a parameter of a block's own, tuples."""

    @nn.compact
    def __call__(self, images):
        conv, relu = Conv2d(3, 3, padding=1, name="conv"), ReLU(name="relu")
        x = relu(conv(relu(conv(images))))
        x, _ = Scaled(name="block.0")(x)
        return Linear(5, name="fc")(flatten(relu(x)))


class Scaled(nn.Module):
    """Has a parameter of its own and one in a layer, and returns two arrays."""

    @nn.compact
    def __call__(self, x):
        scale = self.param("scale", nn.initializers.ones, (3,))
        return Conv2d(2, 1, name="conv")(x * scale), scale


def test_repeated_calls_and_parameters_of_blocks():
    assert [short(row) for row in summary.rows(Odd(), (4, 5, 3))] == [
        ("conv", "Conv2d", (1, 4, 5, 3), 84),
        ("relu", "ReLU", (1, 4, 5, 3), 0),
        ("conv[1]", "Conv2d", (1, 4, 5, 3), 0),
        ("relu[1]", "ReLU", (1, 4, 5, 3), 0),
        ("block.0.conv", "Conv2d", (1, 4, 5, 2), 8),
        ("block.0", "Scaled", (1, 4, 5, 2), 3),
        ("relu[2]", "ReLU", (1, 4, 5, 2), 0),
        ("fc", "Linear", (1, 5), 205),
    ]
    assert [short(row) for row in summary.rows(Odd(), (4, 5, 3), depth=1)] == [
        ("conv", "Conv2d", (1, 4, 5, 3), 84),
        ("relu", "ReLU", (1, 4, 5, 2), 0),
        ("block", "Scaled", (1, 4, 5, 2), 11),
        ("fc", "Linear", (1, 5), 205),
    ]
    assert sum(row.parameters for row in summary.rows(Odd(), (4, 5, 3), depth=2)) == 300


def test_a_layer_alone():
    assert [short(row) for row in summary.rows(Conv2d(8, 3), (5, 5, 2))] == [
        ("", "Conv2d", (1, 3, 3, 8), 152)
    ]


def test_recomputed_blocks_are_listed_once():
    model = models.create("densenet121", remat=True)
    plain = models.create("densenet121")
    assert summary.rows(model, (32, 32, 3)) == summary.rows(plain, (32, 32, 3))


def test_text_is_aligned_and_has_totals():
    table = summary.rows(models.create("cnn_mnist"), (28, 28, 1), batch_size=2)
    lines = figures.as_text(table).splitlines()
    assert lines[0].split()[:7] == "name kind output kernel stride parameters MACs".split()
    cells = ["layer1.0", "Conv2d", "2x28x28x16", "5x5", "1x1", "416", "627,200", "1,254,400"]
    assert lines[2].split() == [*cells, "5x5", "0.10", "MiB"]
    assert lines[-1].split() == ["total", "29,034", "5,676,160", "11,352,320", "0.47", "MiB"]
    assert len(set(map(len, lines))) == 1
    lines = figures.as_text(table, markdown=True).splitlines()
    assert lines[1].startswith("| -") and lines[1].count("-: |") == 4 and len(lines) == 12
    assert figures.totals(table)["MACs"] == "5,676,160 (0.006 G)"
    assert figures.totals(table, "float64")["parameters"] == "29,034 (0.22 MiB)"


def test_recorded_calls_hold_modules_and_shapes():
    images = jax.ShapeDtypeStruct((2, 3, 3, 4), jnp.float32)
    with record_calls() as calls:
        init = partial(BatchNorm2d(1e-3).init_with_output, train=False)
        jax.eval_shape(init, jax.random.key(0), images)
    (call,) = calls
    assert (call.path, call.name, call.module.eps) == ((), "", 1e-3)
    assert call.output.shape == (2, 3, 3, 4) and call.output.dtype == "float32"


def test_errors_name_the_value_and_the_layer():
    model = models.create("vgg_cifar")
    with pytest.raises(ValueError, match=r"^feature.4.4: max_pool2d: kernel \(2, 2\)") as error:
        summary.rows(model, (16, 16, 3))
    assert str(error.value).count("feature") == 1
    with pytest.raises(ValueError, match=r"input_shape must be \(H, W, C\).*\(16, 0, 3\)"):
        summary.rows(model, (16, 0, 3))
    with pytest.raises(ValueError, match="depth must be at least 1, got 0"):
        summary.rows(model, (32, 32, 3), depth=0)
    with pytest.raises(ValueError, match="batch_size must be at least 1, got -1"):
        summary.rows(model, (32, 32, 3), batch_size=-1)


def test_input_is_read_in_pytorchs_order():
    assert summary.parse_input("3x96x128") == (96, 128, 3)
    for text in ("96x96", "3x96x96x1", "3x0x96", "3x-1x96", "3X96X96", "axbxc", ""):
        with pytest.raises(ValueError, match="CxHxW"):
            summary.parse_input(text)


def call(*arguments, status=0):
    command = [sys.executable, str(ROOT / "scripts/summarize.py"), *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout if status == 0 else done.stderr


def test_script_prints_the_table():
    options = ["--input", "3x256x128", "--num-classes", 3, "--batch-size", 2]
    lines = call("vgg_cifar", *options, "--depth", 1).splitlines()
    assert "evaluation" in lines[0] and "3x256x128" in lines[0]
    assert lines[4].split()[:4] == ["feature", "VGGStack", "2x8x4x512", "9,220,480"]
    assert lines[5].split()[4:6] == ["2x3", "1,638,803"]
    text = call("cnn_mnist", "--xla")
    assert "layer2.3  MaxPool2d    1x7x7x32    2x2     2x2 " in text
    assert "MACs 2,838,080 (0.003 G)" in text and "XLA's count of FLOPs 4,9" in text


def test_script_writes_json(tmp_path):
    call("cnn_mnist", "--format", "json", "--out", tmp_path / "cnn.json")
    stored = json.loads((tmp_path / "cnn.json").read_text())
    assert stored["input"] == [1, 28, 28] and stored["totals"]["MACs"] == "2,838,080 (0.003 G)"
    assert stored["rows"][0] == {
        "name": "layer1.0",
        "kind": "Conv2d",
        "output_shape": [1, 28, 28, 16],
        "window": {"kernel": [5, 5], "stride": [1, 1], "dilation": [1, 1]},
        "parameters": 416,
        "macs": 313_600,
        "receptive_field": [5, 5],
        "activation_bytes": 28 * 28 * 16 * 4,
        "flops": 627_200,
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["resnet_mars"], "error: unknown network 'resnet_mars'; known: airbench94"),
        (["cnn_mnist", "--input", "28x28"], "error: an input is given as CxHxW"),
        (["cnn_mnist", "--input", "1x2x2"], "error: layer2.3: max_pool2d: kernel (2, 2)"),
        (["cnn_mnist", "--depth", "-1"], "error: --depth must be at least 0, got -1"),
        (["cnn_mnist", "--num-classes", "0"], "error: num_classes must be at least 1, got 0"),
        ([], "NETWORK"),
    ],
)
def test_script_mistakes_get_one_clear_line(arguments, message):
    err = call(*arguments, status=2)
    assert message in err and "Traceback" not in err
    if message.startswith("error"):
        assert len(err.splitlines()) == 1
