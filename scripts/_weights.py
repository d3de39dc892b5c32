"""Weight files of every kind: PyTorch's .pth and .pt, and .safetensors and .npz.

Only PyTorch's own files need PyTorch, which is imported when one is read or written.
"""

import argparse
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn import data, models, pretrained, weights
from jaxcnn.files import atomic_file

PYTORCH = (".pth", ".pt")
SUFFIXES = (*PYTORCH, ".safetensors", ".npz")

_SHOWN = 20  # lines of what keeps weights from fitting

# Under which key training scripts keep the network's state_dict in a checkpoint.
_WRAPPERS = ("state_dict", "model", "model_state_dict")


def check_suffix(path: Path) -> None:
    """Raise a ValueError if the path does not end as a weight file."""
    if path.suffix not in SUFFIXES:
        raise ValueError(f"{path}: expected a weight file, one of {', '.join(SUFFIXES)}")


def read_state_dict(path: Path) -> dict[str, np.ndarray]:
    """Read a weight file as PyTorch key -> array, cleaned by `jaxcnn.pretrained.clean`.

    A .pth or .pt file holds a state_dict, or a checkpoint with one under `state_dict`, `model` or
    `model_state_dict`. It is loaded without running code (`weights_only`). Arrays keep their dtype;
    bfloat16 is JAX's.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another suffix, an unreadable file, or one that holds no state_dict.
        ImportError: PyTorch is needed and not installed.
    """
    path = Path(path)
    check_suffix(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        state_dict = _read_pytorch(path) if path.suffix in PYTORCH else weights.read(path)
        return pretrained.clean(state_dict)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


class Loaded(NamedTuple):
    """A weight file and the network that it belongs to."""

    network: str
    state_dict: dict[str, np.ndarray]
    model: Any
    variables: dict[str, Any]


def load(path: Path, network: str | None = None) -> Loaded:
    """Read a weight file into its network, which is found from the keys unless it is named.

    Raises:
        FileNotFoundError: no such file.
        ValueError: an unreadable file, an unknown network, weights that do not fit it (or, where it
            is not named, any), with what keeps them from it or from the closest.
        ImportError: PyTorch is needed and not installed.
    """
    state_dict = read_state_dict(path)
    try:
        name = network or _find_network(state_dict)
        return Loaded(name, state_dict, *pretrained.load(name, state_dict))
    except ValueError as error:
        problems = str(error).splitlines()
        if len(problems) > _SHOWN:
            problems[_SHOWN:] = [f"  and {len(problems) - _SHOWN} more"]
        raise ValueError(f"{path}: " + "\n".join(problems)) from error


def make_preprocess(
    network: str, normalization: str | None = None
) -> Callable[[jax.Array], jax.Array]:
    """Return `data.make_preprocess` as a weights file of a network wants it.

    Args:
        network: its name.
        normalization: what the weights were trained with; None is imagenet for the networks with
            torchvision's names, symmetric for the others.
    """
    if normalization is None:
        normalization = "imagenet" if for_imagenet(network) else "symmetric"
    return data.make_preprocess(models.input_shape(network), normalization=normalization)


def for_imagenet(network: str) -> bool:
    """Tell whether a network has torchvision's name, and so ImageNet's 1,000 classes by default."""
    return models.create(network).num_classes == 1000


def _find_network(state_dict: Mapping[str, np.ndarray]) -> str:
    names = pretrained.guess(state_dict)
    if len(names) > 1:
        raise ValueError(f"the weights fit {' and '.join(names)}: name one with --network")
    if names:
        return names[0]
    message = f"no network has these {len(state_dict)} keys ({next(iter(state_dict), '-')}, ...)"
    if closest := pretrained.closest(state_dict):
        try:
            pretrained.load(closest, state_dict)
        except ValueError as error:
            message += f" and shapes; the closest is {error}"
    raise ValueError(message)


def write_pytorch(path: Path, state_dict: Mapping[str, np.ndarray]) -> None:
    """Write a .pth file that `module.load_state_dict(torch.load(path))` reads.

    It holds an OrderedDict of tensors and is written whole or not at all.

    Raises:
        ImportError: PyTorch is not installed.
    """
    torch = _torch(path)

    def tensor(value: np.ndarray) -> Any:
        if value.dtype == jnp.bfloat16:  # of which torch.from_numpy knows nothing
            return torch.from_numpy(value.view(np.int16)).view(torch.bfloat16)
        return torch.from_numpy(value)

    tensors = OrderedDict((key, tensor(np.array(value))) for key, value in state_dict.items())
    with atomic_file(path) as file:
        torch.save(tensors, file)


def _read_pytorch(path: Path) -> dict[str, np.ndarray]:
    torch = _torch(path)

    def array(key: str, value: Any) -> np.ndarray:
        value = value.detach()
        if value.dtype == torch.bfloat16:  # of which NumPy knows nothing
            return value.contiguous().view(torch.int16).numpy().view(jnp.bfloat16)
        try:
            return value.numpy()
        except (TypeError, RuntimeError) as error:
            raise ValueError(f"{key} is a tensor of {value.layout}, {value.dtype}") from error

    try:
        # torchvision's training script keeps its command line, a Namespace, in the checkpoint.
        with torch.serialization.safe_globals([argparse.Namespace]):
            found = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # zipfile, pickle and PyTorch each raise their own
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(
            "not a PyTorch file of tensors alone, or damaged; torch.save(module.state_dict(), ...) "
            f"writes one ({type(error).__name__}: {reason})"
        ) from error
    for wrapper in _WRAPPERS:
        if isinstance(found, Mapping) and isinstance(found.get(wrapper), Mapping):
            found = found[wrapper]
            break
    if not isinstance(found, Mapping):
        raise ValueError(f"holds a {type(found).__name__}, expected a state_dict")
    other = [
        key
        for key, value in found.items()
        if not (isinstance(key, str) and isinstance(value, torch.Tensor))
    ]
    if other:
        names = ", ".join(map(repr, other[:8]))
        raise ValueError(f"expected a state_dict of named tensors, found also {names}")
    if not found:
        raise ValueError("holds an empty state_dict")
    return {key: array(key, value) for key, value in found.items()}


def _torch(path: Path) -> Any:
    try:
        import torch
    except ImportError as error:
        raise ImportError(
            f"{path}: {path.suffix} files need PyTorch, which is not installed: pip install torch"
        ) from error
    return torch
