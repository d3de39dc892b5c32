"""Weight files between kinds, with PyTorch's own modules and files on the other side."""

import importlib
import itertools
import os
import subprocess
import sys
from collections import OrderedDict

import numpy as np
import pytest
import torch
from conftest import ROOT
from processes import call
from test_rules import BLOCKED
from torchvision_import import torchvision_models

from jaxcnn import pretrained, weights
from parity import reference

SUFFIXES = ".pth", ".safetensors", ".npz"
DTYPES = torch.float32, torch.float64, torch.float16, torch.bfloat16


@pytest.fixture
def convert(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "scripts")
    return importlib.import_module("convert_weights").main


def randomise(module, seed=0):
    """Draw every value, statistics and counters too."""
    generator = torch.Generator().manual_seed(seed)
    state_dict = module.state_dict()
    for value in state_dict.values():
        if value.is_floating_point():
            value.copy_(torch.randn(value.shape, generator=generator))
        else:
            value.fill_(2**20 + seed)
    return state_dict


def assert_same_bits(got, want, *, order=True):
    """Compare state_dicts of tensors: keys, their order, dtypes, shapes and bits."""
    assert list(got) == list(want) if order else got.keys() == want.keys()
    for key, value in want.items():
        assert got[key].dtype == value.dtype and got[key].shape == value.shape, key
        assert torch.equal(got[key].view(-1).view(torch.uint8), value.view(-1).view(torch.uint8))


DIRECTIONS = [
    (source, target, dtype)
    for source, target, dtype in itertools.product(SUFFIXES, SUFFIXES, DTYPES)
    if dtype is not torch.bfloat16 or ".npz" not in (source, target)  # see its own test
]


@pytest.mark.parametrize(("source", "target", "dtype"), DIRECTIONS)
def test_every_direction_keeps_every_bit(convert, tmp_path, source, target, dtype):
    twin = reference.create("cnn_mnist", num_classes=7).to(dtype)
    state_dict = randomise(twin)
    state_dict["fc.bias"][:4] = torch.tensor([float("nan"), float("inf"), -0.0, 1e-7])
    paths = [tmp_path / f"{i}{end}" for i, end in enumerate((".pth", source, target, ".pth"))]
    torch.save(state_dict, paths[0])
    for one, other in itertools.pairwise(paths):
        convert(one, other, network="cnn_mnist")
    got = torch.load(paths[-1], weights_only=True)
    assert type(got) is OrderedDict
    # Between .pth files the order of the keys stays; the other kinds have their own.
    assert_same_bits(got, state_dict, order=(source, target) == (".pth", ".pth"))
    twin.load_state_dict(got, strict=True)
    assert sorted(tmp_path.iterdir()) == sorted(paths), "temporary files are left"


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("squeezenet1_1", {}),
        ("resnet18", {}),
        ("densenet121", {}),
        ("googlenet", {"aux_logits": True, "init_weights": False}),
        ("googlenet", {"aux_logits": False, "init_weights": False}),
    ],
)
def test_torchvision_modules_travel_there_and_back(convert, tmp_path, capsys, name, options):
    module = getattr(torchvision_models(), name)(weights=None, num_classes=11, **options)
    state_dict = randomise(module)
    there, back = tmp_path / "a.safetensors", tmp_path / "b.pth"
    torch.save(state_dict, tmp_path / "a.pth")
    convert(tmp_path / "a.pth", there, network=name)
    parameters = sum(value.numel() for value in module.parameters())
    assert capsys.readouterr().out == (
        f"{there}: {name}, 11 classes, {len(state_dict):,} arrays, {parameters:,} parameters\n"
    )
    convert(there, back, network=name)
    got = torch.load(back, weights_only=True)
    assert_same_bits(got, state_dict, order=False)
    module.load_state_dict(got, strict=True)


def small():
    twin = reference.create("cnn_mnist", num_classes=7)
    return twin, randomise(twin)


def test_an_old_densenet_loads_as_in_torchvision(convert, tmp_path):
    """torchvision's own loader, given the same file, comes to the same state_dict."""
    densenet = importlib.import_module(f"{torchvision_models().__name__}.densenet")
    module = densenet.densenet121(num_classes=3)
    state_dict = randomise(module)
    for value in state_dict.values():
        if not value.is_floating_point():
            value.zero_()
    old = {}
    for key, value in state_dict.items():
        for layer in ("norm1", "conv1", "norm2", "conv2"):
            if ".denselayer" in key:
                key = key.replace(f".{layer}.", f".{layer[:-1]}.{layer[-1]}.")
        if not key.endswith("num_batches_tracked"):
            old[key] = value
    torch.save(old, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    convert(tmp_path / "old.pth", tmp_path / "new.pth", network="densenet121")
    got = torch.load(tmp_path / "new.pth", weights_only=True)

    class Weights:
        def get_state_dict(self, **options):
            return torch.load(tmp_path / "old.pth", weights_only=True)

    theirs = densenet.densenet121(num_classes=3)
    densenet._load_state_dict(theirs, Weights(), progress=False)
    assert_same_bits(got, dict(theirs.state_dict()), order=False)
    assert_same_bits(got, dict(state_dict), order=False)


def test_weights_of_another_network_are_refused(convert, tmp_path):
    twin, state_dict = small()
    source, target = tmp_path / "w.pth", tmp_path / "w.npz"

    def refused(found, network=None):
        torch.save(found, source)
        with pytest.raises(ValueError) as caught:
            convert(source, target, network=network)
        assert not target.exists()
        return str(caught.value)

    text = refused(state_dict, "mlp_mnist")
    assert text.startswith(f"{source}: mlp_mnist: the weights have none of the last layer's keys")
    assert text.endswith("the weights fit cnn_mnist")
    assert "unknown network 'lenet'" in refused(state_dict, "lenet")
    damaged = dict(state_dict)
    del damaged["layer2.1.running_var"]
    damaged["layer1.0.weight"] = torch.zeros(16, 1, 3, 3)
    text = refused(damaged)
    assert "no network has these 15 keys (layer1.0.weight, ...) and shapes" in text
    assert "the closest is cnn_mnist" in text
    assert "missing: layer2.1.running_var" in text
    assert "layer1.0.weight is (16, 1, 3, 3), expected (16, 1, 5, 5)" in text
    many = state_dict | {f"other.{i}": torch.zeros(1) for i in range(40)}
    text = refused(many)
    assert len(text.splitlines()) == 21 and text.endswith("and 21 more")
    foreign = {f"blocks.{i}.attn.qkv.weight": torch.zeros(3, 1) for i in range(5)}
    assert "no network has these 5 keys (blocks.0.attn.qkv.weight, ...)" in refused(foreign)
    with pytest.raises(RuntimeError, match="Missing key"):
        twin.load_state_dict(damaged)


def test_two_networks_that_fit_are_a_choice_of_the_user_s(convert, tmp_path, monkeypatch):
    monkeypatch.setattr(pretrained, "guess", lambda state_dict: ["cnn_mnist", "twin_of_it"])
    torch.save(small()[1], tmp_path / "w.pth")
    with pytest.raises(ValueError, match="fit cnn_mnist and twin_of_it: name one with --network"):
        convert(tmp_path / "w.pth", tmp_path / "w.npz")
    convert(tmp_path / "w.pth", tmp_path / "w.npz", network="cnn_mnist")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_target_is_replaced_only_when_asked_for_and_only_as_a_whole(
    convert, tmp_path, monkeypatch, suffix
):
    _, state_dict = small()
    source, target = tmp_path / "source.pth", tmp_path / f"target{suffix}"
    torch.save(state_dict, source)
    target.write_bytes(b"precious")
    with pytest.raises(FileExistsError, match=f"target{suffix} exists: replace it with --overwr"):
        convert(source, target, network="cnn_mnist")
    assert target.read_bytes() == b"precious"

    def fail(*args, **kwargs):
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="disk full"):
            convert(source, target, network="cnn_mnist", overwrite=True)
    assert target.read_bytes() == b"precious"
    assert sorted(tmp_path.iterdir()) == [source, target]
    convert(source, target, network="cnn_mnist", overwrite=True)
    convert(target, tmp_path / "back.pth", network="cnn_mnist")
    got = torch.load(tmp_path / "back.pth", weights_only=True)
    assert_same_bits(got, state_dict, order=False)


def test_bfloat16_does_not_go_into_npz(convert, tmp_path):
    torch.save(reference.create("mlp_mnist").bfloat16().state_dict(), tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"w.npz: .npz holds no bfloat16.*fc1.weight"):
        convert(tmp_path / "w.pth", tmp_path / "w.npz", network="mlp_mnist")
    assert not (tmp_path / "w.npz").exists()


def test_a_run_folder_stands_for_its_best_weights(convert, tmp_path):
    _, state_dict = small()
    arrays = {key: value.numpy() for key, value in state_dict.items()}
    (tmp_path / "run").mkdir()
    weights.save(tmp_path / "run/best.safetensors", pretrained.load("cnn_mnist", arrays)[1])
    convert(tmp_path / "run", tmp_path / "w.pth", network="cnn_mnist")
    got = torch.load(tmp_path / "w.pth", weights_only=True)
    assert_same_bits(got, state_dict, order=False)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="empty/best.safetensors: no such file"):
        convert(tmp_path / "empty", tmp_path / "v.pth")


WITHOUT_TORCH = f"""
{BLOCKED}
import runpy
sys.path.insert(0, "scripts")
sys.argv = ["convert_weights.py", *sys.argv[1:]]
runpy.run_path("scripts/convert_weights.py", run_name="__main__")
"""


def test_only_pytorch_files_need_pytorch(tmp_path):
    def convert_without(*paths):
        command = [sys.executable, "-c", WITHOUT_TORCH, *map(str, paths)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
        return done.returncode, done.stdout, done.stderr

    arrays = {key: value.numpy() for key, value in small()[1].items()}
    np.savez(tmp_path / "w.npz", **arrays)
    status, out, err = convert_without(tmp_path / "w.npz", tmp_path / "w.safetensors")
    assert status == 0, err
    assert "cnn_mnist, 7 classes, 16 arrays" in out
    for paths in [("w.npz", "v.pth"), ("x.pth", "x.npz")]:
        (tmp_path / "x.pth").write_bytes(b"")
        status, _, err = convert_without(*(tmp_path / path for path in paths))
        assert status == 2
        assert err.startswith("error: ") and len(err.splitlines()) == 1
        assert ".pth files need PyTorch, which is not installed: pip install torch" in err


def test_the_command_line(tmp_path):
    torch.save(small()[1], tmp_path / "w.pth")
    out = call("convert_weights", tmp_path / "w.pth", tmp_path / "w.npz")
    assert out == f"{tmp_path / 'w.npz'}: cnn_mnist, 7 classes, 16 arrays, 24,327 parameters\n"
    out = call("convert_weights", tmp_path / "w.pth", tmp_path / "w.npz", status=2)
    assert out == f"error: {tmp_path / 'w.npz'} exists: replace it with --overwrite\n"
    assert "weight file" in call("convert_weights", tmp_path / "w.pth", tmp_path / "w", status=2)
