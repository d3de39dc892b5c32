"""Twins of `jaxcnn.models.vgg`: (B, 3, H, W) -> (B, num_classes)."""

from collections import OrderedDict
from functools import partial

import torch
from torch import nn


def vgg_block(num_convs, in_channels, out_channels, dropout2d=0.0):
    """Return num_convs times 3x3 convolution and ReLU, a max pool and, if asked for, a dropout."""
    net = []
    for i in range(num_convs):
        net.append(nn.Conv2d(out_channels if i else in_channels, out_channels, 3, padding=1))
        net.append(nn.ReLU())
    net.append(nn.MaxPool2d(2, 2))
    if dropout2d:
        net.append(nn.Dropout2d(dropout2d))
    return nn.Sequential(*net)


def vgg_stack(num_convs, channels, dropout2d=0.0):
    """Return the blocks in a row; channels are (in, out) pairs."""
    blocks = [vgg_block(n, *pair, dropout2d) for n, pair in zip(num_convs, channels, strict=True)]
    return nn.Sequential(*blocks)


def cifar_stack(in_channels=3, dropout2d=0.0):
    """Return the documented feature stack: (1, 3, 256, 256) -> (1, 512, 8, 8)."""
    channels = ((in_channels, 64), (64, 128), (128, 256), (256, 512), (512, 512))
    return vgg_stack((1, 1, 2, 2, 2), channels, dropout2d)


class VGGCifar(nn.Module):
    """The feature stack and two Linears; dropouts where asked for."""

    def __init__(self, num_classes=10, in_channels=3, dropout=0.0, dropout2d=0.0):
        super().__init__()
        self.feature = cifar_stack(in_channels, dropout2d)
        # By name, so that the last Linear keeps its key.
        layers = {"0": nn.Linear(512, 100), "1": nn.ReLU()}
        if dropout:
            layers["dropout"] = nn.Dropout(dropout)
        layers["2"] = nn.Linear(100, num_classes)
        self.fc = nn.Sequential(OrderedDict(layers))

    def forward(self, x):
        """Return logits."""
        return self.fc(torch.flatten(self.feature(x), 1))


class VGG(nn.Module):
    """Stages of 3x3 convolutions, an adaptive pool to 7x7, three Linears with dropout."""

    def __init__(self, num_convs, batch_norm, num_classes=1000, dropout=0.5, in_channels=3):
        super().__init__()
        net = []
        for n, channels in zip(num_convs, (64, 128, 256, 512, 512), strict=True):
            for _ in range(n):
                net.append(nn.Conv2d(in_channels, channels, 3, padding=1))
                if batch_norm:
                    net.append(nn.BatchNorm2d(channels))
                net.append(nn.ReLU())
                in_channels = channels
            net.append(nn.MaxPool2d(2, 2))
        self.features = nn.Sequential(*net)
        self.avgpool = nn.AdaptiveAvgPool2d((7, 7))
        self.classifier = nn.Sequential(
            nn.Linear(512 * 7 * 7, 4096),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(4096, 4096),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(4096, num_classes),
        )

    def forward(self, x):
        """Return logits."""
        x = self.avgpool(self.features(x))
        return self.classifier(torch.flatten(x, 1))


# At (32, 64) the adaptive pool enlarges: 1x2 to 7x7.
VARIANTS = {
    "vgg_cifar": (VGGCifar, (32, 48)),
    "vgg11": (partial(VGG, (1, 1, 2, 2, 2), False), (32, 64)),
    "vgg11_bn": (partial(VGG, (1, 1, 2, 2, 2), True), (32, 64)),
    "vgg13": (partial(VGG, (2, 2, 2, 2, 2), False), (32, 64)),
    "vgg13_bn": (partial(VGG, (2, 2, 2, 2, 2), True), (32, 64)),
    "vgg16": (partial(VGG, (2, 2, 3, 3, 3), False), (32, 64)),
    "vgg16_bn": (partial(VGG, (2, 2, 3, 3, 3), True), (32, 64)),
    "vgg19": (partial(VGG, (2, 2, 4, 4, 4), False), (32, 64)),
    "vgg19_bn": (partial(VGG, (2, 2, 4, 4, 4), True), (32, 64)),
}
