"""Convert weights between PyTorch's .pth, .safetensors and .npz, in any direction, bit for bit.

    python scripts/convert_weights.py SOURCE TARGET

The keys and shapes must be those of a network of `jaxcnn.models`; torchvision's checkpoints fit
the networks of the same names. Only .pth and .pt files need PyTorch.
"""

from pathlib import Path
from typing import Annotated

import _weights
import jax
import jax.numpy as jnp
import numpy as np
import tyro
from _cli import run

from jaxcnn import weights


def main(
    source: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE")],
    target: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="TARGET")],
    /,
    network: str | None = None,
    overwrite: bool = False,
) -> None:
    """Convert weights between .pth, .safetensors and .npz.

    Args:
        source: a .pth, .pt, .safetensors or .npz file, or a run folder (its best weights).
        target: the file to write, of any of these kinds.
        network: whose keys and shapes the weights must have; found from them by default.
        overwrite: replace the target where it exists.
    """
    if source.is_dir():
        source = source / "best.safetensors"
    _weights.check_suffix(target)
    if target.exists() and not overwrite:
        raise FileExistsError(f"{target} exists: replace it with --overwrite")
    with jax.enable_x64(True):  # float64 stays float64
        name, state_dict, model, variables = _weights.load(source, network)
    narrow = [key for key, value in state_dict.items() if value.dtype == jnp.bfloat16]
    if narrow and target.suffix == ".npz":
        raise ValueError(f"{target}: .npz holds no bfloat16, which {source} has ({narrow[0]}, ...)")
    if target.suffix in _weights.PYTORCH:
        arrays = weights.to_torch(variables)
        _weights.write_pytorch(target, {key: arrays[key] for key in state_dict})  # in their order
    else:
        weights.save(target, variables)
    parameters = sum(np.size(leaf) for leaf in jax.tree.leaves(variables["params"]))
    print(
        f"{target}: {name}, {model.num_classes:,} classes, {len(state_dict):,} arrays, "
        f"{parameters:,} parameters"
    )


if __name__ == "__main__":
    run(main)
