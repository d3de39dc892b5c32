"""Twins of `jaxcnn.models.alexnet`: (B, 3, H, W) -> (B, num_classes)."""

import torch
from torch import nn


def _hidden(inputs, outputs, dropout):
    dropouts = [nn.Dropout(dropout)] if dropout else []
    return nn.Sequential(nn.Linear(inputs, outputs), nn.ReLU(), *dropouts)


class AlexNetCifar(nn.Module):
    """Two convolutions with max pools, three Linears; dropouts where asked for."""

    def __init__(self, num_classes=10, in_channels=3, dropout=0.0, dropout2d=0.0):
        super().__init__()
        self.conv1 = nn.Sequential(nn.Conv2d(in_channels, 64, 5), nn.ReLU())
        self.max_pool1 = nn.MaxPool2d(3, 2)
        self.dropout2d1 = nn.Dropout2d(dropout2d) if dropout2d else nn.Identity()
        self.conv2 = nn.Sequential(nn.Conv2d(64, 64, 5, 1), nn.ReLU())
        self.max_pool2 = nn.MaxPool2d(3, 2)
        self.dropout2d2 = nn.Dropout2d(dropout2d) if dropout2d else nn.Identity()
        self.fc1 = _hidden(1024, 384, dropout)
        self.fc2 = _hidden(384, 192, dropout)
        self.fc3 = nn.Linear(192, num_classes)

    def forward(self, x):
        """Return logits."""
        x = self.dropout2d1(self.max_pool1(self.conv1(x)))
        x = self.dropout2d2(self.max_pool2(self.conv2(x)))
        x = torch.flatten(x, 1)
        return self.fc3(self.fc2(self.fc1(x)))


class AlexNet(nn.Module):
    """Five convolutions, an adaptive pool to 6x6, three Linears with dropout."""

    def __init__(self, num_classes=1000, dropout=0.5, in_channels=3):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, 64, 11, stride=4, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(64, 192, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(192, 384, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(384, 256, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(256, 256, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
        )
        self.avgpool = nn.AdaptiveAvgPool2d((6, 6))
        self.classifier = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(256 * 6 * 6, 4096),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(4096, 4096),
            nn.ReLU(),
            nn.Linear(4096, num_classes),
        )

    def forward(self, x):
        """Return logits."""
        x = self.avgpool(self.features(x))
        return self.classifier(torch.flatten(x, 1))


VARIANTS = {
    "alexnet_cifar": (AlexNetCifar, (32, 34)),
    "alexnet": (AlexNet, (67, 99)),
}
