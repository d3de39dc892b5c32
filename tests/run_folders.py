"""Short runs into run folders, for tests of what they leave there."""

import numpy as np

from jaxcnn import log, pretrained, runs
from jaxcnn.recipes import load_data
from jaxcnn.settings import Settings


def settings_of(network="mlp_mnist", **changes):
    # Two full batches: a partial one would be another program to compile.
    values = {"epochs": 1, "batch_size": 64, "learning_rate": 0.05, "examples": 128}
    return Settings(network, "digits", **values | changes)


def train(settings, workdir, **options):
    return runs.train(settings, load_data(settings), workdir, log_every=2, **options)


def rows(workdir):
    times = ("seconds", "images_per_second", "waited")
    return [{k: v for k, v in r.items() if k not in times} for r in log.read_metrics(workdir)]


def random_weights(name, dtype=np.float32, seed=0, **options):
    """Draw a network's state_dict, small enough to train from."""
    rng = np.random.default_rng(seed)
    return {
        key: np.zeros(shape, np.int64)
        if key.endswith("num_batches_tracked")
        else np.abs(0.1 * rng.normal(size=shape)).astype(dtype)
        for key, shape in pretrained.shapes(name, **options).items()
    }
