"""What `test_devices.py` has computed in a process of 8 virtual devices, printed as JSON.

python tests/on_devices.py FOLDER
"""

import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from small import SmallNet, small_dataset

from jaxcnn import augment, checkpoint, devices, optim
from jaxcnn.data import standardize
from jaxcnn.data.batches import eval_batches
from jaxcnn.fit import fit, run_key
from jaxcnn.train import init_state, make_eval_step, make_train_step

EPOCHS, BATCH = 2, 16  # 50 examples: 4 steps an epoch, the last with 2


def steps(**options):
    """Return optimizer, train and evaluation step; augmentation and dropout draw."""
    tx = optim.create("sgd", 0.1, momentum=0.9, weight_decay=1e-3)

    def preprocess(images):
        return standardize(images).astype(jnp.float64)

    drawn = augment.create("random_crop(padding=1), random_horizontal_flip", (8, 8, 1))
    train_step = make_train_step(SmallNet(), tx, preprocess=preprocess, augment=drawn, **options)
    return tx, train_step, make_eval_step(SmallNet(), preprocess=preprocess)


def initial(made):
    images = jnp.zeros((1, 8, 8, 1), jnp.float64)
    return init_state(SmallNet(), made[0], jax.random.key(0), images)


def run(workdir, made, mesh=None, **options):
    arguments = {"epochs": EPOCHS, "batch_size": BATCH, "seed": 3, "eval_batch_size": 16}
    arguments |= {"checkpoint_every": 3, "log_every": 1, "mesh": mesh} | options
    return fit(initial(made), *made[1:], small_dataset(), workdir, **arguments)


def saved(workdir, made):
    return checkpoint.restore(workdir / "checkpoints/latest", initial(made))[0]


def difference(a, b):
    """Return the largest difference of two trees' leaves, each by the leaf's largest value."""
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    pairs = [(np.asarray(x, np.float64), np.asarray(y, np.float64)) for x, y in pairs]
    return float(max(abs(x - y).max() / max(abs(y).max(), 1e-300) for x, y in pairs))


def program(made, mesh):
    """Return the text of the compiled train step."""
    batch = next(eval_batches(small_dataset().train, BATCH))
    state = devices.replicated(initial(made), mesh)
    lowered = devices.within(mesh, made[1].lower)(state, batch, run_key(3))
    return lowered.compile().as_text()


def main(folder):
    made, parted = steps(), steps(norm_parts=8)
    eight = devices.make_mesh()
    one = run(folder / "one", made)
    found = {"devices": eight.size, "losses": [one["loss"]]}

    def compare(name, other, using):
        found[name] = difference(saved(folder / name, using), saved(folder / other, using))

    found["losses"].append(run(folder / "eight", made, eight)["loss"])
    compare("eight", "one", made)
    run(folder / "resumed", made, eight, epochs=1)
    run(folder / "resumed", made, devices.make_mesh(2), resume=True)
    compare("resumed", "one", made)
    run(folder / "one-parted", parted, epochs=1)
    run(folder / "parted", parted, eight, epochs=1)
    compare("parted", "one-parted", parted)
    found["whole batch's statistics"] = difference(
        saved(folder / "one-parted", parted).batch_stats, saved(folder / "eight", made).batch_stats
    )
    found["all-reduce"] = [program(made, mesh).count(" all-reduce(") for mesh in (None, eight)]
    return found


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_numpy_dtype_promotion", "strict")
    devices.virtual(8)
    print(json.dumps(main(Path(sys.argv[1]))))
