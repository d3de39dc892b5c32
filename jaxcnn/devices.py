"""Data parallel training: every batch is divided over devices, everything else is on all of them.

JAX's own sharding does it: a mesh of one axis, and programs that say of their batches that they
are divided over it (`divided`) and of their results that they are whole (`whole`). What is computed
is what one device computes, but for rounding: means, batch norm's statistics, what augmentation and
dropout draw are those of the whole batch; XLA adds what has to travel between the devices.

Without a mesh, or on one of a single device, `divided` and `whole` change nothing.
"""

import os
from collections.abc import Callable
from functools import cache, partial, wraps
from typing import Any

import jax
import numpy as np
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

AXIS = "data"
"""Name of the mesh's axis: the first axis of a batch is divided over it."""


def make_mesh(count: int | None = None) -> Mesh:
    """Make the mesh that batches are divided over.

    Args:
        count: the first so many of the devices of all processes; None for all.

    Raises:
        ValueError: more devices than there are, fewer than 1, or some that leave a process out.
    """
    # The devices of a process stand side by side: so do the examples that it decodes.
    devices = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
    count = len(devices) if count is None else count
    if not 1 <= count <= len(devices):
        raise ValueError(f"devices={count}: expected 1 to {len(devices)}, {_described(devices)}")
    if jax.process_count() > 1 and count < len(devices):
        raise ValueError(
            f"devices={count}: expected all {len(devices)} of {jax.process_count()} processes"
        )
    return Mesh(np.array(devices[:count]), (AXIS,))


def virtual(count: int) -> None:
    """Let this machine's CPU count as several devices, for tests; they share its cores.

    JAX must not have been asked for a device yet. With a GPU, or where the flag
    `--xla_force_host_platform_device_count` says how many, nothing changes.

    Args:
        count: of devices of this process, at least 1.
    """
    if jax.config.values["jax_num_cpu_devices"] < count and not _forced():
        jax.config.update("jax_num_cpu_devices", count)


def check_divisible(mesh: Mesh | None, **sizes: int) -> None:
    """Raise a ValueError that names the first batch size that the devices do not divide evenly."""
    for name, size in sizes.items():
        if mesh is not None and size % mesh.size:
            raise ValueError(
                f"{name}={size}: expected a multiple of {mesh.size}, the number of devices"
            )


def replicated(tree: Any, mesh: Mesh | None) -> Any:
    """Put arrays on all devices of a mesh.

    Args:
        tree: of arrays of any device or of the host, equal in all processes.
        mesh: None leaves the tree as it is.
    """
    return tree if mesh is None else _put(tree, NamedSharding(mesh, PartitionSpec()))


def placed(batch: Any, mesh: Mesh) -> Any:
    """Put arrays of the host on a mesh, their first axis divided over its devices."""
    return _put(batch, rows(mesh))


def rows(mesh: Mesh) -> NamedSharding:
    """Return the sharding of arrays whose first axis is divided over a mesh."""
    return NamedSharding(mesh, PartitionSpec(AXIS))


def own_rows(mesh: Mesh, size: int) -> slice:
    """Return which rows of a batch the devices of this process hold.

    Args:
        mesh: of `make_mesh`.
        size: rows of the batch, a multiple of the devices.
    """
    places = rows(mesh).addressable_devices_indices_map((size,)).values()
    bounds = [place[0].indices(size)[:2] for place in places if place is not None]
    return slice(min(start for start, _ in bounds), max(stop for _, stop in bounds))


def from_own(array: np.ndarray, mesh: Mesh, size: int) -> jax.Array:
    """Return the batch (size, ...) of which each process gives its `own_rows`."""
    return jax.make_array_from_process_local_data(rows(mesh), array, (size, *array.shape[1:]))


def within(mesh: Mesh | None, function: Callable) -> Callable:
    """Return the function, whose jitted calls then know the mesh; None leaves it as it is."""
    if mesh is None:
        return function

    @wraps(function)
    def inside(*arguments: Any, **options: Any) -> Any:
        with jax.set_mesh(mesh):
            return function(*arguments, **options)

    return inside


def divided(tree: Any) -> Any:
    """Divide the first axis of arrays over the devices of the mesh that is traced for."""
    return _constrained(tree, PartitionSpec(AXIS))


def whole(tree: Any) -> Any:
    """Put whole arrays on every device of the mesh that is traced for."""
    return _constrained(tree, PartitionSpec())


def count() -> int:
    """Return the number of devices of the mesh that is traced for, 1 without one."""
    return max(jax.sharding.get_abstract_mesh().size, 1)


def divides(length: int) -> bool:
    """Return whether `each` can divide so many rows over the devices of the mesh traced for.

    Of other meshes than `make_mesh`'s, and inside of a `shard_map`, it knows nothing.
    """
    mesh = jax.sharding.get_abstract_mesh()
    ours = mesh.axis_names == (AXIS,) and mesh.axis_types == (AxisType.Auto,)
    return count() == 1 or (ours and length % count() == 0)


def each(function: Callable, *by_rows: bool, **parameters: Any) -> Callable:
    """Return the function, that every device of the mesh traced for computes of its own rows.

    XLA divides its own operations by itself; this is for calls that it cannot look into. Without a
    mesh it is the function as it is.

    Args:
        function: of arrays, to an array whose first axis is divided over the devices.
        *by_rows: of each argument, whether it is divided so too; it is whole on all otherwise, and
            its gradient summed over them. The first axes must be such that `divides`.
        **parameters: of the function too, hashable.
    """
    if count() == 1:
        return partial(function, **parameters)
    mesh = jax.sharding.get_abstract_mesh()
    return _each(function, by_rows, tuple(parameters.items()), mesh)


@cache  # for calls outside of `jit`, which would compile it every time
def _each(
    function: Callable,
    by_rows: tuple[bool, ...],
    parameters: tuple[tuple[str, Any], ...],
    mesh: AbstractMesh,
) -> Callable:
    rows = PartitionSpec(AXIS)
    specs = tuple(rows if divided else PartitionSpec() for divided in by_rows)
    given = partial(function, **dict(parameters))
    return jax.jit(jax.shard_map(given, mesh=mesh, in_specs=specs, out_specs=rows, check_vma=False))


def _put(tree: Any, sharding: NamedSharding) -> Any:
    def put(leaf: Any) -> jax.Array:
        # Unlike `jax.device_put` it does not send every array to the other processes to compare.
        host = np.asarray(leaf)
        return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])

    return jax.tree.map(put, tree)


def _constrained(tree: Any, spec: PartitionSpec) -> Any:
    return tree if count() == 1 else jax.lax.with_sharding_constraint(tree, spec)


def _forced() -> bool:
    return "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")


def _described(devices: list[Any]) -> str:
    return f"there are {len(devices)} ({devices[0].device_kind})"
