"""`torchvision.models` beside a CPU build of torch."""

import importlib
import importlib.util

import pytest
import torch

# torchvision/csrc/ops/nms.cpp and quantized/cpu/qnms_kernel.cpp.
_SCHEMA = "{}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_OPERATORS = "nms", "qnms"
_defined = []  # a Library that is collected takes its operators with it


def torchvision_models():
    """Return the module `torchvision.models`; skip the test where torchvision is not installed.

    A torchvision built for CUDA does not load its operators next to a CPU build of torch, and then
    its import fails for want of the two that it describes itself. No network needs them, so they
    are declared without an implementation; every other problem of the import surfaces.
    """
    if importlib.util.find_spec("torchvision") is None:
        pytest.skip("could not import 'torchvision': it is not installed")
    try:
        return importlib.import_module("torchvision.models")
    except RuntimeError as error:
        if "operator torchvision::nms does not exist" not in str(error):
            raise
    library = torch.library.Library("torchvision", "DEF")
    for name in _OPERATORS:
        library.define(_SCHEMA.format(name))
    _defined.append(library)
    return importlib.import_module("torchvision.models")
