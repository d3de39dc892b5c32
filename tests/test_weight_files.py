"""Reading weight files of every kind and age, and refusing what holds no weights."""

import argparse
import importlib
import pickle

import pytest
import torch
from conftest import ROOT
from test_convert_weights import assert_same_bits, small


@pytest.fixture
def read(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "scripts")
    return importlib.import_module("_weights").read_state_dict


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda state_dict: {"state_dict": state_dict, "epoch": 3, "best_acc1": torch.tensor(0.5)},
        lambda state_dict: {"model": state_dict, "args": argparse.Namespace(lr=0.1, model="x")},
        lambda state_dict: {
            "model_state_dict": state_dict,
            "loss": 0.5,
            "optimizer": {"state": {}},
        },
        lambda state_dict: {f"module.{key}": value for key, value in state_dict.items()},
        lambda state_dict: {"state_dict": {f"module.{k}": v for k, v in state_dict.items()}},
        lambda state_dict: {k: torch.nn.Parameter(v, False) for k, v in state_dict.items()},
    ],
)
def test_checkpoints_of_training_scripts(read, tmp_path, wrap, legacy):
    """Also in the format from before PyTorch 1.6, which torchvision's older files have."""
    _, state_dict = small()
    path = tmp_path / "checkpoint.pt"
    torch.save(wrap(state_dict), path, _use_new_zipfile_serialization=not legacy)
    got = {key: torch.from_numpy(value) for key, value in read(path).items()}
    assert_same_bits(got, state_dict)


class Touch:
    """What unpickles into a call."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_files_never_run_code(read, tmp_path):
    mark, path = tmp_path / "mark", tmp_path / "evil.pth"
    _, state_dict = small()
    torch.save(state_dict | {"extra": Touch(mark)}, path)
    with pytest.raises(ValueError, match="evil.pth: not a PyTorch file of tensors alone"):
        read(path)
    path.write_bytes(pickle.dumps(Touch(mark)))
    with pytest.raises(ValueError, match="evil.pth: not a PyTorch file of tensors alone"):
        read(path)
    assert not mark.exists()
    pickle.loads(path.read_bytes()).close()
    assert mark.exists(), "the file runs no code for anyone"


def damaged_files(folder):
    """Write files that hold no readable weights; yield each with a part of the error."""
    twin, state_dict = small()
    torch.save(state_dict, folder / "whole.pth")
    content = (folder / "whole.pth").read_bytes()
    alone = "not a PyTorch file of tensors alone, or damaged"
    for name, data in {
        "cut.pth": content[: len(content) // 2],
        "text.pth": b"no weights at all",
        "empty.pt": b"",
    }.items():
        (folder / name).write_bytes(data)
        yield name, alone
    torch.save(twin, folder / "module.pth")
    yield "module.pth", alone
    tracing = torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2))
    torch.jit.save(tracing, folder / "script.pth")
    yield "script.pth", alone
    for name, value, message in [
        ("list.pth", [1, 2], "holds a list, expected a state_dict"),
        ("nothing.pth", {}, "holds an empty state_dict"),
        ("mixed.pth", state_dict | {"epoch": 3}, "expected a state_dict of named tensors.*'epoch'"),
        ("numbers.pth", {0: torch.zeros(2)}, "expected a state_dict of named tensors.*0"),
        ("sparse.pth", {"a": torch.eye(3).to_sparse()}, "a is a tensor of torch.sparse_coo"),
    ]:
        torch.save(value, folder / name)
        yield name, message
    for name in ("broken.npz", "broken.safetensors"):
        (folder / name).write_bytes(b"no weights at all")
        yield name, "unreadable weights"
    (folder / "weights.onnx").write_bytes(content)
    yield "weights.onnx", "expected a weight file, one of .pth, .pt, .safetensors, .npz"


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_damaged_files_are_named(read, tmp_path):
    for name, message in damaged_files(tmp_path):
        with pytest.raises(ValueError, match=f"{name}: .*{message}") as caught:
            read(tmp_path / name)
        assert len(str(caught.value).splitlines()) == 1
    with pytest.raises(FileNotFoundError, match="missing.pth: no such file"):
        read(tmp_path / "missing.pth")
