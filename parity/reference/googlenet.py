"""Twins of `jaxcnn.models.googlenet`: (B, 3, H, W) -> (B, num_classes)."""

from collections import namedtuple

import torch
from torch import nn


def conv_relu(in_channels, out_channels, kernel, stride=1, padding=0):
    """Return convolution with bias, batch norm (eps 1e-3) and ReLU."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, stride, padding),
        nn.BatchNorm2d(out_channels, eps=1e-3),
        nn.ReLU(True),
    )


class inception(nn.Module):
    """Four branches, concatenated over channels."""

    def __init__(self, in_channels, o1, r3, o3, r5, o5, op):
        super().__init__()
        self.branch1x1 = conv_relu(in_channels, o1, 1)
        self.branch3x3 = nn.Sequential(conv_relu(in_channels, r3, 1), conv_relu(r3, o3, 3, 1, 1))
        self.branch5x5 = nn.Sequential(conv_relu(in_channels, r5, 1), conv_relu(r5, o5, 5, 1, 2))
        self.branch_pool = nn.Sequential(nn.MaxPool2d(3, 1, 1), conv_relu(in_channels, op, 1))

    def forward(self, x):
        """Return o1 + o3 + o5 + op channels."""
        branches = (self.branch1x1, self.branch3x3, self.branch5x5, self.branch_pool)
        return torch.cat([branch(x) for branch in branches], dim=1)


class GoogLeNetCifar(nn.Module):
    """Five blocks and a Linear."""

    def __init__(self, num_classes=10, in_channels=3):
        super().__init__()
        self.block1 = nn.Sequential(conv_relu(in_channels, 64, 7, 2, 3), nn.MaxPool2d(3, 2))
        self.block2 = nn.Sequential(
            conv_relu(64, 64, 1), conv_relu(64, 192, 3, padding=1), nn.MaxPool2d(3, 2)
        )
        self.block3 = nn.Sequential(
            inception(192, 64, 96, 128, 16, 32, 32),
            inception(256, 128, 128, 192, 32, 96, 64),
            nn.MaxPool2d(3, 2),
        )
        self.block4 = nn.Sequential(
            inception(480, 192, 96, 208, 16, 48, 64),
            inception(512, 160, 112, 224, 24, 64, 64),
            inception(512, 128, 128, 256, 24, 64, 64),
            inception(512, 112, 144, 288, 32, 64, 64),
            inception(528, 256, 160, 320, 32, 128, 128),
            nn.MaxPool2d(3, 2),
        )
        self.block5 = nn.Sequential(
            inception(832, 256, 160, 320, 32, 128, 128),
            inception(832, 384, 182, 384, 48, 128, 128),
            nn.AvgPool2d(2),
        )
        self.classifier = nn.Linear(1024, num_classes)

    def forward(self, x):
        """Return logits."""
        x = self.block5(self.block4(self.block3(self.block2(self.block1(x)))))
        return self.classifier(torch.flatten(x, 1))


GoogLeNetOutputs = namedtuple("GoogLeNetOutputs", ["logits", "aux_logits2", "aux_logits1"])


class BasicConv2d(nn.Module):
    """Convolution without bias, batch norm (eps 1e-3), ReLU."""

    def __init__(self, in_channels, out_channels, **options):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, bias=False, **options)
        self.bn = nn.BatchNorm2d(out_channels, eps=0.001)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        """Return out_channels channels."""
        return self.relu(self.bn(self.conv(x)))


class Inception(nn.Module):
    """torchvision's four branches, 3x3 kernels in the third too."""

    def __init__(self, in_channels, o1, r3, o3, r5, o5, op):
        super().__init__()
        self.branch1 = BasicConv2d(in_channels, o1, kernel_size=1)
        self.branch2 = nn.Sequential(
            BasicConv2d(in_channels, r3, kernel_size=1),
            BasicConv2d(r3, o3, kernel_size=3, padding=1),
        )
        self.branch3 = nn.Sequential(
            BasicConv2d(in_channels, r5, kernel_size=1),
            BasicConv2d(r5, o5, kernel_size=3, padding=1),
        )
        self.branch4 = nn.Sequential(
            nn.MaxPool2d(kernel_size=3, stride=1, padding=1, ceil_mode=True),
            BasicConv2d(in_channels, op, kernel_size=1),
        )

    def forward(self, x):
        """Return o1 + o3 + o5 + op channels."""
        return torch.cat([self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], 1)


class InceptionAux(nn.Module):
    """An auxiliary classifier."""

    def __init__(self, in_channels, num_classes, dropout=0.7):
        super().__init__()
        self.avgpool = nn.AdaptiveAvgPool2d((4, 4))
        self.conv = BasicConv2d(in_channels, 128, kernel_size=1)
        self.fc1 = nn.Linear(2048, 1024)
        self.relu = nn.ReLU(inplace=True)
        self.fc2 = nn.Linear(1024, num_classes)
        self.dropout = nn.Dropout(p=dropout)

    def forward(self, x):
        """Return logits."""
        x = torch.flatten(self.conv(self.avgpool(x)), 1)
        return self.fc2(self.dropout(self.relu(self.fc1(x))))


class GoogLeNet(nn.Module):
    """torchvision's `googlenet`."""

    def __init__(
        self,
        num_classes=1000,
        aux_logits=True,
        transform_input=False,
        dropout=0.2,
        dropout_aux=0.7,
        in_channels=3,
    ):
        super().__init__()
        self.aux_logits, self.transform_input = aux_logits, transform_input
        self.conv1 = BasicConv2d(in_channels, 64, kernel_size=7, stride=2, padding=3)
        self.maxpool1 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.conv2 = BasicConv2d(64, 64, kernel_size=1)
        self.conv3 = BasicConv2d(64, 192, kernel_size=3, padding=1)
        self.maxpool2 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.inception3a = Inception(192, 64, 96, 128, 16, 32, 32)
        self.inception3b = Inception(256, 128, 128, 192, 32, 96, 64)
        self.maxpool3 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.inception4a = Inception(480, 192, 96, 208, 16, 48, 64)
        self.inception4b = Inception(512, 160, 112, 224, 24, 64, 64)
        self.inception4c = Inception(512, 128, 128, 256, 24, 64, 64)
        self.inception4d = Inception(512, 112, 144, 288, 32, 64, 64)
        self.inception4e = Inception(528, 256, 160, 320, 32, 128, 128)
        self.maxpool4 = nn.MaxPool2d(2, stride=2, ceil_mode=True)
        self.inception5a = Inception(832, 256, 160, 320, 32, 128, 128)
        self.inception5b = Inception(832, 384, 192, 384, 48, 128, 128)
        if aux_logits:
            self.aux1 = InceptionAux(512, num_classes, dropout_aux)
            self.aux2 = InceptionAux(528, num_classes, dropout_aux)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.dropout = nn.Dropout(p=dropout)
        self.fc = nn.Linear(1024, num_classes)

    def forward(self, x):
        """Return logits, in training those of all heads."""
        if self.transform_input:
            channels = zip((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), strict=True)
            x = torch.stack(
                [
                    x[:, i] * (deviation / 0.5) + (mean - 0.5) / 0.5
                    for i, (mean, deviation) in enumerate(channels)
                ],
                dim=1,
            )
        x = self.maxpool1(self.conv1(x))
        x = self.maxpool2(self.conv3(self.conv2(x)))
        x = self.maxpool3(self.inception3b(self.inception3a(x)))
        x4a = self.inception4a(x)
        x4d = self.inception4d(self.inception4c(self.inception4b(x4a)))
        x = self.maxpool4(self.inception4e(x4d))
        x = self.inception5b(self.inception5a(x))
        logits = self.fc(self.dropout(torch.flatten(self.avgpool(x), 1)))
        if self.training and self.aux_logits:
            return GoogLeNetOutputs(logits, self.aux2(x4d), self.aux1(x4a))
        return logits


VARIANTS = {
    "googlenet_cifar": (GoogLeNetCifar, (96, 100)),
    "googlenet": (GoogLeNet, (65, 98)),
}
