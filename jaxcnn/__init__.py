"""Classic convolutional networks as pure functions on JAX, proved equal to their PyTorch originals.

Nothing happens at import: submodules load when they are first named (`jaxcnn.models`,
`jaxcnn.weights`, ...), so `import jaxcnn` costs milliseconds and touches no device.
"""

import importlib
import pkgutil
from types import ModuleType

__version__ = "0.1.0"

_SUBMODULES = frozenset(module.name for module in pkgutil.iter_modules(__path__))


def __getattr__(name: str) -> ModuleType:
    if name in _SUBMODULES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_SUBMODULES})
