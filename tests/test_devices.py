import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import on_devices
import pytest
from jax.sharding import Mesh
from PIL import Image
from processes import free_port

from jaxcnn import devices, log


def started(*arguments, script="on_devices"):
    command = [sys.executable, str(Path(__file__).parent / f"{script}.py"), *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True)


def answer(process):
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return json.loads(out.splitlines()[-1])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def found(folder):
    """What 8 virtual devices compute: this process has one, and keeps it."""
    return answer(started(folder))


def test_several_devices_train_as_one(found):
    """Batch norm, augmentation, dropout, a filled last batch, evaluation; float64.

    The run on 8 devices is resumed on 2.
    """
    assert found["devices"] == 8
    assert found["difference"] <= 1e-10
    assert found["resumed loss"] == pytest.approx(found["loss"], rel=1e-10)


def test_each_device_convolves_by_our_own_code(found, own_code):
    """What is of the whole batch is left to XLA."""
    assert found["own code"] == ["kernel", "outputs", "unpool"]


def test_meshes_that_are_not_ours_and_devices_by_themselves():
    """The library's calls are divided on our own mesh alone; convolutions, pools, derivatives."""
    found = answer(started(script="on_meshes"))
    assert max(found["errors"].values()) <= 1e-12, found
    assert found["compilations"] == [1, 0], "outside of `jit` nothing is compiled twice"


def test_statistics_of_parts_stay_on_their_devices(found):
    assert found["parts"] <= 1e-12
    assert found["exchanges"] == 0 and found["exchanges of the whole"] > 0


def test_two_processes_train_as_one(found, folder, float64):
    rng = np.random.default_rng(0)
    for i in range(10):
        Image.fromarray(rng.integers(0, 256, (8, 8), np.uint8)).save(folder / f"{i}.png")
    coordinator = f"localhost:{free_port()}"
    both = [answer(p) for p in [started(folder, coordinator, i) for i in range(2)]]
    assert [one["first"] for one in both] == [True, False]
    for one in both:
        assert one["loss"] == pytest.approx(found["loss"], rel=1e-10)
    assert on_devices.difference(folder / "processes", folder / "one") <= 1e-10
    rows = [log.read_metrics(folder / name) for name in ("processes", "one")]
    losses = [[row["loss"] for row in each] for each in rows]
    np.testing.assert_allclose(*losses, rtol=1e-10)
    batches, held = on_devices.streamed(folder)
    assert held == 4 and len(batches) == 2 + 3
    for one in both:
        assert one["streams"] == [batches, 2], "each decodes and holds half of a batch"


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
