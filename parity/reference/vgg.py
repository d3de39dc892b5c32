"""Twin of `jaxcnn.models.vgg`: (B, 3, 32, 32) -> (B, num_classes)."""

import torch
from torch import nn


def vgg_block(num_convs, in_channels, out_channels):
    """Return num_convs times 3x3 convolution and ReLU, then a max pool."""
    net = []
    for i in range(num_convs):
        net.append(nn.Conv2d(out_channels if i else in_channels, out_channels, 3, padding=1))
        net.append(nn.ReLU())
    net.append(nn.MaxPool2d(2, 2))
    return nn.Sequential(*net)


def vgg_stack(num_convs, channels):
    """Return the blocks in a row; channels are (in, out) pairs."""
    blocks = [vgg_block(n, *pair) for n, pair in zip(num_convs, channels, strict=True)]
    return nn.Sequential(*blocks)


def cifar_stack(in_channels=3):
    """Return the documented feature stack: (1, 3, 256, 256) -> (1, 512, 8, 8)."""
    channels = ((in_channels, 64), (64, 128), (128, 256), (256, 512), (512, 512))
    return vgg_stack((1, 1, 2, 2, 2), channels)


class VGGCifar(nn.Module):
    """The feature stack and two Linears."""

    def __init__(self, num_classes=10, in_channels=3):
        super().__init__()
        self.feature = cifar_stack(in_channels)
        self.fc = nn.Sequential(nn.Linear(512, 100), nn.ReLU(), nn.Linear(100, num_classes))

    def forward(self, x):
        """Return logits."""
        return self.fc(torch.flatten(self.feature(x), 1))


VARIANTS = {"vgg_cifar": VGGCifar}
