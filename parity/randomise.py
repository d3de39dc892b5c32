"""Random weights and statistics under which a mistake shows and rounding stays small."""

import math

import numpy as np
import torch


def randomise(module: torch.nn.Module, seed: int) -> None:
    """Draw every parameter and statistic of a torch module, in place, far from the initial ones.

    Zeros and ones hide mistakes: a fresh batch norm is nearly the identity, whatever its eps, its
    momentum and the order of its operations. Weights get PyTorch's fan-in and the gain 2 of
    He et al., so that the signal survives any depth; vectors named `weight` (norms' scales) lie in
    0.5 to 1.5, a quarter of them negative; biases and running means are normal; running variances
    lie in 0.5 to 2.5; batch counters in 1 to 20.

    A module's attribute `last_norm` names the norm that ends its residual branch, whose scales are
    divided by 5: with dozens of full branches on top of each other the network itself is
    ill-conditioned, and PyTorch's `resnet152` differs by 2e-12 from PyTorch's with an input that
    differs by 1e-15.
    """
    rng = np.random.default_rng(seed)
    ends = {
        f"{name}.{child.last_norm}.weight".lstrip(".")
        for name, child in module.named_modules()
        if hasattr(child, "last_norm")
    }
    for key, tensor in module.state_dict().items():
        shape, leaf = tuple(tensor.shape), key.rsplit(".", 1)[-1]
        if not tensor.is_floating_point():
            value = rng.integers(1, 20, shape)
        elif leaf == "running_var":
            value = rng.uniform(0.5, 2.5, shape)
        elif len(shape) > 1:
            value = rng.normal(0, math.sqrt(2 / math.prod(shape[1:])), shape)
        elif leaf == "weight":
            value = rng.uniform(0.5, 1.5, shape) * rng.choice([1, 1, 1, -1], shape)
            value = value / 5 if key in ends else value
        else:
            value = rng.normal(0, 0.2, shape)
        # copy_ rounds to the module's dtype; a float64 module gets float32's values too.
        drawn = torch.as_tensor(value)
        tensor.copy_(drawn.float() if drawn.is_floating_point() else drawn)
