"""ImageNet's class names against torchvision's."""

from torchvision_import import torchvision_models

from jaxcnn import imagenet


def test_names_are_torchvision_s():
    torchvision_models()
    from torchvision.models._meta import _IMAGENET_CATEGORIES

    assert imagenet.class_names() == tuple(_IMAGENET_CATEGORIES)


def test_there_are_a_thousand_names_in_synset_order():
    names = imagenet.class_names()
    assert len(names) == len(set(names)) == 1000
    assert all(name == name.strip() != "" for name in names)
    # The dogs are 151-268, the domestic cats 281-285.
    ends = names[0], names[151], names[268], names[281], names[285], names[999]
    assert ends == (
        "tench",
        "Chihuahua",
        "Mexican hairless",
        "tabby",
        "Egyptian cat",
        "toilet tissue",
    )
