"""EfficientNet-Lite: depthwise convolutions between 1x1 ones, for small machines (Tan and Le 2019,
arXiv 1905.11946; the Lite variants of 2020 have ReLU6 and no squeeze-and-excitation).

    model = EfficientNetLite(0, "efficientnet-lite0.pth").eval()
    logits = model((pixels - 127) / 128)         # pixels are (n, 3, 224, 224), 0 to 255

Attributes have the names of the files that were converted from TensorFlow to PyTorch. As there,
padding is TensorFlow's: "same", and the odd row or column after the image.
"""

from __future__ import annotations

import math
import os

from wengert import Tensor, nn

from .weights import load_weights

__all__ = ["EfficientNetLite"]

# Of Lite 0: blocks, kernel size, stride, expansion, channels.
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
# Of Lite 0 to 4: how much wider and deeper, the images' size, dropout.
VARIANTS = (
    (1.0, 1.0, 224, 0.2),
    (1.0, 1.1, 240, 0.2),
    (1.1, 1.2, 260, 0.3),
    (1.2, 1.4, 280, 0.3),
    (1.4, 1.8, 300, 0.3),
)


class SameConv2d(nn.Conv2d):
    """A convolution without bias that gives H / stride by W / stride places, rounded up."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1
    ) -> None:
        """As Conv2d."""
        super().__init__(inputs, outputs, kernel, stride, groups=groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs, H, W) to (n, outputs, H / stride, W / stride)."""
        pairs = []  # before and after each axis
        for size, k, s in zip(x.shape[2:], self.kernel_size, self.stride, strict=True):
            total = max((-(-size // s) - 1) * s + k - size, 0)
            pairs.append((total // 2, total - total // 2))
        y: Tensor = nn.functional.conv2d(
            x, self.weight, self.bias, self.stride, pairs, self.dilation, self.groups
        )
        return y


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


class MBConv(nn.Module):
    """1x1 to `expansion` times the channels, depthwise, 1x1 to the outputs; x is added where sizes
    allow it."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        """See the class."""
        wide = inputs * expansion
        self.adds = stride == 1 and inputs == outputs
        if expansion != 1:
            self._expand_conv, self._bn0 = SameConv2d(inputs, wide, 1), _norm(wide)
        self.expands = expansion != 1
        self._depthwise_conv = SameConv2d(wide, wide, kernel, stride, groups=wide)
        self._bn1 = _norm(wide)
        self._project_conv, self._bn2 = SameConv2d(wide, outputs, 1), _norm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs, H, W) to (n, outputs, H / stride, W / stride)."""
        h: Tensor = nn.functional.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        h = nn.functional.relu6(self._bn1(self._depthwise_conv(h)))
        h = self._bn2(self._project_conv(h))
        return x + h if self.adds else h


class EfficientNetLite(nn.Module):
    """A convolution, seven stages of MBConv blocks, a 1x1 convolution, the mean, and a Linear."""

    def __init__(
        self,
        variant: int = 0,
        weights: str | os.PathLike[str] | None = None,
        num_classes: int = 1000,
    ) -> None:
        """variant: 0 to 4; weights: a file that load_weights reads. `size` is the images' H and W
        in training."""
        if variant not in range(len(VARIANTS)):
            raise ValueError(f"EfficientNetLite: there is no variant {variant!r}; expected 0 to 4")
        width, depth, self.size, dropout = VARIANTS[variant]
        self._conv_stem, self._bn0 = SameConv2d(3, 32, 3, stride=2), _norm(32)
        blocks, inputs = [], 32
        for at, (count, kernel, stride, expansion, channels) in enumerate(STAGES):
            outputs = _rounded(channels * width)
            ends = at in (0, len(STAGES) - 1)  # they stay as deep as they are
            for i in range(count if ends else math.ceil(count * depth)):
                blocks.append(MBConv(inputs, outputs, kernel, 1 if i else stride, expansion))
                inputs = outputs
        self._blocks = nn.ModuleList(blocks)
        self._conv_head, self._bn1 = SameConv2d(inputs, 1280, 1), _norm(1280)
        self._relu = nn.ReLU6()
        self._dropout = nn.Dropout(dropout)
        self._fc = nn.Linear(1280, num_classes)
        if weights is not None:
            load_weights(self, weights)

    def forward(self, x: Tensor) -> Tensor:
        """(n, 3, H, W) to (n, num_classes)."""
        x = nn.functional.relu6(self._bn0(self._conv_stem(x)))
        for block in self._blocks:
            x = block(x)
        x = self._relu(self._bn1(self._conv_head(x)))
        y: Tensor = self._fc(self._dropout(x.mean((2, 3))))
        return y


def _rounded(channels: float) -> int:
    """To a multiple of 8, and no less than nine tenths."""
    near = max(8, int(channels + 4) // 8 * 8)
    return near + 8 if near < 0.9 * channels else near
