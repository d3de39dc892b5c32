"""What `test_devices.py` has computed in processes of their own, printed as JSON.

python tests/on_devices.py FOLDER                # on 8 virtual devices
python tests/on_devices.py FOLDER HOST:PORT I    # as process I of two
"""

import json
import re
import sys
from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.multihost_utils import process_allgather
from small import SmallNet, small_dataset

from jaxcnn import augment, checkpoint, devices, optim, processes
from jaxcnn.data import Files, eval_batches, standardize, train_batches
from jaxcnn.fit import fit
from jaxcnn.layers import BatchNorm2d, parts
from jaxcnn.train import init_state, make_eval_step, make_train_step

EPOCHS, BATCH = 2, 16  # 50 examples: 4 steps an epoch, the last with 2


@cache
def steps():
    """Return the optimizer's first state, the train and the evaluation step; all float64."""
    tx = optim.create("sgd", 0.1, momentum=0.9, weight_decay=1e-3)

    def preprocess(images):
        return standardize(images).astype(jnp.float64)

    drawn = augment.create("random_crop(padding=1), random_horizontal_flip", (8, 8, 1))
    images = jnp.zeros((1, 8, 8, 1), jnp.float64)
    state = jax.device_get(init_state(SmallNet(), tx, jax.random.key(0), images))
    train_step = make_train_step(SmallNet(), tx, preprocess=preprocess, augment=drawn)
    return state, train_step, make_eval_step(SmallNet(), preprocess=preprocess)


def run(folder, mesh=None, **options):
    """Train with augmentation, batch norm and dropout; the last batch of an epoch is filled up."""
    state, train_step, eval_step = steps()
    arguments = {"epochs": EPOCHS, "batch_size": BATCH, "seed": 3, "eval_batch_size": 13}
    arguments |= {"checkpoint_every": 3, "log_every": 1, "mesh": mesh} | options
    state = jax.tree.map(jnp.array, state)
    return fit(state, train_step, eval_step, small_dataset(), folder, **arguments)


def difference(folder, other):
    """Return the largest difference of two runs' states, by the largest value of each array."""
    pairs = zip(*(jax.tree.leaves(saved(path)) for path in (folder, other)), strict=True)
    pairs = [(np.asarray(x, np.float64), np.asarray(y, np.float64)) for x, y in pairs]
    return float(max(abs(x - y).max() / max(abs(y).max(), 1e-300) for x, y in pairs))


def saved(folder):
    return checkpoint.restore(folder / "checkpoints/latest", steps()[0])[0]


def normalised(mesh, count):
    """Return the outputs of a batch norm by parts, and how often its devices exchange something."""
    norm, images = BatchNorm2d(), np.random.default_rng(0).normal(size=(16, 4, 4, 3))
    variables = norm.init(jax.random.key(0), jnp.asarray(images), train=False)

    @jax.jit
    def outputs(images):
        with parts.normalised_in(count):
            return norm.apply(variables, devices.divided(images), train=True, mutable=[])[0]

    compiled = devices.within(mesh, lambda: outputs.lower(images).compile())()
    found = np.asarray(compiled(images))
    return found, compiled.as_text().count(" all-reduce(")


def own_code(mesh):
    """Return which of the library's functions a train step calls."""
    state, train_step, _ = steps()
    batch = {"images": np.zeros((BATCH, 8, 8, 1), np.uint8), "labels": np.zeros(BATCH, np.int32)}
    lowered = devices.within(mesh, lambda: train_step.lower(state, batch, jax.random.key(0)))()
    program = lowered.compile().as_text()
    return sorted(set(re.findall(r'"jaxcnn_(\w+)_float64"', program)))


def streamed(folder, mesh=None):
    """Return the last epoch's batches of image files, and how many rows of one are held here."""
    paths = [str(folder / f"{i}.png") for i in range(10)]
    files = Files(tuple(paths), np.arange(10, dtype=np.int32), (8, 8, 1))
    options = {"seed": 0, "epoch": 1, "start": 1, "drop_last": False, "mesh": mesh}
    found, held = [], 0
    for batches in (train_batches(files, 4, **options), eval_batches(files, 4, mesh=mesh)):
        for batch in batches:
            held = sum(part.data.shape[0] for part in batch["images"].addressable_shards)
            if mesh is not None:
                batch |= {"images": process_allgather(batch["images"], tiled=True)}
            found.append({name: np.asarray(batch[name]).tolist() for name in sorted(batch)})
    return found, held


def on_eight(folder):
    eight = devices.make_mesh()
    found = {"devices": eight.size, "loss": run(folder / "one")["loss"]}
    run(folder / "several", eight, epochs=1)
    found["resumed loss"] = run(
        folder / "several", devices.make_mesh(2), steps_per_call=1, resume=True
    )["loss"]
    found["difference"] = difference(folder / "several", folder / "one")
    (alone, _), (divided, found["exchanges"]) = normalised(None, 8), normalised(eight, 8)
    found["parts"] = float(abs(alone - divided).max())
    found["exchanges of the whole"] = normalised(eight, 1)[1]
    found["own code"] = own_code(eight)
    return found


def main(folder, coordinator=None, number=None):
    if coordinator is None:
        devices.virtual(8)
        return on_eight(folder)
    processes.start(coordinator, 2, int(number))
    result = run(folder / "processes", devices.make_mesh())
    streams = streamed(folder, devices.make_mesh())
    return {"loss": result["loss"], "first": processes.first(), "streams": streams}


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_numpy_dtype_promotion", "strict")
    print(json.dumps(main(Path(sys.argv[1]), *sys.argv[2:])))
