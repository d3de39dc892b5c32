"""The whitening kernel beside torch's eigenvectors, and what it does to patches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from jaxcnn import whitening
from jaxcnn.data import Arrays, standardize
from jaxcnn.layers import conv2d
from jaxcnn.whitening import first_kernel, whitened, whitening_kernel


def smooth(shape, seed=0):
    """Draw images whose neighbours and channels are alike, as a photograph's."""
    noise = np.random.default_rng(seed).normal(0.2, 1, shape)
    return noise + 2 * np.roll(noise, 1, 1) + noise.mean(3, keepdims=True) + np.roll(noise, 1, 2)


def torchs(images, size, eps):
    """Return the filters as the record's code computes them, up to their signs."""
    x = torch.from_numpy(images.transpose(0, 3, 1, 2))
    channels, (height, width) = x.shape[1], size
    patches = x.unfold(2, height, 1).unfold(3, width, 1).transpose(1, 3)
    flat = patches.reshape(-1, channels * height * width)
    eigenvalues, vectors = torch.linalg.eigh(flat.T @ flat / len(flat))
    filters = vectors.T.reshape(-1, channels, height, width).flip(0)
    filters = filters / torch.sqrt(eigenvalues.flip(0).reshape(-1, 1, 1, 1) + eps)
    return torch.cat((filters, -filters)).permute(2, 3, 1, 0).numpy()


@pytest.mark.parametrize("size", [(2, 2), (3, 2), (1, 1), (1, 3)])
@pytest.mark.parametrize(("shape", "eps"), [((700, 5, 6, 3), 5e-4), ((40, 4, 4, 2), 0.3)])
def test_the_kernel_is_torchs_but_for_signs(shape, eps, size):
    images = smooth(shape)
    got, want = whitening_kernel(images, size, eps), torchs(images, size, eps)
    half = got.shape[3] // 2
    np.testing.assert_array_equal(got[..., half:], -got[..., :half])
    signs = np.sign((got * want).sum((0, 1, 2)))
    np.testing.assert_allclose(got * signs, want, rtol=1e-9, atol=1e-10)
    flat = got[..., :half].reshape(-1, half)
    assert (flat.max(0) == np.abs(flat).max(0)).all()


def test_answers_are_uncorrelated_and_of_one_size(float64):
    images = smooth((50, 8, 7, 3))
    kernel = whitening_kernel(images, (2, 2), eps=0)
    answers = conv2d(jnp.asarray(images), jnp.asarray(kernel[..., :12])).reshape(-1, 12)
    np.testing.assert_allclose(answers.T @ answers / len(answers), np.eye(12), atol=1e-10)


def test_only_the_layer_changes_and_keeps_its_dtype():
    params = {"a": {"kernel": jnp.ones((2, 2, 3, 24))}, "b": {"kernel": jnp.ones((2, 2, 3, 5))}}
    images = np.random.default_rng(0).integers(0, 256, (9, 5, 5, 3), dtype=np.uint8)
    split = Arrays(images, np.zeros(9, np.int32))
    kernel = first_kernel(params, "a", split, standardize)
    found = whitened(params, "a", kernel)
    want = whitening_kernel(np.asarray(standardize(images)), (2, 2)).astype(np.float32)
    np.testing.assert_allclose(found["a"]["kernel"], want, rtol=1e-4, atol=1e-5, strict=True)
    assert found["b"]["kernel"] is params["b"]["kernel"]


@pytest.mark.parametrize("layer", ["b", "c", "head"])
def test_a_layer_that_cannot_whiten(layer):
    leaves = {
        "a.kernel": jax.ShapeDtypeStruct((2, 2, 3, 24), float),
        "b.kernel": jax.ShapeDtypeStruct((2, 2, 3, 12), float),
        "head.kernel": jax.ShapeDtypeStruct((9, 3), float),
    }
    with pytest.raises(ValueError, match=f"whiten='{layer}': expected a convolution.*such are: a$"):
        whitening.check_layer(leaves, layer)


@pytest.mark.parametrize(
    ("images", "size", "eps", "message"),
    [
        (np.zeros((2, 4, 4, 3), np.uint8), (2, 2), 0, r"floating, got \(2, 4, 4, 3\) uint8"),
        (np.zeros((2, 4, 4)), (2, 2), 0, r"got \(2, 4, 4\)"),
        (np.zeros((2, 4, 4, 3)), (5, 2), 0, "no patches of 5x2"),
        (np.zeros((0, 4, 4, 3)), (2, 2), 0, "no patches of 2x2"),
        (np.zeros((2, 4, 4, 3)), (2, 2), -1, "eps must be at least 0, got -1"),
        (np.zeros((2, 4, 4, 3)), (2, 2), float("nan"), "eps must be at least 0, got nan"),
    ],
)
def test_errors(images, size, eps, message):
    with pytest.raises(ValueError, match=message):
        whitening_kernel(images, size, eps)


def test_a_sample_goes_through_the_whole_split(monkeypatch, load, tree):
    monkeypatch.setattr(whitening, "IMAGES", 4)
    images = np.arange(10, dtype=np.uint8).reshape(10, 1, 1, 1)
    split = Arrays(images, np.zeros(10, np.int32))
    assert whitening.sample(split).ravel().tolist() == [0, 2, 5, 7]
    few = Arrays(images[:3], np.zeros(3, np.int32))
    assert whitening.sample(few).ravel().tolist() == [0, 1, 2]
    found = [whitening.sample(load(tree, stream=stream).train) for stream in (True, False)]
    assert len(found[0]) == 4
    np.testing.assert_array_equal(*found)
