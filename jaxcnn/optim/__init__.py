"""Optimizers by `torch.optim`'s names, arguments and step-by-step values (PyTorch 2.13), on Optax.

An optimizer is a function of the table `OPTIMIZERS`: `(learning_rate, **arguments)` ->
`optax.GradientTransformation`; its arguments and their defaults are PyTorch's. `lbfgs` is none of
them: a step of its evaluates the loss many times, as torch's closure, so that it takes the loss
function itself.
"""

from jaxcnn.optim.adam_family import adam, adamax, adamw, sparse_adam
from jaxcnn.optim.adaptive import adadelta, adagrad, rmsprop
from jaxcnn.optim.by_name import OPTIMIZERS, create
from jaxcnn.optim.conversion import from_torch, to_torch
from jaxcnn.optim.corrected_adam import nadam, radam
from jaxcnn.optim.descent import asgd, sgd
from jaxcnn.optim.lbfgs import Lbfgs, lbfgs
from jaxcnn.optim.lbfgs_conversion import lbfgs_from_torch, lbfgs_to_torch
from jaxcnn.optim.lbfgs_state import LbfgsState
from jaxcnn.optim.lookahead import Lookahead, growing_decay, lookahead
from jaxcnn.optim.on_plateau import OnPlateau, observe, plateau_rate
from jaxcnn.optim.parameter_groups import NORMS_AND_BIASES, groups
from jaxcnn.optim.resilient import rprop
from jaxcnn.optim.stepping import Stepping, step
from jaxcnn.optim.transform import State

__all__ = [
    "NORMS_AND_BIASES",
    "OPTIMIZERS",
    "Lbfgs",
    "LbfgsState",
    "Lookahead",
    "OnPlateau",
    "State",
    "Stepping",
    "adadelta",
    "adagrad",
    "adam",
    "adamax",
    "adamw",
    "asgd",
    "create",
    "from_torch",
    "groups",
    "growing_decay",
    "lbfgs",
    "lbfgs_from_torch",
    "lbfgs_to_torch",
    "lookahead",
    "nadam",
    "observe",
    "plateau_rate",
    "radam",
    "rmsprop",
    "rprop",
    "sgd",
    "sparse_adam",
    "step",
    "to_torch",
]
