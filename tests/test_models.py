import jax
import jax.numpy as jnp
import pytest

from jaxcnn import models
from jaxcnn.models.vgg import VGGBlock, VGGStack


def count(variables):
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


def shapes(model, shape):
    key, images = jax.random.key(0), jax.ShapeDtypeStruct(shape, jnp.float32)
    return jax.eval_shape(lambda k, x: model.init_with_output(k, x, train=False), key, images)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("mlp_mnist", 397_510),
        ("cnn_mnist", 29_034),
        ("alexnet_cifar", 576_778),
        ("vgg_cifar", 9_272_790),
        ("googlenet_cifar", 5_955_452),
        ("resnet_cifar", 11_180_682),
        ("densenet_cifar", 9_855_306),
        ("resnet18_keras", 11_178_378),
        ("airbench94", 1_972_792),
    ],
)
def test_documented_parameter_counts(name, parameters):
    assert count(shapes(models.create(name), (1, *models.input_shape(name)))[1]) == parameters


@pytest.mark.parametrize("name", models.names())
@pytest.mark.parametrize("num_classes", [1, 7])
def test_logits_have_one_column_a_class(name, num_classes):
    model = models.create(name, num_classes=num_classes)
    assert shapes(model, (3, *models.input_shape(name)))[0].shape == (3, num_classes)


@pytest.mark.parametrize("name", models.names())
def test_train_is_keyword_only_and_required(name):
    model, images = models.create(name), jnp.zeros((2, *models.input_shape(name)))
    with pytest.raises(TypeError):
        model.init(jax.random.key(0), images, True)
    with pytest.raises(TypeError, match="train"):
        model.init(jax.random.key(0), images)


def test_documented_shapes_of_vgg_blocks():
    key = jax.random.key(0)

    def shape(module, *size):
        images = jax.ShapeDtypeStruct(size, jnp.float32)
        return jax.eval_shape(lambda k, x: module.init_with_output(k, x)[0], key, images).shape

    assert shape(VGGStack(), 1, 256, 256, 3) == (1, 8, 8, 512)
    assert shape(VGGBlock(2, 16), 2, 31, 20, 3) == (2, 15, 10, 16)


def test_errors_name_the_value():
    with pytest.raises(
        ValueError, match="unknown network 'resnet_mars'; known: airbench94, alexnet, alexnet_cifar"
    ):
        models.create("resnet_mars")
    with pytest.raises(ValueError, match="num_classes must be at least 1, got 0"):
        models.create("cnn_mnist", num_classes=0)
    with pytest.raises(ValueError, match="unknown network"):
        models.input_shape("")
    with pytest.raises(TypeError, match="depth"):
        models.create("cnn_mnist", depth=3)
