"""Twins of `jaxcnn.layers.attention` and of the residual networks that use it."""

import torch
from torch import nn
from torch.nn import functional

from parity.reference import resnet


class SqueezeExcitation(nn.Module):
    """torchvision's, its squeezed channels given by a reduction."""

    def __init__(self, channels, reduction=16):
        super().__init__()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(channels, channels // reduction, 1)
        self.activation = nn.ReLU()
        self.fc2 = nn.Conv2d(channels // reduction, channels, 1)
        self.scale_activation = nn.Sigmoid()

    def forward(self, x):
        """Return (B, C, H, W)."""
        gate = self.fc2(self.activation(self.fc1(self.avgpool(x))))
        return x * self.scale_activation(gate)


class ChannelAttention(nn.Module):
    """A gate for every channel from means and maxima through one perceptron."""

    def __init__(self, channels, reduction=16):
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // reduction, 1, bias=False)
        self.activation = nn.ReLU()
        self.fc2 = nn.Conv2d(channels // reduction, channels, 1, bias=False)
        self.scale_activation = nn.Sigmoid()

    def forward(self, x):
        """Return (B, C, H, W)."""
        means = self.fc2(self.activation(self.fc1(x.mean((2, 3), keepdim=True))))
        maxima = self.fc2(self.activation(self.fc1(functional.max_pool2d(x, x.shape[2:]))))
        return x * self.scale_activation(means + maxima)


class SpatialAttention(nn.Module):
    """A gate for every pixel from the channels' mean and maximum around it."""

    def __init__(self, kernel_size=7):
        super().__init__()
        self.conv = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2, bias=False)
        self.scale_activation = nn.Sigmoid()

    def forward(self, x):
        """Return (B, C, H, W)."""
        pooled = torch.cat([x.mean(1, keepdim=True), x.max(1, keepdim=True)[0]], 1)
        return x * self.scale_activation(self.conv(pooled))


class CBAM(nn.Module):
    """Channel attention, then spatial attention."""

    def __init__(self, channels, reduction=16, kernel_size=7):
        super().__init__()
        self.channel_attention = ChannelAttention(channels, reduction)
        self.spatial_attention = SpatialAttention(kernel_size)

    def forward(self, x):
        """Return (B, C, H, W)."""
        return self.spatial_attention(self.channel_attention(x))


class ScaleAttention(nn.Module):
    """A softmax over scales at every pixel."""

    def __init__(self, channels, scales, features=512, hard=False):
        super().__init__()
        self.hard = hard
        self.conv1 = nn.Conv2d(scales * channels, features, 3, padding=1)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d(features, scales, 1)

    def forward(self, maps):
        """Return (B, C, H_1, W_1)."""
        size = maps[0].shape[2:]
        resized = [functional.interpolate(x, size, mode="bilinear") for x in maps]
        scores = self.conv2(self.relu(self.conv1(torch.cat(resized, 1))))
        weights = attention_weights(scores, 1, self.hard)
        return sum(x * weights[:, i : i + 1] for i, x in enumerate(resized))


class SequenceAttention(nn.Module):
    """Scaled dot-product attention over the maps of a sequence (B, T, C, H, W), pixel by pixel."""

    def __init__(self, channels, features, is_causal=False):
        super().__init__()
        self.is_causal = is_causal
        self.query = nn.Linear(channels, features)
        self.key = nn.Linear(channels, features)
        self.value = nn.Linear(channels, features)

    def forward(self, maps):
        """Return (B, T, features, H, W)."""
        x = maps.permute(0, 3, 4, 1, 2)
        out = functional.scaled_dot_product_attention(
            self.query(x), self.key(x), self.value(x), is_causal=self.is_causal
        )
        return out.permute(0, 3, 4, 1, 2)


def attention_weights(scores, dim, hard):
    """Return `torch.nn.functional.gumbel_softmax` without its noise."""
    soft = scores.softmax(dim)
    if not hard:
        return soft
    best = soft.max(dim, keepdim=True)[1]
    picked = torch.zeros_like(scores).scatter_(dim, best, 1.0)
    return picked - soft.detach() + soft


def _attention(name, channels):
    return {"se": SqueezeExcitation, "cbam": CBAM}[name](channels)


class BasicBlock(resnet.BasicBlock):
    """torchvision's, with attention at the end of the branch, named `se` or `cbam`."""

    def __init__(self, in_channels, features, stride=1, *, attention):
        super().__init__(in_channels, features, stride)
        self.attention = attention
        self.add_module(attention, _attention(attention, features))

    def forward(self, x):
        """Return (B, features, H', W')."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.get_submodule(self.attention)(self.bn2(self.conv2(out)))
        return self.relu(out + self.downsample(x))


class Bottleneck(resnet.Bottleneck):
    """torchvision's, with attention at the end of the branch, named `se` or `cbam`."""

    def __init__(self, in_channels, features, stride=1, *, attention):
        super().__init__(in_channels, features, stride)
        self.attention = attention
        self.add_module(attention, _attention(attention, 4 * features))

    def forward(self, x):
        """Return (B, 4 * features, H', W')."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.get_submodule(self.attention)(self.bn3(self.conv3(out)))
        return self.relu(out + self.downsample(x))
