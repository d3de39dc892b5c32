"""Twin of `jaxcnn.models.mlp`: (B, 1, 28, 28) -> (B, num_classes)."""

import torch
from torch import nn


class MLP(nn.Module):
    """Flatten, Linear 500, ReLU, with `dropout` a dropout, Linear."""

    def __init__(self, num_classes=10, dropout=0.0):
        super().__init__()
        self.fc1 = nn.Linear(784, 500)
        self.relu = nn.ReLU()
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        self.fc2 = nn.Linear(500, num_classes)

    def forward(self, x):
        """Return logits."""
        return self.fc2(self.dropout(self.relu(self.fc1(torch.flatten(x, 1)))))


VARIANTS = {"mlp_mnist": (MLP, (28, 28))}
