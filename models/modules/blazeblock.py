import torch
import torch.nn.functional as F
from torch import nn

from ..catalogue import mechanism


@mechanism(
    "blazeblock",
    title="BlazeBlock",
    family="module",
    slot="block",
    paper="Bazarevsky et al., BlazeFace: Sub-millisecond Neural Face Detection on Mobile GPUs, CVPR "
    "Workshops 2019, https://arxiv.org/abs/1907.05047",
)
class BlazeBlock(nn.Module):
    r"""Builds a residual block from 5x5 filters of one channel each and 1x1 mixers, made for phones.

    $$F(x) = P_2\,(D_2 *_{5\times5} \mathrm{relu}(P_1\,(D_1 *_{5\times5} x))), \quad
    y = \mathrm{relu}(F(x) + \mathrm{skip}(x))$$

    In a depthwise convolution the window is cheap and the mixing of channels is dear. So the window may
    as well be 5x5 instead of 3x3: the network sees far with fewer layers. The shortcut has no weights at
    all: where the map shrinks it keeps the largest of four cells, and missing channels are filled with
    zeros.

    **What to look for.** Nothing of its own to see: compare accuracy, parameters and Grad-CAM with the
    plain network, which has eight times as many weights.

    **Shapes.** (B, C_in, H, W) to (B, C, H/stride, W/stride), not negative. Each filter and mixer is
    followed by a BatchNorm, left out of the formula. This is the paper's double block, with `narrow`
    channels in the middle, here as many as at the end; `double=False` is the single one, D and P once.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        stride: int = 1,
        kernel_size: int = 5,
        narrow: int | None = None,
        double: bool = True,
    ):
        super().__init__()
        if channels_out < channels_in:
            raise ValueError(f"{channels_in} channels cannot be padded to {channels_out}")
        self.stride, self.missing = stride, channels_out - channels_in
        middle = (narrow or channels_out) if double else channels_out
        layers = separable(channels_in, middle, kernel_size, stride)
        if double:
            layers += [nn.ReLU(), *separable(middle, channels_out, kernel_size)]
        self.residual = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skip = F.max_pool2d(x, self.stride, ceil_mode=True) if self.stride > 1 else x
        skip = F.pad(skip, (0, 0, 0, 0, 0, self.missing))  # (B, C, H/stride, W/stride)
        return torch.relu(self.residual(x) + skip)


def separable(channels_in: int, channels: int, kernel_size: int, stride: int = 1) -> list[nn.Module]:
    return [
        nn.Conv2d(
            channels_in,
            channels_in,
            kernel_size,
            stride,
            padding=kernel_size // 2,
            groups=channels_in,
            bias=False,
        ),
        nn.BatchNorm2d(channels_in),
        nn.Conv2d(channels_in, channels, 1, bias=False),
        nn.BatchNorm2d(channels),
    ]
