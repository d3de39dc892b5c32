"""What `test_devices.py` has computed on meshes that are not ours, printed as JSON."""

import json

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxcnn import devices
from jaxcnn.layers import conv2d, conv_transpose2d, max_pool2d

AUTO, EXPLICIT = AxisType.Auto, AxisType.Explicit
MESHES = {
    "ours": ((4,), ("data",), (AUTO,)),
    "another name": ((4,), ("batch",), (AUTO,)),
    "two axes": ((2, 2), ("data", "model"), (AUTO, AUTO)),
    "explicit": ((4,), ("data",), (EXPLICIT,)),
}


def drawn(*shape):
    return np.random.default_rng(sum(shape)).normal(size=shape)


IMAGES, KERNEL, BIAS, BACK = drawn(8, 7, 6, 3), drawn(3, 3, 3, 5), drawn(5), drawn(2, 2, 3, 5)


def loss(images):
    found = max_pool2d(conv2d(images, KERNEL, BIAS), 2, 1)
    return jnp.sum(jnp.sin(conv_transpose2d(found, BACK)))


def derivatives(images):
    """Return the loss, and its derivatives along the images, to the third."""
    orders = [loss]
    for _ in range(3):
        orders.append(lambda x, of=orders[-1]: jnp.sum(jax.grad(of)(x) * jnp.cos(x)))
    return jnp.stack([order(images) for order in orders])


def on(sizes, names, kinds):
    mesh = Mesh(np.array(jax.devices()[:4]).reshape(sizes), names, axis_types=kinds)
    with jax.set_mesh(mesh):
        images = jax.device_put(IMAGES, NamedSharding(mesh, PartitionSpec(names[0])))
        return jax.jit(derivatives)(images)


def each_by_itself():
    """Return what devices compute of two images each, by a `shard_map` and by `pmap`, and alone."""
    mesh, rows = devices.make_mesh(4), PartitionSpec("data")
    mapped = jax.shard_map(lambda x: derivatives(x)[None], mesh=mesh, in_specs=rows, out_specs=rows)
    pairs = IMAGES.reshape(4, 2, *IMAGES.shape[1:])
    alone = np.stack([jax.jit(derivatives)(pair) for pair in pairs])
    return {"shard_map": jax.jit(mapped)(IMAGES), "pmap": jax.pmap(derivatives)(pairs)}, alone


def compilations():
    """Return how many programs five calls outside of `jit` compile after the first."""
    counted = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, *_, **__: counted.append(event) if "backend_compile" in event else None
    )
    with jax.set_mesh(devices.make_mesh(4)):
        conv2d(IMAGES, KERNEL, BIAS)
        first = len(counted)
        for _ in range(5):
            conv2d(IMAGES, KERNEL, BIAS)
    return first, len(counted) - first


def main():
    alone = np.asarray(jax.jit(derivatives)(IMAGES))
    found = {name: abs(on(*mesh) / alone - 1).max() for name, mesh in MESHES.items()}
    several, alone = each_by_itself()
    found |= {name: abs(value / alone - 1).max() for name, value in several.items()}
    return {"errors": {name: float(error) for name, error in found.items()}} | {
        "compilations": compilations()
    }


if __name__ == "__main__":
    devices.virtual(4)
    jax.config.update("jax_enable_x64", True)
    print(json.dumps(main()))
