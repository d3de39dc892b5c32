import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.sharding import Mesh

from jaxcnn import devices


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What 8 virtual devices compute: this process has one, and keeps it."""
    script = Path(__file__).parent / "on_devices.py"
    command = [sys.executable, str(script), str(tmp_path_factory.mktemp("runs"))]
    done = subprocess.run(command, env=os.environ, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_eight_devices_train_as_one(found):
    """Batch norm, augmentation, dropout, a filled last batch, evaluation; float64."""
    assert found["devices"] == 8
    assert found["eight"] <= 1e-10
    np.testing.assert_allclose(*found["losses"], rtol=1e-10)


def test_the_batch_is_divided(found):
    """Gradients and statistics are summed over the devices."""
    alone, eight = found["all-reduce"]
    assert alone == 0 and eight > 0


def test_resumed_on_another_number_of_devices(found):
    assert found["resumed"] <= 1e-10


def test_statistics_of_parts_do_not_depend_on_the_devices(found):
    assert found["parted"] <= 1e-10
    assert found["whole batch's statistics"] > 1e-3


def test_without_a_mesh_nothing_changes():
    tree = {"images": np.ones((3, 2))}
    assert devices.divided(tree) is tree and devices.whole(tree) is tree
    assert devices.replicated(tree, None) is tree
    assert devices.within(None, abs) is abs
    assert devices.count() == 1


def test_errors_name_the_argument():
    there = len(jax.devices())
    for count in (0, there + 1):
        with pytest.raises(ValueError, match=rf"devices={count}: expected 1 to {there}"):
            devices.make_mesh(count)
    mesh = devices.make_mesh(1)
    assert isinstance(mesh, Mesh) and mesh.size == 1
    devices.check_divisible(mesh, batch_size=7)
    devices.check_divisible(None, batch_size=7)


def test_a_batch_that_devices_do_not_divide_is_an_error():
    mesh = jax.sharding.AbstractMesh((8,), (devices.AXIS,))
    with pytest.raises(ValueError, match=r"eval_batch_size=12: expected a multiple of 8"):
        devices.check_divisible(mesh, batch_size=16, eval_batch_size=12)


def test_virtual_devices_are_left_alone_where_the_flag_says_how_many(monkeypatch):
    before = jax.config.values["jax_num_cpu_devices"]
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=4")
    devices.virtual(8)
    assert jax.config.values["jax_num_cpu_devices"] == before
