"""Twin of `jaxcnn.models.mlp`: (B, 1, 28, 28) -> (B, num_classes)."""

import torch
from torch import nn


class MLP(nn.Module):
    """Flatten, Linear 500, ReLU, Linear."""

    def __init__(self, num_classes=10):
        super().__init__()
        self.fc1 = nn.Linear(784, 500)
        self.relu = nn.ReLU()
        self.fc2 = nn.Linear(500, num_classes)

    def forward(self, x):
        """Return logits."""
        return self.fc2(self.relu(self.fc1(torch.flatten(x, 1))))


VARIANTS = {"mlp_mnist": (MLP, (28, 28))}
