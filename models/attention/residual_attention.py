from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from ..catalogue import Site, mechanism
from ..recording import record

SMALLEST = 4  # height and width of the smallest map of the network, in cells


@mechanism(
    "residual_attention",
    title="Residual Attention",
    family="hybrid",
    slot="stage",
    sites=("stage1", "stage2", "stage3"),
    paper="Wang et al., Residual Attention Network for Image Classification, CVPR 2017, "
    "https://arxiv.org/abs/1704.06904",
)
class ResidualAttention(nn.Module):
    r"""Paints a soft stencil with a small hourglass network and amplifies the features seen through it.

    $$y = \mathrm{relu}\big(\mathrm{bn}\big(U((1 + M)\,T)\big)\big), \quad T = U(U(t)), \quad
    t = U(x)$$
    $$M = \sigma\big(W_2\,\mathrm{relu}(\mathrm{bn}(W_1\,\mathrm{relu}(\mathrm{bn}(m))))\big), \quad
    m = \mathrm{hourglass}(t)$$

    The trunk T computes features in two residual units U (each U has weights of its own). Beside it an
    hourglass shrinks the map step by step, so that it sees the whole picture, and enlarges it again,
    adding at each size what it held there on the way down. Its outcome is a mask for every channel and
    cell. The 1 in 1 + M lets it amplify, up to double, but never erase.

    **What to look for.** The masks differ from channel to channel: look for some that amplify the object
    and others that amplify the background. Bright (1) is doubled, dark (0) is left as it is.

    **Shapes.** (B, C, H, W) to the same; `soft_mask` (B, C, H, W), between 0 and 1. The hourglass goes
    down to 4x4 cells, the smallest map of the network: three, two and one levels after the stages 1, 2
    and 3. As in the authors' network the pooling has no padding, so that the window at the right and
    the lower edge is cut off; the last enlargement adds nothing; "softmax" in their names is a sigmoid;
    and a BatchNorm and a ReLU stand right behind the module. So the next stage gets a map that is not
    negative.
    """

    def __init__(self, channels: int, depth: int = 1):
        super().__init__()
        self.before = Unit(channels)
        self.trunk = nn.Sequential(Unit(channels), Unit(channels))
        self.down = nn.ModuleList(Unit(channels) for _ in range(depth))
        self.deepest = Unit(channels)
        self.skip = nn.ModuleList(Unit(channels) for _ in range(depth - 1))
        self.up = nn.ModuleList(Unit(channels) for _ in range(depth - 1))
        self.mask = nn.Sequential(
            *norm_relu_conv(channels, channels, 1), *norm_relu_conv(channels, channels, 1)
        )
        self.after = Unit(channels)
        self.bn = nn.BatchNorm2d(channels)

    @classmethod
    def at(cls, site: Site) -> ResidualAttention:
        return cls(site.channels, depth=(site.size // SMALLEST).bit_length() - 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.before(x)
        trunk = self.trunk(x)
        mask = torch.sigmoid(self.mask(self.hourglass(x)))
        # The mask itself, not the 1 + M of the next line: at 0 it leaves the trunk as it is.
        mask = record(self, "soft_mask", mask, "b c h w", role="gate")
        return torch.relu(self.bn(self.after((1 + mask) * trunk)))

    def hourglass(self, x: torch.Tensor) -> torch.Tensor:
        size, skips = x.shape[2:], []
        for unit in self.down:
            x = unit(F.max_pool2d(x, 3, stride=2, ceil_mode=True))  # (B, C, H/2, W/2), then H/4, ...
            skips.append(x)
        x = self.deepest(x)
        for unit, skip, held in reversed(list(zip(self.up, self.skip, skips))):  # not at the deepest level
            x = unit(enlarge(x, held.shape[2:]) + skip(held))
        return enlarge(x, size)


class Unit(nn.Module):
    """x + f(x), f a bottleneck with norm and activation first: (B, C, H, W) to the same."""

    def __init__(self, channels: int):
        super().__init__()
        inner = channels // 4
        self.residual = nn.Sequential(
            *norm_relu_conv(channels, inner, 1),
            *norm_relu_conv(inner, inner, 3),
            *norm_relu_conv(inner, channels, 1),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.residual(x)


def norm_relu_conv(channels_in: int, channels: int, kernel_size: int) -> tuple[nn.Module, ...]:
    conv = nn.Conv2d(channels_in, channels, kernel_size, padding=kernel_size // 2, bias=False)
    return nn.BatchNorm2d(channels_in), nn.ReLU(), conv


def enlarge(x: torch.Tensor, size: torch.Size) -> torch.Tensor:
    return F.interpolate(x, size, mode="bilinear", align_corners=True)
