"""Twin of `jaxcnn.models.airbench`: (B, 3, H, W) -> (B, num_classes)."""

import torch
from torch import nn


class ConvGroup(nn.Module):
    """Convolution, pool, norm, GELU; convolution, norm, GELU."""

    def __init__(self, in_channels, features):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, features, 3, padding="same", bias=False)
        self.pool = nn.MaxPool2d(2)
        self.norm1 = nn.BatchNorm2d(features, eps=1e-12, momentum=1 - 0.6)
        self.activation1 = nn.GELU()
        self.conv2 = nn.Conv2d(features, features, 3, padding="same", bias=False)
        self.norm2 = nn.BatchNorm2d(features, eps=1e-12, momentum=1 - 0.6)
        self.activation2 = nn.GELU()

    def forward(self, x):
        """Return (B, features, H // 2, W // 2)."""
        x = self.activation1(self.norm1(self.pool(self.conv1(x))))
        return self.activation2(self.norm2(self.conv2(x)))


class Airbench(nn.Module):
    """A 2x2 convolution, three groups, a max pool, a Linear whose logits are divided by 9."""

    def __init__(self, num_classes=10, in_channels=3):
        super().__init__()
        filters = 2 * in_channels * 2 * 2
        self.whiten = nn.Conv2d(in_channels, filters, 2)
        self.activation = nn.GELU()
        self.group1 = ConvGroup(filters, 64)
        self.group2 = ConvGroup(64, 256)
        self.group3 = ConvGroup(256, 256)
        self.pool = nn.MaxPool2d(3)
        self.head = nn.Linear(256, num_classes, bias=False)

    def forward(self, x):
        """Return logits."""
        x = self.activation(self.whiten(x))
        x = self.group3(self.group2(self.group1(x)))
        return self.head(torch.flatten(self.pool(x), 1)) / 9


VARIANTS = {"airbench94": (Airbench, (25, 34))}
