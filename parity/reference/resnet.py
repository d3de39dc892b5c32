"""Twins of `jaxcnn.models.resnet`: (B, 3, H, W) -> (B, num_classes)."""

from functools import partial

import torch
from torch import nn


class ResidualBlock(nn.Module):
    """The documented block: ReLU before the addition, 1x1 shortcut with bias and no norm."""

    def __init__(self, in_channels, out_channels, same_shape=True):
        super().__init__()
        self.same_shape = same_shape
        stride = 1 if same_shape else 2
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        if not same_shape:
            self.conv3 = nn.Conv2d(in_channels, out_channels, 1, stride)
        self.relu = nn.ReLU()

    def forward(self, x):
        """Return (B, out_channels, H', W')."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        if not self.same_shape:
            x = self.conv3(x)
        return self.relu(x + out)


residual_block = ResidualBlock


class ResNetCifar(nn.Module):
    """A 7x7 convolution, four pairs of blocks, one Linear."""

    def __init__(self, num_classes=10, in_channels=3):
        super().__init__()
        self.block1 = nn.Conv2d(in_channels, 64, 7, 2)
        self.block2 = nn.Sequential(
            nn.MaxPool2d(3, 2), residual_block(64, 64), residual_block(64, 64)
        )
        self.block3 = nn.Sequential(residual_block(64, 128, False), residual_block(128, 128))
        self.block4 = nn.Sequential(residual_block(128, 256, False), residual_block(256, 256))
        self.block5 = nn.Sequential(
            residual_block(256, 512, False), residual_block(512, 512), nn.AvgPool2d(3)
        )
        self.classifier = nn.Linear(512, num_classes)

    def forward(self, x):
        """Return logits."""
        x = self.block2(self.block1(x))
        x = self.block5(self.block4(self.block3(x)))
        return self.classifier(torch.flatten(x, 1))


def _conv(in_channels, out_channels, size, stride=1):
    return nn.Conv2d(in_channels, out_channels, size, stride, size // 2, bias=False)


def _downsample(in_channels, out_channels, stride):
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    return nn.Sequential(_conv(in_channels, out_channels, 1, stride), nn.BatchNorm2d(out_channels))


class BasicBlock(nn.Module):
    """torchvision's block of two 3x3 convolutions."""

    expansion = 1

    def __init__(self, in_channels, features, stride=1):
        super().__init__()
        self.conv1 = _conv(in_channels, features, 3, stride)
        self.bn1 = nn.BatchNorm2d(features)
        self.relu = nn.ReLU()
        self.conv2 = _conv(features, features, 3)
        self.bn2 = nn.BatchNorm2d(features)
        self.downsample = _downsample(in_channels, features, stride)

    def forward(self, x):
        """Return (B, features, H', W')."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return self.relu(out + self.downsample(x))


class Bottleneck(nn.Module):
    """torchvision's block of 1x1, 3x3 (with the stride) and 1x1 convolutions."""

    expansion = 4
    last_norm = "bn3"  # see `parity.randomise`

    def __init__(self, in_channels, features, stride=1):
        super().__init__()
        self.conv1 = _conv(in_channels, features, 1)
        self.bn1 = nn.BatchNorm2d(features)
        self.conv2 = _conv(features, features, 3, stride)
        self.bn2 = nn.BatchNorm2d(features)
        self.conv3 = _conv(features, 4 * features, 1)
        self.bn3 = nn.BatchNorm2d(4 * features)
        self.relu = nn.ReLU()
        self.downsample = _downsample(in_channels, 4 * features, stride)

    def forward(self, x):
        """Return (B, 4 * features, H', W')."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return self.relu(out + self.downsample(x))


class ResNet(nn.Module):
    """torchvision's ResNet: a stem, four stages of blocks, a global pool, one Linear."""

    def __init__(
        self, block, num_blocks, num_classes=1000, zero_init_residual=False, in_channels=3
    ):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        channels = 64
        for i, n in enumerate(num_blocks):
            stage = nn.Sequential()
            for j in range(n):
                stage.append(block(channels, 64 * 2**i, 2 if i and not j else 1))
                channels = 64 * 2**i * block.expansion
            setattr(self, f"layer{i + 1}", stage)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(channels, num_classes)

        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if zero_init_residual and isinstance(module, BasicBlock):
                nn.init.zeros_(module.bn2.weight)
            if zero_init_residual and isinstance(module, Bottleneck):
                nn.init.zeros_(module.bn3.weight)

    def forward(self, x):
        """Return logits."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(torch.flatten(self.avgpool(x), 1))


VARIANTS = {
    "resnet_cifar": (ResNetCifar, (96, 128)),
    "resnet18": (partial(ResNet, BasicBlock, (2, 2, 2, 2)), (64, 96)),
    "resnet34": (partial(ResNet, BasicBlock, (3, 4, 6, 3)), (64, 96)),
    "resnet50": (partial(ResNet, Bottleneck, (3, 4, 6, 3)), (64, 96)),
    "resnet101": (partial(ResNet, Bottleneck, (3, 4, 23, 3)), (64, 96)),
    "resnet152": (partial(ResNet, Bottleneck, (3, 8, 36, 3)), (64, 96)),
}
