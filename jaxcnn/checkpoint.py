"""Checkpoints of a run, on Orbax; nothing else imports it.

A checkpoint is a train state and a small JSON record of where the run stands. Orbax writes it to a
temporary folder and renames it, and only then removes the one before, so a kill at any moment
leaves a whole checkpoint. Written are the host's arrays: nothing in it depends on the devices that
the state was on.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from jaxcnn import processes
from jaxcnn.schedules import PlateauState
from jaxcnn.train import TrainState


def save(folder: Path, state: TrainState, record: Mapping[str, Any]) -> None:
    """Write a checkpoint as the only one in its folder, named after `state.step`.

    Of several processes (`jaxcnn.processes`) all call it, and the first one writes.

    A checkpoint of the same step is left as it is: a run is a function of its settings, so a
    resumed run that passes the step again holds the same state.

    Args:
        folder: e.g. `RUN/checkpoints/latest`.
        state: the state; not donated, may live on any device.
        record: JSON-serialisable, without NaN.

    Raises:
        FloatingPointError: the state holds a NaN or an infinity; what was saved before stays.
    """
    broken = non_finite(state)
    if broken:
        raise FloatingPointError(
            f"step {int(state.step)}: NaN or infinity in {', '.join(broken[:3])}"
            f"{' and more' if len(broken) > 3 else ''}; not saved to {folder}"
        )
    if not processes.first():
        return
    step = int(state.step)
    folder.mkdir(parents=True, exist_ok=True)
    with _manager(folder) as manager:
        if step in manager.all_steps():
            return
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(jax.device_get(state)),  # pyright: ignore[reportCallIssue]
            record=ocp.args.JsonSave(dict(record)),  # pyright: ignore[reportCallIssue]
        )
        manager.save(step, args=items, force=True)


def restore(folder: Path, template: TrainState) -> tuple[TrainState, dict[str, Any]]:
    """Read the checkpoint in a folder.

    Args:
        folder: what `save` wrote to.
        template: a state of the same structure, shapes and dtypes (arrays or their shapes).

    Returns:
        The state, on the default device, and its record.

    Raises:
        FileNotFoundError: no checkpoint there.
        ValueError: it is damaged, or of another network or optimizer.
    """
    step = saved_step(folder)
    if step is None:
        raise FileNotFoundError(f"no checkpoint in {folder}")
    # Restored to the host first: Orbax would commit the arrays to a device, and a step compiled for
    # uncommitted ones, as a fresh state's are, would be compiled again.
    on_host = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), template)
    items = ocp.args.Composite(
        state=ocp.args.StandardRestore(on_host),  # pyright: ignore[reportCallIssue]
        record=ocp.args.JsonRestore(),
    )
    try:
        with _manager(folder) as manager:
            restored = manager.restore(step, args=items)
    except Exception as error:  # Orbax, TensorStore and JSON each raise their own
        reason = " ".join(str(error).split())[:300]
        raise ValueError(
            f"checkpoint {folder / str(step)} is damaged or of another network or optimizer "
            f"({type(error).__name__}: {reason})"
        ) from error
    return jax.tree.map(jnp.array, restored["state"]), restored["record"]


def saved_step(folder: Path) -> int | None:
    """Return the step of the checkpoint in a folder, None where there is none."""
    if not folder.is_dir():
        return None
    with _manager(folder) as manager:
        return manager.latest_step()


def non_finite(state: TrainState) -> list[str]:
    """Return the paths of the state's arrays that hold a NaN or an infinity."""
    finite = jax.device_get(_finite(state))
    flat = jax.tree_util.tree_flatten_with_path(finite)[0]
    return [jax.tree_util.keystr(path) for path, good in flat if not good]


@jax.jit
def _finite(state: TrainState) -> TrainState:
    def check(leaf: Any) -> Any:
        if isinstance(leaf, PlateauState):
            return np.True_  # its best metric is infinite before the first
        if jnp.issubdtype(leaf.dtype, jnp.floating):
            return jnp.all(jnp.isfinite(leaf))
        return np.True_

    return jax.tree.map(check, state, is_leaf=lambda node: isinstance(node, PlateauState))


def _manager(folder: Path) -> ocp.CheckpointManager:
    # This process alone: the others do not wait for it.
    alone = jax.process_index()
    options = ocp.CheckpointManagerOptions(
        max_to_keep=1,
        create=False,
        enable_async_checkpointing=False,
        multiprocessing_options=ocp.options.MultiprocessingOptions(
            primary_host=alone, active_processes={alone}
        ),
    )
    return ocp.CheckpointManager(folder.absolute(), options=options)
