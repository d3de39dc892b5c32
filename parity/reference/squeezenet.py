"""Twin of `jaxcnn.models.squeezenet`: (B, 3, H, W) -> (B, num_classes)."""

import torch
from torch import nn


class Fire(nn.Module):
    """A 1x1 convolution, then a 1x1 and a 3x3 one beside each other."""

    def __init__(self, in_channels, squeeze, expand1x1, expand3x3):
        super().__init__()
        self.squeeze = nn.Conv2d(in_channels, squeeze, 1)
        self.squeeze_activation = nn.ReLU()
        self.expand1x1 = nn.Conv2d(squeeze, expand1x1, 1)
        self.expand1x1_activation = nn.ReLU()
        self.expand3x3 = nn.Conv2d(squeeze, expand3x3, 3, padding=1)
        self.expand3x3_activation = nn.ReLU()

    def forward(self, x):
        """Return (B, expand1x1 + expand3x3, H, W)."""
        x = self.squeeze_activation(self.squeeze(x))
        x1 = self.expand1x1_activation(self.expand1x1(x))
        x3 = self.expand3x3_activation(self.expand3x3(x))
        return torch.cat((x1, x3), 1)


class SqueezeNet(nn.Module):
    """A convolution, eight Fires, pools that round up, a 1x1 convolution as classifier."""

    def __init__(self, num_classes=1000, dropout=0.5, in_channels=3):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, 64, 3, stride=2),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, ceil_mode=True),
            Fire(64, 16, 64, 64),
            Fire(128, 16, 64, 64),
            nn.MaxPool2d(3, 2, ceil_mode=True),
            Fire(128, 32, 128, 128),
            Fire(256, 32, 128, 128),
            nn.MaxPool2d(3, 2, ceil_mode=True),
            Fire(256, 48, 192, 192),
            Fire(384, 48, 192, 192),
            Fire(384, 64, 256, 256),
            Fire(512, 64, 256, 256),
        )
        self.classifier = nn.Sequential(
            nn.Dropout(dropout),
            nn.Conv2d(512, num_classes, 1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d((1, 1)),
        )

    def forward(self, x):
        """Return logits."""
        return torch.flatten(self.classifier(self.features(x)), 1)


VARIANTS = {"squeezenet1_1": (SqueezeNet, (65, 98))}
