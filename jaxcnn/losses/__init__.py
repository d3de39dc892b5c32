"""Losses with the values of `torch.nn.functional` (PyTorch 2.13).

Unlike PyTorch's, they return one value an example (a pixel, an element) unless told otherwise:
`reduction="none"`. The mean over the batch belongs to the caller, who may have to mask the rows
that fill up the last batch, or to add auxiliary heads. Classes and channels are the last axis.

A head is a Linear with a loss: `mse_loss` for regression, one logit and
`binary_cross_entropy_with_logits` for two classes (`jax.nn.sigmoid` predicts), K logits and
`cross_entropy` for several (`jax.nn.softmax` predicts).
"""

from jaxcnn.losses.auxiliary import AUXILIARY_WEIGHT, Loss, main_logits, with_auxiliary
from jaxcnn.losses.classes import cross_entropy, nll_loss
from jaxcnn.losses.elementwise import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    l1_loss,
    mse_loss,
    smooth_l1_loss,
)
from jaxcnn.losses.penalties import l1_penalty, l2_penalty

__all__ = [
    "AUXILIARY_WEIGHT",
    "Loss",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "cross_entropy",
    "l1_loss",
    "l1_penalty",
    "l2_penalty",
    "main_logits",
    "mse_loss",
    "nll_loss",
    "smooth_l1_loss",
    "with_auxiliary",
]
