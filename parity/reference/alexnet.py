"""Twin of `jaxcnn.models.alexnet`: (B, 3, 32, 32) -> (B, num_classes)."""

import torch
from torch import nn


class AlexNetCifar(nn.Module):
    """Two convolutions with max pools, three Linears."""

    def __init__(self, num_classes=10, in_channels=3):
        super().__init__()
        self.conv1 = nn.Sequential(nn.Conv2d(in_channels, 64, 5), nn.ReLU())
        self.max_pool1 = nn.MaxPool2d(3, 2)
        self.conv2 = nn.Sequential(nn.Conv2d(64, 64, 5, 1), nn.ReLU())
        self.max_pool2 = nn.MaxPool2d(3, 2)
        self.fc1 = nn.Sequential(nn.Linear(1024, 384), nn.ReLU())
        self.fc2 = nn.Sequential(nn.Linear(384, 192), nn.ReLU())
        self.fc3 = nn.Linear(192, num_classes)

    def forward(self, x):
        """Return logits."""
        x = self.max_pool1(self.conv1(x))
        x = self.max_pool2(self.conv2(x))
        x = torch.flatten(x, 1)
        return self.fc3(self.fc2(self.fc1(x)))


VARIANTS = {"alexnet_cifar": AlexNetCifar}
