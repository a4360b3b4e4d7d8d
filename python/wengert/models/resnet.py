"""Residual networks of He, Zhang, Ren and Sun 2015 (arXiv 1512.03385) for photographs.

    model = resnet50("resnet50.pth").eval()
    logits = model(x)                       # x is (n, 3, 224, 224), normalised as in training

Attributes have torchvision's names, so its files load: layer3.0.downsample.1.weight is found there.
The stride of a Bottleneck is in its 3x3 convolution, as there.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import wengert as wg
from wengert import Tensor, nn

from .weights import load_weights

__all__ = ["ResNet", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152"]


class BasicBlock(nn.Module):
    """Two 3x3 convolutions, and x beside them."""

    expansion = 1

    def __init__(self, inputs: int, planes: int, stride: int = 1) -> None:
        """planes: the channels of both convolutions."""
        self.conv1 = nn.Conv2d(inputs, planes, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = _beside(inputs, planes, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs, H, W) to (n, planes, H / stride, W / stride)."""
        h = wg.relu(self.bn1(self.conv1(x)))
        h = self.bn2(self.conv2(h))
        return wg.relu(h + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    """1x1 to fewer channels, 3x3, 1x1 to four times as many, and x beside them."""

    expansion = 4

    def __init__(self, inputs: int, planes: int, stride: int = 1) -> None:
        """planes: the channels of the 3x3 convolution."""
        self.conv1 = nn.Conv2d(inputs, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, planes * 4, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(planes * 4)
        self.downsample = _beside(inputs, planes * 4, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs, H, W) to (n, 4 planes, H / stride, W / stride)."""
        h = wg.relu(self.bn1(self.conv1(x)))
        h = wg.relu(self.bn2(self.conv2(h)))
        h = self.bn3(self.conv3(h))
        return wg.relu(h + (x if self.downsample is None else self.downsample(x)))


def _beside(inputs: int, outputs: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))


class ResNet(nn.Module):
    """A 7x7 convolution, a pool, four stages of blocks, the mean over all places, and a Linear."""

    def __init__(
        self, block: type[BasicBlock | Bottleneck], layers: Sequence[int], num_classes: int = 1000
    ) -> None:
        """layers: blocks in each of the four stages."""
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        inputs, stages = 64, []
        for stage, count in enumerate(layers):
            blocks, planes = [], 64 << stage
            for i in range(count):
                blocks.append(block(inputs, planes, stride=2 if stage and not i else 1))
                inputs = planes * block.expansion
            stages.append(nn.Sequential(*blocks))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.fc = nn.Linear(inputs, num_classes)
        for part in self.modules():
            if isinstance(part, nn.Conv2d):
                nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """(n, 3, H, W) to (n, num_classes)."""
        x = self.maxpool(wg.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        y: Tensor = self.fc(x.mean((2, 3)))
        return y


Weights = str | os.PathLike[str] | None


def _resnet(
    block: type[BasicBlock | Bottleneck], layers: Sequence[int], weights: Weights, num_classes: int
) -> ResNet:
    model = ResNet(block, layers, num_classes)
    if weights is not None:
        load_weights(model, weights)
    return model


def resnet18(weights: Weights = None, num_classes: int = 1000) -> ResNet:
    """Of 18 layers; weights: a file that load_weights reads."""
    return _resnet(BasicBlock, (2, 2, 2, 2), weights, num_classes)


def resnet34(weights: Weights = None, num_classes: int = 1000) -> ResNet:
    """Of 34 layers; weights: a file that load_weights reads."""
    return _resnet(BasicBlock, (3, 4, 6, 3), weights, num_classes)


def resnet50(weights: Weights = None, num_classes: int = 1000) -> ResNet:
    """Of 50 layers; weights: a file that load_weights reads."""
    return _resnet(Bottleneck, (3, 4, 6, 3), weights, num_classes)


def resnet101(weights: Weights = None, num_classes: int = 1000) -> ResNet:
    """Of 101 layers; weights: a file that load_weights reads."""
    return _resnet(Bottleneck, (3, 4, 23, 3), weights, num_classes)


def resnet152(weights: Weights = None, num_classes: int = 1000) -> ResNet:
    """Of 152 layers; weights: a file that load_weights reads."""
    return _resnet(Bottleneck, (3, 8, 36, 3), weights, num_classes)
