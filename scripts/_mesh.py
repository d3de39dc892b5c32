"""The devices of a run, and its other processes, as the options of train.py name them."""

from jax.sharding import Mesh

from jaxcnn import devices, processes


def joined(
    count: int | None,
    coordinator: str | None,
    several: int | None,
    number: int | None,
    timeout: int,
) -> Mesh | None:
    """Join the other processes, and return the devices to train on; None for a single one.

    Args:
        count: --devices.
        coordinator: --coordinator.
        several: --processes.
        number: --process.
        timeout: --process-timeout.

    Raises:
        ValueError: options that do not go together, or more devices than there are.
        ConnectionError: the other processes were not reached.
    """
    if count is not None and coordinator != processes.AUTO:
        # Before JAX is asked for a device, as joining does.
        devices.virtual(max(1, count // (several or 1)))
    if coordinator is not None:
        processes.start(coordinator, several, number, timeout=timeout)
    elif (several, number) != (None, None):
        raise ValueError("--processes and --process: expected --coordinator with them")
    if count is None and not processes.several():
        return None
    return devices.make_mesh(count)
