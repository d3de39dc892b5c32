import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from jaxcnn import models, weights
from parity import reference

# Half a gigabyte each, and keys as those of vgg11 and vgg11_bn.
LARGE = {"vgg13", "vgg13_bn", "vgg16", "vgg16_bn", "vgg19", "vgg19_bn"}
NAMES = [
    pytest.param(name, marks=[pytest.mark.slow] if name in LARGE else []) for name in models.names()
]


def variables_of(name, seed=0):
    model, rng = models.create(name), np.random.default_rng(seed)
    images = jax.ShapeDtypeStruct((1, *models.input_shape(name)), jnp.float32)
    template = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), images)

    def draw(leaf):
        floating = jnp.issubdtype(leaf.dtype, jnp.floating)
        return jnp.asarray(rng.normal(size=leaf.shape) if floating else 7, leaf.dtype)

    return jax.tree.map(draw, template)


def template_of(variables):
    return jax.eval_shape(lambda: variables)


def assert_same_bits(got, want):
    assert jax.tree.structure(got) == jax.tree.structure(want)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


@pytest.mark.parametrize("name", NAMES)
def test_round_trip_through_torch_is_exact(name):
    variables = variables_of(name)
    state_dict = weights.to_torch(variables)
    twin = reference.create(name)
    tensors = {key: torch.from_numpy(value) for key, value in state_dict.items()}
    twin.load_state_dict(tensors, strict=True)
    back = weights.from_torch(twin.state_dict(), template_of(variables))
    assert_same_bits(back, variables)


@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
@pytest.mark.parametrize("name", ["cnn_mnist", "alexnet_cifar"])
def test_files_round_trip_exactly(name, suffix, tmp_path):
    variables = variables_of(name)
    path = tmp_path / f"deep/weights{suffix}"
    weights.save(path, variables)
    assert_same_bits(weights.load(path, template_of(variables)), variables)
    assert [p.name for p in path.parent.iterdir()] == [path.name], "temporary files are left"


def test_bfloat16_goes_into_safetensors_and_not_into_npz(tmp_path):
    variables = jax.tree.map(lambda x: x.astype(jnp.bfloat16), variables_of("mlp_mnist"))
    with pytest.raises(ValueError, match=r"w\.npz: \.npz cannot hold bfloat16"):
        weights.save(tmp_path / "w.npz", variables)
    assert not list(tmp_path.iterdir())
    weights.save(tmp_path / "w.safetensors", variables)
    assert_same_bits(weights.load(tmp_path / "w.safetensors", template_of(variables)), variables)


def test_files_hold_pytorch_keys_and_layout(tmp_path):
    variables = variables_of("cnn_mnist")
    weights.save(tmp_path / "w.npz", variables)
    arrays = weights.read(tmp_path / "w.npz")
    twin = reference.create("cnn_mnist").state_dict()
    assert {k: v.shape for k, v in arrays.items()} == {k: tuple(v.shape) for k, v in twin.items()}
    kernel = np.asarray(variables["params"]["layer1.0"]["kernel"])
    assert arrays["layer1.0.weight"][3, 0, 1, 2] == kernel[1, 2, 0, 3]
    assert arrays["layer1.1.num_batches_tracked"].dtype == np.int64


def test_float64_survives(float64):
    variables = jax.tree.map(
        lambda a: a.astype(jnp.float64) * jnp.pi if a.dtype == jnp.float32 else a,
        variables_of("cnn_mnist"),
    )
    state_dict = weights.to_torch(variables)
    assert state_dict["fc.weight"].dtype == np.float64
    template = template_of(variables_of("cnn_mnist"))  # a float32 template does not narrow
    assert_same_bits(weights.from_torch(state_dict, template), variables)


def test_bfloat16_tensors_load():
    twin = reference.create("mlp_mnist").bfloat16()
    variables = weights.from_torch(twin.state_dict(), template_of(variables_of("mlp_mnist")))
    got = np.asarray(variables["params"]["fc1"]["kernel"].astype(jnp.float32))
    assert np.array_equal(got.T, twin.fc1.weight.detach().float().numpy())


def test_one_error_lists_every_problem():
    variables = variables_of("cnn_mnist")
    state_dict = weights.to_torch(variables)
    del state_dict["fc.bias"], state_dict["layer1.1.running_var"]
    state_dict["classifier.weight"] = np.zeros((10, 3), np.float32)
    state_dict["layer2.0.weight"] = np.zeros((32, 16, 3, 3), np.float32)
    state_dict["layer1.1.num_batches_tracked"] = np.zeros((), np.float32)
    with pytest.raises(ValueError) as caught:
        weights.from_torch(state_dict, template_of(variables))
    for expected in (
        "missing: fc.bias",
        "missing: layer1.1.running_var",
        "unexpected: classifier.weight",
        "wrong shape: layer2.0.weight is (32, 16, 3, 3), expected (32, 16, 5, 5)",
        "wrong dtype: layer1.1.num_batches_tracked is float32, expected int32",
    ):
        assert expected in str(caught.value)


def test_bad_files_are_named(tmp_path):
    template = template_of(variables_of("mlp_mnist"))
    with pytest.raises(ValueError, match=r"safetensors or .npz file, got 'w.pth'"):
        weights.load("w.pth", template)
    with pytest.raises(FileNotFoundError, match="missing.npz"):
        weights.load(tmp_path / "missing.npz", template)
    for suffix in (".npz", ".safetensors"):
        path = tmp_path / f"broken{suffix}"
        path.write_bytes(b"no weights at all")
        with pytest.raises(ValueError, match=f"broken{suffix}: unreadable weights"):
            weights.load(path, template)


def test_a_failed_save_keeps_the_file_before(tmp_path, monkeypatch):
    path = tmp_path / "w.npz"
    variables = variables_of("mlp_mnist")
    weights.save(path, variables)
    before = path.read_bytes()

    def fail(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez", fail)
    with pytest.raises(OSError, match="disk full"):
        weights.save(path, variables_of("mlp_mnist", seed=5))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_unknown_variables_are_refused():
    with pytest.raises(ValueError, match="no PyTorch name"):
        weights.to_torch({"params": {"layer": {"gamma": np.zeros(3)}}})
