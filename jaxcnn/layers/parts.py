"""How many parts of a batch have statistics of their own in training.

A batch norm takes the statistics of the whole batch, also of one that is divided over devices
(`torch.nn.SyncBatchNorm`). With as many parts as devices each takes those of the examples that one
device holds, as `torch.nn.parallel.DistributedDataParallel` around plain batch norms does, and
nothing travels between the devices in a forward pass. The parts are a property of the run, not of
the devices: one device computes the same.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_parts: ContextVar[int] = ContextVar("parts", default=1)


@contextmanager
def normalised_in(parts: int) -> Iterator[None]:
    """Let batch norms divide what is traced or computed inside into parts.

    Args:
        parts: how many runs of as many neighbouring examples a batch falls into, at least 1; a
            smaller batch falls into single examples.
    """
    token = _parts.set(parts)
    try:
        yield
    finally:
        _parts.reset(token)


def parts() -> int:
    """Return the number of parts that `normalised_in` set, 1 without."""
    return _parts.get()
