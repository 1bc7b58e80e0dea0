import torch
import torch.nn.functional as F
from torch import nn

from ..catalogue import mechanism
from ..recording import record


@mechanism(
    "psp",
    title="Pyramid pooling",
    family="module",
    slot="stage",
    sites=("stage3",),
    paper="Zhao et al., Pyramid Scene Parsing Network, CVPR 2017, https://arxiv.org/abs/1612.01105",
)
class PyramidPooling(nn.Module):
    r"""Pastes averages over the whole map and over the fields of three finer grids next to every cell.

    $$y = \mathrm{cbr}_{1\times1}[x;\ u_1;\ u_2;\ u_3;\ u_6], \quad
    u_n = \mathrm{up}\,\mathrm{cbr}_{1\times1}\,\mathrm{pool}_{n\times n}\,x, \quad
    \mathrm{cbr} = \mathrm{relu} \circ \mathrm{bn} \circ \mathrm{conv}$$

    A grid is laid over the map, and each of its fields is averaged: once there is a single field, then
    there are 2x2, 3x3 and 6x6. The summaries are enlarged to the size of the map again and set behind
    its channels. So each cell knows what it sees itself, what its neighbourhood holds, and what kind of
    scene it is part of.

    **What to look for.** The four grids, as mosaics. How much of the difference between two pictures is
    left in the coarse ones? They are averages of what comes in; what the network makes of them is not
    shown here.

    **Shapes.** (B, C, H, W) to the same, not negative; `grid_1`, `grid_2`, `grid_3`, `grid_6` (B, C,
    n^2): the average of each field, row by row. The fields overlap where the sides do not divide: on 8x8
    cells those of 3x3 and 6x6 do. Each u_n has C/4 channels; enlarging keeps the corners in place, as in
    the authors' code. They go on with 2C channels; the convolution back to C is our fit to a classifier.
    """

    def __init__(self, channels: int, bins: tuple[int, ...] = (1, 2, 3, 6)):
        super().__init__()
        self.bins = bins
        width = channels // len(bins)
        self.branches = nn.ModuleList(conv_bn_relu(channels, width) for _ in bins)
        self.fuse = conv_bn_relu(channels + width * len(bins), channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fuse(self.pyramid(x))

    def pyramid(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) -> (B, 2C, H, W): the map, and behind it its summaries."""
        summaries = [x]
        for n, branch in zip(self.bins, self.branches):
            grid = F.adaptive_avg_pool2d(x, n).flatten(2)
            grid = record(self, f"grid_{n}", grid, "b c k", role="features")
            summary = branch(grid.unflatten(2, (n, n)))  # (B, C/4, n, n)
            summaries.append(F.interpolate(summary, x.shape[2:], mode="bilinear", align_corners=True))
        return torch.cat(summaries, dim=1)


def conv_bn_relu(channels_in: int, channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels_in, channels, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU())
