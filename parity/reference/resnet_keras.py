"""Twin of `jaxcnn.models.resnet_keras`: (B, 1, H, W) -> logits (B, num_classes)."""

import torch
from torch import nn
from torch.nn import functional as F


def _pad_same(x, kernel, stride, value):
    """Pad to ceil(size / stride) outputs, the odd pixel at the end."""
    sides = []
    for size in (x.shape[3], x.shape[2]):  # F.pad takes the last axis first
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        sides += [total // 2, total - total // 2]
    return F.pad(x, sides, value=value)


class Conv2dSame(nn.Conv2d):
    """A convolution with Keras' `same` padding and initialisation."""

    def reset_parameters(self):
        """Draw glorot-uniform weights; zero the bias."""
        nn.init.xavier_uniform_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, x):
        """Return (B, out_channels, ceil(H / stride), ceil(W / stride))."""
        return super().forward(_pad_same(x, self.kernel_size[0], self.stride[0], 0.0))


class MaxPool2dSame(nn.MaxPool2d):
    """A max pool with Keras' `same` padding."""

    def forward(self, x):
        """Return (B, C, ceil(H / stride), ceil(W / stride))."""
        return super().forward(_pad_same(x, self.kernel_size, self.stride, -torch.inf))


class BatchNorm2dBiased(nn.BatchNorm2d):
    """Keras' BatchNormalization: momentum 0.99 of the old value, biased running variance."""

    def __init__(self, channels):
        super().__init__(channels, eps=1e-3, momentum=0.01)

    def forward(self, x):
        """Return x, normalised."""
        if not self.training:
            return super().forward(x)
        with torch.no_grad():
            var, mean = torch.var_mean(x, (0, 2, 3), correction=0)
            self.running_mean += self.momentum * (mean - self.running_mean)
            self.running_var += self.momentum * (var - self.running_var)
            self.num_batches_tracked += 1
        return F.batch_norm(x, None, None, self.weight, self.bias, True, eps=self.eps)


class Residual(nn.Module):
    """The documented block: two 3x3 convolutions, the shortcut plain or a 1x1 convolution."""

    def __init__(self, in_channels, channels, use_1x1conv=False, strides=1):
        super().__init__()
        self.conv1 = Conv2dSame(in_channels, channels, 3, strides)
        self.bn1 = BatchNorm2dBiased(channels)
        self.conv2 = Conv2dSame(channels, channels, 3)
        self.bn2 = BatchNorm2dBiased(channels)
        self.conv3 = Conv2dSame(in_channels, channels, 1, strides) if use_1x1conv else nn.Identity()
        self.relu = nn.ReLU()

    def forward(self, x):
        """Return (B, channels, H', W')."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return self.relu(out + self.conv3(x))


class Stage(nn.Sequential):
    """n blocks; the first halves the size unless it stands in the first stage."""

    def __init__(self, in_channels, channels, n, first=False):
        blocks = [Residual(in_channels, channels, not first, 1 if first else 2)]
        super().__init__(*blocks, *(Residual(channels, channels) for _ in range(n - 1)))


class ResNetKeras(nn.Module):
    """A 7x7 convolution, four stages, a global pool, one Linear."""

    def __init__(self, num_classes=10, num_blocks=(2, 2, 2, 2), in_channels=1):
        super().__init__()
        self.conv = Conv2dSame(in_channels, 64, 7, 2)
        self.bn = BatchNorm2dBiased(64)
        self.relu = nn.ReLU()
        self.max_pool = MaxPool2dSame(3, 2)
        self.stage1 = Stage(64, 64, num_blocks[0], first=True)
        self.stage2 = Stage(64, 128, num_blocks[1])
        self.stage3 = Stage(128, 256, num_blocks[2])
        self.stage4 = Stage(256, 512, num_blocks[3])
        self.global_pool = nn.AdaptiveAvgPool2d(1)
        self.dense = nn.Linear(512, num_classes)
        nn.init.xavier_uniform_(self.dense.weight)
        nn.init.zeros_(self.dense.bias)

    def forward(self, x):
        """Return logits."""
        x = self.max_pool(self.relu(self.bn(self.conv(x))))
        x = self.stage4(self.stage3(self.stage2(self.stage1(x))))
        return self.dense(torch.flatten(self.global_pool(x), 1))


VARIANTS = {"resnet18_keras": (ResNetKeras, (63, 50))}
