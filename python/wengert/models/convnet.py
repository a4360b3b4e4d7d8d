"""ConvNet: a small residual network for small images, read top to bottom.

    model = ConvNet(channels=1, classes=10)
    logits = model(x)                          # x is (n, channels, H, W)

Blocks are those of He, Zhang, Ren and Sun 2016 (arXiv 1603.05027): each norm and activation stands
before its convolution, so that the sum of all blocks goes straight through.
"""

from __future__ import annotations

from collections.abc import Sequence

import wengert as wg
from wengert import Tensor, nn

__all__ = ["ConvNet"]


class Block(nn.Module):
    """x + conv(relu(norm(conv(relu(norm(x)))))); with other sizes, x passes a 1x1 convolution."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        """stride: of the first convolution, and of the one beside it."""
        self.norm1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.beside = None
        if stride != 1 or inputs != outputs:
            self.beside = nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs, H, W) to (n, outputs, H / stride, W / stride)."""
        h = wg.relu(self.norm1(x))
        x = x if self.beside is None else self.beside(h)
        h = self.conv1(h)
        h = self.conv2(wg.relu(self.norm2(h)))
        y: Tensor = x + h
        return y


class ConvNet(nn.Module):
    """A convolution, three stages of blocks, the mean over all places, and a Linear.

    width   channels of the first stage; the next two have twice and four times as many, at a half
            and a quarter of the size.
    depth   blocks in each stage: one number, or three.
    """

    def __init__(
        self,
        channels: int = 1,
        classes: int = 10,
        width: int = 32,
        depth: int | Sequence[int] = 1,
    ) -> None:
        """See the class."""
        self.stem = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        blocks, inputs = [], width
        for stage, count in enumerate([depth] * 3 if isinstance(depth, int) else depth):
            for i in range(count):
                outputs = width << stage
                blocks.append(Block(inputs, outputs, stride=2 if stage and not i else 1))
                inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.BatchNorm2d(inputs)
        self.head = nn.Linear(inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels, H, W) to (n, classes)."""
        x = self.blocks(self.stem(x))
        x = wg.relu(self.norm(x)).mean((2, 3))
        y: Tensor = self.head(x)
        return y
