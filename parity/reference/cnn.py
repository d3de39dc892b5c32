"""Twin of `jaxcnn.models.cnn`: (B, 1, 28, 28) -> (B, num_classes)."""

import torch
from torch import nn


def _layer(in_channels, out_channels, dropout2d):
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size=5, stride=1, padding=2),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
        nn.MaxPool2d(kernel_size=2, stride=2),
        *([nn.Dropout2d(dropout2d)] if dropout2d else []),
    )


class CNN(nn.Module):
    """Conv, batch norm, ReLU, max pool, twice; then a Linear; dropouts where asked for."""

    def __init__(self, num_classes=10, in_channels=1, dropout=0.0, dropout2d=0.0):
        super().__init__()
        self.layer1 = _layer(in_channels, 16, dropout2d)
        self.layer2 = _layer(16, 32, dropout2d)
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        self.fc = nn.Linear(7 * 7 * 32, num_classes)

    def forward(self, x):
        """Return logits."""
        x = self.layer2(self.layer1(x))
        return self.fc(self.dropout(torch.flatten(x, 1)))


VARIANTS = {"cnn_mnist": (CNN, (28, 31))}
