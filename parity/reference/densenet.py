"""Twins of `jaxcnn.models.densenet`: (B, 3, H, W) -> (B, num_classes)."""

from collections import OrderedDict
from functools import partial

import torch
from torch import nn


def conv_block(in_channels, out_channels):
    """Return batch norm, ReLU, 3x3 convolution."""
    return nn.Sequential(
        nn.BatchNorm2d(in_channels),
        nn.ReLU(),
        nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
    )


class DenseBlock(nn.Module):
    """Blocks of which each adds growth_rate channels in front of its input's."""

    def __init__(self, in_channels, growth_rate, num_layers):
        super().__init__()
        blocks = [conv_block(in_channels + i * growth_rate, growth_rate) for i in range(num_layers)]
        self.net = nn.Sequential(*blocks)

    def forward(self, x):
        """Return (B, num_layers * growth_rate + in_channels, H, W)."""
        for layer in self.net:
            x = torch.cat((layer(x), x), dim=1)
        return x


dense_block = DenseBlock


def transition(in_channels, out_channels):
    """Return batch norm, ReLU, 1x1 convolution with bias, average pool."""
    return nn.Sequential(
        nn.BatchNorm2d(in_channels),
        nn.ReLU(),
        nn.Conv2d(in_channels, out_channels, 1),
        nn.AvgPool2d(2, 2),
    )


class DenseNetCifar(nn.Module):
    """A stem, four dense blocks with transitions between them, one Linear."""

    def __init__(self, num_classes=10, growth_rate=32, block_layers=(6, 12, 24, 16), in_channels=3):
        super().__init__()
        self.block1 = nn.Sequential(
            nn.Conv2d(in_channels, 64, 7, 2, 3),
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, padding=1),
        )
        channels = 64
        blocks = []
        for i, layers in enumerate(block_layers):
            blocks.append(dense_block(channels, growth_rate, layers))
            channels += layers * growth_rate
            if i != len(block_layers) - 1:
                blocks.append(transition(channels, channels // 2))
                channels //= 2
        self.block2 = nn.Sequential(*blocks)
        self.block2.add_module("bn", nn.BatchNorm2d(channels))
        self.block2.add_module("relu", nn.ReLU())
        self.block2.add_module("avg_pool", nn.AvgPool2d(3))
        self.classifier = nn.Linear(channels, num_classes)

    def forward(self, x):
        """Return logits."""
        x = self.block2(self.block1(x))
        return self.classifier(torch.flatten(x, 1))


def _named(**modules):
    return nn.Sequential(OrderedDict(modules))


def dense_layer(in_channels, growth_rate, drop_rate=0.0):
    """Return torchvision's layer: a 1x1 convolution to 4 * growth_rate, then a 3x3 one."""
    dropout = {"dropout": nn.Dropout(drop_rate)} if drop_rate else {}
    return _named(
        norm1=nn.BatchNorm2d(in_channels),
        relu1=nn.ReLU(),
        conv1=nn.Conv2d(in_channels, 4 * growth_rate, 1, bias=False),
        norm2=nn.BatchNorm2d(4 * growth_rate),
        relu2=nn.ReLU(),
        conv2=nn.Conv2d(4 * growth_rate, growth_rate, 3, padding=1, bias=False),
        **dropout,
    )


class DenseLayers(nn.ModuleDict):
    """torchvision's dense block: new features behind the old ones."""

    def __init__(self, in_channels, growth_rate, num_layers, drop_rate=0.0):
        super().__init__()
        for i in range(num_layers):
            channels = in_channels + i * growth_rate
            self[f"denselayer{i + 1}"] = dense_layer(channels, growth_rate, drop_rate)

    def forward(self, x):
        """Return (B, in_channels + num_layers * growth_rate, H, W)."""
        for layer in self.values():
            x = torch.cat((x, layer(x)), dim=1)
        return x


class DenseNet(nn.Module):
    """torchvision's DenseNet: bottlenecks, transitions that halve the channels, global pool."""

    def __init__(
        self,
        growth_rate,
        block_layers,
        stem_channels,
        num_classes=1000,
        drop_rate=0.0,
        in_channels=3,
    ):
        super().__init__()
        self.features = _named(
            conv0=nn.Conv2d(in_channels, stem_channels, 7, 2, 3, bias=False),
            norm0=nn.BatchNorm2d(stem_channels),
            relu0=nn.ReLU(),
            pool0=nn.MaxPool2d(3, 2, padding=1),
        )
        channels = stem_channels
        for i, layers in enumerate(block_layers, 1):
            block = DenseLayers(channels, growth_rate, layers, drop_rate)
            self.features.add_module(f"denseblock{i}", block)
            channels += layers * growth_rate
            if i < len(block_layers):
                halved = _named(
                    norm=nn.BatchNorm2d(channels),
                    relu=nn.ReLU(),
                    conv=nn.Conv2d(channels, channels // 2, 1, bias=False),
                    pool=nn.AvgPool2d(2, 2),
                )
                self.features.add_module(f"transition{i}", halved)
                channels //= 2
        self.features.add_module("norm5", nn.BatchNorm2d(channels))
        self.relu = nn.ReLU()
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.classifier = nn.Linear(channels, num_classes)

    def forward(self, x):
        """Return logits."""
        x = self.avgpool(self.relu(self.features(x)))
        return self.classifier(torch.flatten(x, 1))


VARIANTS = {
    "densenet_cifar": (DenseNetCifar, (96, 112)),
    "densenet121": (partial(DenseNet, 32, (6, 12, 24, 16), 64), (64, 96)),
    "densenet161": (partial(DenseNet, 48, (6, 12, 36, 24), 96), (64, 96)),
    "densenet169": (partial(DenseNet, 32, (6, 12, 32, 32), 64), (64, 96)),
    "densenet201": (partial(DenseNet, 32, (6, 12, 48, 32), 64), (64, 96)),
}
